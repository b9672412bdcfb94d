"""A CAN bus by python-can, and frames of a DBC file that a rolling counter and a checksum protect, as drive-by-wire has them.

python-can's periodic sending is not used: the kernel goes on with it while the program hangs.
"""

import contextlib
import socket
from pathlib import Path
from typing import Any

from robot.core.errors import ConfigError, DriverError
from robot.core.optional import require

POLYNOMIAL = 0x1D
"""Of CRC-8 SAE J1850: start and final exclusive-or are 0xFF."""
WIDTH = 16
"""A counter begins again after so many."""
LOST = 3
"""A counter may be so far ahead of the last one; frames between were lost."""
HANDSHAKES = 5
"""With socketcand, which python-can takes to have failed when a frame comes right behind the daemon's answer."""
MOST = 1024
"""Frames that are looked at in one go: a flooded bus must not hold the loop."""


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte << 1 ^ POLYNOMIAL if byte & 0x80 else byte << 1) & 0xFF
        found.append(byte)
    return tuple(found)


TABLE = _table()


def crc8(data: bytes) -> int:
    """CRC-8 SAE J1850; of b"123456789" it is 0x4B."""
    value = 0xFF
    for byte in data:
        value = TABLE[value ^ byte]
    return value ^ 0xFF


class Codec:
    """Frames by name, with signals COUNTER and CHECKSUM, the latter in the last byte.

    Attributes:
        refused: frames of ours that were not taken, for a checksum or a counter that is wrong.
    """

    def __init__(self, file: Path) -> None:
        """
        Raises:
            ConfigError: there is no such file, or it is no DBC.
        """
        cantools = require("cantools", "drivers")
        try:
            database = cantools.database.load_file(file)
        except Exception as error:  # its parser has many
            raise ConfigError(f"driver: '{file}' is no readable DBC file: {str(error).splitlines()[0]}") from error
        self.messages: dict[str, Any] = {message.name: message for message in database.messages}
        self.names: dict[int, str] = {message.frame_id: message.name for message in database.messages}
        self.sent: dict[str, int] = {}
        self.seen: dict[str, int] = {}
        self.refused = {"checksum": 0, "counter": 0}

    def pack(self, name: str, signals: dict[str, float]) -> tuple[int, bytes]:
        """Identifier and data; the counter is one more than that of the last of this name, unless it is given.

        Raises:
            DriverError: a value does not fit its signal.
        """
        message = self.messages[name]
        counter = (self.sent.get(name, -1) + 1) % WIDTH
        try:
            data = bytearray(message.encode({"COUNTER": counter, **signals, "CHECKSUM": 0}))
        except Exception as error:
            raise DriverError(f"can: {name} cannot carry {signals}: {str(error).splitlines()[0]}") from error
        self.sent[name] = int(signals.get("COUNTER", counter))
        data[-1] = _checksum(message.frame_id, data)
        return message.frame_id, bytes(data)

    def unpack(self, number: int, data: bytes) -> tuple[str, dict[str, Any]] | None:
        """Name and signals of a frame that is whole and newer than the last of its kind; None otherwise."""
        name = self.names.get(number)
        if name is None:
            return None
        message = self.messages[name]
        if len(data) != message.length or data[-1] != _checksum(number, data):
            self.refused["checksum"] += 1
            return None
        signals = message.decode(data, decode_choices=False)
        counter = int(signals["COUNTER"])
        step = (counter - self.seen.get(name, counter - 1)) % WIDTH
        self.seen[name] = counter  # so that a sender that jumped is heard again at its next frame
        if not 1 <= step <= LOST:
            self.refused["counter"] += 1
            return None
        return name, signals


def _checksum(number: int, data: bytes | bytearray) -> int:
    return crc8(number.to_bytes(2, "little") + bytes(data[:-1]))


class Bus:
    """python-can's bus, that never waits; its many errors become DriverErrors in a line."""

    def __init__(self, where: str, options: dict[str, Any], listen: list[int]) -> None:
        """where: <interface>:<channel>, or socketcand:<host>:<port>; options: of that interface; listen: identifiers to hear.

        Raises:
            DriverError: no such interface, it is down, no right to it, or nothing listens there.
        """
        self.can, self.where = require("can", "drivers"), where
        interface, _, channel = where.partition(":")
        if interface == "socketcand":
            host, port = _listening(where, channel)
            channel, options = "can0", {"host": host, "port": port, "tcp_tune": True, **options}
        self.listen = frozenset(listen)
        known = {"interface": interface, "channel": channel, "ignore_config": True, **options}
        if (
            interface == "socketcan"
        ):  # the kernel filters; where python-can itself does, a stranger's frame looks like no more frames
            known["can_filters"] = [{"can_id": number, "can_mask": 0x7FF, "extended": False} for number in listen]
        self.bus: Any = self._open(known, HANDSHAKES if interface == "socketcand" else 1)

    def _open(self, known: dict[str, Any], tries: int) -> Any:
        try:
            return self.can.Bus(**known)
        except (OSError, self.can.CanError, ValueError, TypeError, ImportError, NotImplementedError) as error:
            if tries > 1 and isinstance(error, self.can.CanError):
                return self._open(known, tries - 1)
            raise DriverError(f"can: '{self.where}' cannot be opened: {reason(error)}") from error

    def receive(self) -> list[tuple[int, bytes]]:
        """Identifier and data of all frames that have come and are listened to."""
        found = []
        try:
            for _ in range(MOST):
                message = self.bus.recv(0)
                if message is None:
                    break
                if message.arbitration_id in self.listen and not (message.is_error_frame or message.is_remote_frame):
                    found.append((message.arbitration_id, bytes(message.data)))
        except (OSError, self.can.CanError, ValueError) as error:
            raise DriverError(f"can: '{self.where}' broke: {reason(error)}") from error
        return found

    def send(self, number: int, data: bytes) -> None:
        """Send one frame.

        Raises:
            DriverError: the bus does not take it.
        """
        try:
            self.bus.send(self.can.Message(arbitration_id=number, data=data, is_extended_id=False), timeout=0)
        except (OSError, self.can.CanError, ValueError) as error:
            raise DriverError(f"can: '{self.where}' broke: {reason(error)}") from error

    def close(self) -> None:
        with contextlib.suppress(OSError, self.can.CanError):
            self.bus.shutdown()


def _listening(where: str, place: str) -> tuple[str, int]:
    """Host and port; looks first, for python-can knocks at a closed door for ten seconds, thousands of times a second."""
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except (OSError, ValueError, OverflowError) as error:
        raise DriverError(f"can: '{where}' cannot be opened: no socketcand listens on {place or 'nothing'} ({error})") from error
    return host, int(port)


HINTS = {
    1: "permission denied; raw CAN sockets need CAP_NET_RAW",
    13: "permission denied; raw CAN sockets need CAP_NET_RAW",
    19: "there is no such interface; ip -brief link lists what is",
    97: "this kernel has no CAN; sudo modprobe can_raw",
    100: "the interface is down; sudo ip link set <channel> up type can bitrate 500000",
    105: "nobody on the bus acknowledges frames; look at cables, termination and bitrate",
}


def reason(error: Exception) -> str:
    """Why a bus cannot be had, with what to do."""
    numbers = (getattr(error, "errno", None), getattr(error, "error_code", None), getattr(error.__cause__, "errno", None))
    for number in numbers:
        if number in HINTS:
            return HINTS[number]
    text = str(error)
    return text.splitlines()[0] if text else type(error).__name__
