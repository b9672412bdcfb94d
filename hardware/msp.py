"""Frames of the MultiWii serial protocol, versions 1 and 2, as Betaflight speaks it."""

import struct
from dataclasses import dataclass

REQUEST, REPLY, REFUSAL = b"<", b">", b"!"
LONGEST = 512
"""Payloads are no longer [bytes]."""
WAITING = 16384
"""Bytes that may wait to be understood; more are noise."""


def crc8(data: bytes) -> int:
    """CRC-8 DVB-S2, polynomial 0xD5: of b"123456789" it is 0xBC."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0xD5 if value & 0x80 else value << 1) & 0xFF
    return value


def xor(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
    return value


def frame(function: int, payload: bytes = b"", kind: bytes = REQUEST, version: int = 2) -> bytes:
    """One frame; version 1 knows functions up to 254 and payloads up to 254 bytes."""
    if version == 1:
        body = struct.pack("<BB", len(payload), function) + payload
        return b"$M" + kind + body + bytes([xor(body)])
    body = struct.pack("<BHH", 0, function, len(payload)) + payload
    return b"$X" + kind + body + bytes([crc8(body)])


@dataclass(frozen=True)
class Frame:
    function: int
    payload: bytes
    kind: bytes
    version: int


class Frames:
    """Finds whole frames of either version in a stream; damaged ones are counted and skipped."""

    def __init__(self) -> None:
        self.buffer, self.damaged = bytearray(), 0

    def feed(self, data: bytes) -> list[Frame]:
        """Those that are complete now."""
        self.buffer += data
        del self.buffer[:-WAITING]
        found: list[Frame] = []
        while (start := self.buffer.find(b"$")) >= 0:
            del self.buffer[:start]
            size = self._size()
            if size < 0:
                self.damaged += size == -2
                del self.buffer[:1]
            elif size == 0 or len(self.buffer) < size:
                return found
            elif (frame := self._parse(bytes(self.buffer[:size]))) is None:
                self.damaged += 1
                del self.buffer[:1]
            else:
                found.append(frame)
                del self.buffer[:size]
        self.buffer.clear()
        return found

    def _size(self) -> int:
        """Of the frame that begins here, 0 where that is not known yet, negative where none does."""
        head = bytes(self.buffer[:8])
        if len(head) >= 2 and head[1:2] not in (b"M", b"X"):
            return -1
        if len(head) >= 3 and head[2:3] not in (REQUEST, REPLY, REFUSAL):
            return -1
        if head[1:2] == b"M":
            return 6 + head[3] if len(head) >= 4 else 0
        if len(head) < 8:
            return 0
        length = struct.unpack("<H", head[6:8])[0]
        return 9 + length if length <= LONGEST else -2

    @staticmethod
    def _parse(whole: bytes) -> Frame | None:
        body = whole[3:-1]
        if whole[1:2] == b"M":
            return Frame(body[1], body[2:], whole[2:3], 1) if xor(body) == whole[-1] else None
        function = struct.unpack("<H", body[1:3])[0]
        return Frame(function, body[5:], whole[2:3], 2) if crc8(body) == whole[-1] else None
