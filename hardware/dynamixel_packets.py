"""Packets of Dynamixel protocol 2.0. The maker's own kit waits for answers in a busy loop, which would hold up a servo loop."""

import struct
from dataclasses import dataclass

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
PING, READ, WRITE, REBOOT, STATUS = 0x01, 0x02, 0x03, 0x08, 0x55
SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x82, 0x83, 0x8A
LONGEST = 1024
"""Packets are no longer [bytes]."""
WAITING = 16384
"""Bytes that may wait to be understood; more are noise."""


def _table() -> tuple[int, ...]:
    """CRC-16 of the protocol, polynomial 0x8005, not reflected, start 0: by byte."""
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
        table.append(value)
    return tuple(table)


TABLE = _table()


def crc(data: bytes) -> int:
    """Of everything from the header on."""
    value = 0
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ TABLE[(value >> 8 ^ byte) & 0xFF]
    return value


def packet(number: int, instruction: int, parameters: bytes = b"") -> bytes:
    """To servo `number`; what looks like a header in it is stuffed."""
    body = (bytes([instruction]) + parameters).replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    head = HEADER + struct.pack("<BH", number, len(body) + 2) + body
    return head + struct.pack("<H", crc(head))


def write(number: int, address: int, data: bytes) -> bytes:
    return packet(number, WRITE, struct.pack("<H", address) + data)


def read(number: int, address: int, count: int) -> bytes:
    return packet(number, READ, struct.pack("<HH", address, count))


def sync_read(numbers: list[int], address: int, count: int) -> bytes:
    return packet(BROADCAST, SYNC_READ, struct.pack("<HH", address, count) + bytes(numbers))


def sync_write(address: int, data: dict[int, bytes]) -> bytes:
    """Of equally many bytes to each servo; nobody answers."""
    count = len(next(iter(data.values())))
    return packet(BROADCAST, SYNC_WRITE, struct.pack("<HH", address, count) + b"".join(bytes([n]) + d for n, d in data.items()))


@dataclass(frozen=True)
class Packet:
    """That came: from or to which servo, what it is, what it holds; a status holds its error byte first."""

    number: int
    instruction: int
    parameters: bytes

    @property
    def error(self) -> int:
        """Of a status: 0x80 says that the hardware has an alert, the rest what was wrong with the instruction."""
        return self.parameters[0] if self.parameters else 0


class Packets:
    """Finds whole packets in a stream; damaged ones are counted and skipped."""

    def __init__(self) -> None:
        self.buffer, self.damaged = bytearray(), 0

    def feed(self, data: bytes) -> list[Packet]:
        """Those that are complete now."""
        self.buffer += data
        del self.buffer[:-WAITING]
        found = []
        while True:
            start = self.buffer.find(HEADER)
            if start < 0:
                del self.buffer[: max(len(self.buffer) - 3, 0)]  # a header may have begun
                return found
            del self.buffer[:start]
            if len(self.buffer) < 7:
                return found
            number, length = struct.unpack("<BH", self.buffer[4:7])
            if not 3 <= length <= LONGEST:
                self._skip()
            elif len(self.buffer) < 7 + length:
                return found
            else:
                found += self._take(number, 7 + length)

    def _take(self, number: int, size: int) -> list[Packet]:
        whole = bytes(self.buffer[:size])
        if struct.unpack("<H", whole[-2:])[0] != crc(whole[:-2]):
            self._skip()
            return []
        del self.buffer[:size]
        body = whole[7:-2].replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
        return [Packet(number, body[0], body[1:])]

    def _skip(self) -> None:
        self.damaged += 1
        del self.buffer[: len(HEADER)]
