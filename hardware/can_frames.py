"""Frames of a DBC with a rolling counter and a checksum, as drive-by-wire has them: what is missing or damaged is noticed."""

from pathlib import Path
from typing import Any

from robot.core.errors import ConfigError
from robot.core.optional import require


def crc8(number: int, data: bytes) -> int:
    """CRC-8 SAE J1850 (polynomial 0x1D, start and end inverted) of the identifier's two bytes and the data; of b"123456789" alone
    it is 0x4B."""
    value = 0xFF
    for byte in (number & 0xFF, number >> 8, *data) if number >= 0 else data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x1D if value & 0x80 else value << 1) & 0xFF
    return value ^ 0xFF


class Codec:
    """Packs and unpacks; the counters of both directions are its only state."""

    def __init__(self, dbc: Path) -> None:
        """ConfigError: no such file, or it is no DBC."""
        cantools = require("cantools", "drivers")
        try:
            self.known: Any = cantools.database.load_file(str(dbc))
        except (OSError, cantools.Error, cantools.database.UnsupportedDatabaseFormatError) as error:
            raise ConfigError(f"driver: '{dbc}' is no readable DBC: {str(error).splitlines()[0][:200]}") from error
        self.sent: dict[int, int] = {}
        self.heard: dict[int, int] = {}
        self.damaged = 0

    def pack(self, name: str, values: dict[str, float]) -> tuple[int, bytes]:
        """Identifier and data of a message, its counter one up."""
        message = self.known.get_message_by_name(name)
        number = message.frame_id
        self.sent[number] = (self.sent.get(number, -1) + 1) % 16
        data = bytearray(message.encode({**values, "COUNTER": self.sent[number], "CHECKSUM": 0}))
        data[-1] = crc8(number, bytes(data[:-1]))
        return number, bytes(data)

    def unpack(self, number: int, data: bytes) -> tuple[str, dict[str, float]] | None:
        """Name and values, None for what is unknown, damaged, or has come before."""
        try:
            message = self.known.get_message_by_frame_id(number)
        except KeyError:
            return None
        if len(data) != message.length or data[-1] != crc8(number, data[:-1]):
            self.damaged += 1
            return None
        values = message.decode(data, decode_choices=False)
        counter = int(values["COUNTER"])
        if self.heard.get(number) == counter:  # a repeated frame says nothing new
            self.damaged += 1
            return None
        self.heard[number] = counter
        return message.name, values
