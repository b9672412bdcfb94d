"""A serial device that is read and written without waiting, and frames on it: 0xA5, kind, length, payload, CRC-16."""

import contextlib
import struct
from typing import Any

from robot.core.errors import DriverError
from robot.core.optional import require

START = 0xA5
LONGEST = 64
"""Payloads of frames are no longer [bytes]."""
WAITING = 65536
"""Bytes that may wait to be understood; more are noise."""


class Serial:
    """A port in raw mode; OSError and its kin become DriverErrors in a line."""

    def __init__(self, device: str, baud: int, what: str) -> None:
        """what: the driver's name, for its errors.

        Raises:
            DriverError: no such device, no right to it, or somebody else has it.
        """
        self.device, self.what = device, what
        serial = require("serial", "drivers")
        try:
            self.port: Any = serial.Serial(device, baud, timeout=0, write_timeout=0, exclusive=True)
        except (OSError, ValueError) as error:
            raise DriverError(f"{what}: '{device}' cannot be opened: {reason(error)}") from error
        self.broken = (OSError, serial.SerialException)

    def read(self) -> bytes:
        """All that has come."""
        try:
            return self.port.read(self.port.in_waiting or 1)
        except (*self.broken, TypeError) as error:
            raise DriverError(f"{self.what}: '{self.device}' broke: {reason(error)}; is it still plugged in?") from error

    def write(self, data: bytes) -> None:
        """Send; what the device does not take at once is lost, as on a wire."""
        try:
            self.port.write(data)
        except (*self.broken, TypeError) as error:
            if "timeout" not in str(error).lower():
                raise DriverError(f"{self.what}: '{self.device}' broke: {reason(error)}; is it still plugged in?") from error

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.port.close()


def reason(error: Exception) -> str:
    """Why a device cannot be had, with what to do."""
    text = str(error)
    number = getattr(error, "errno", None)
    if number == 2 or "No such file" in text:
        return "there is no such device; is it plugged in? ls /dev/serial/by-id lists what is"
    if number == 13 or "Permission denied" in text:
        return "permission denied; be in its group: sudo usermod -aG dialout $USER, then log in again"
    if number in (11, 16) or "lock" in text:
        return "somebody else has it open; end that first"
    return text.splitlines()[0] if text else type(error).__name__


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE: polynomial 0x1021, start 0xFFFF; of b"123456789" it is 0x29B1."""
    value = 0xFFFF
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x1021 if value & 0x8000 else value << 1) & 0xFFFF
    return value


def frame(kind: int, payload: bytes) -> bytes:
    """One frame."""
    body = struct.pack("<BB", kind, len(payload)) + payload
    return bytes([START]) + body + struct.pack("<H", crc16(body))


class Frames:
    """Finds whole frames in a stream; what is damaged is counted and skipped."""

    def __init__(self) -> None:
        self.buffer, self.damaged = bytearray(), 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """(kind, payload) of each frame that is complete now."""
        self.buffer += data
        del self.buffer[:-WAITING]
        found = []
        while (start := self.buffer.find(START)) >= 0:
            del self.buffer[:start]
            if len(self.buffer) < 3 or len(self.buffer) < 5 + min(self.buffer[2], LONGEST):
                return found
            size = self.buffer[2]
            body = bytes(self.buffer[1 : 3 + size])
            if size > LONGEST or struct.unpack("<H", self.buffer[3 + size : 5 + size])[0] != crc16(body):
                self.damaged += 1
                del self.buffer[:1]
                continue
            found.append((body[0], body[2:]))
            del self.buffer[: 5 + size]
        self.buffer.clear()
        return found
