"""A CAN bus between processes of one computer, over UDP on loopback: for tests and demos where there is no SocketCAN."""

import contextlib
import select
import socket
import struct
import time
from typing import Any

from robot.core.errors import DriverError
from robot.core.optional import require

HEAD = struct.Struct("<IB")
"""Identifier, and length of the data."""
FIRST, NODES = 29500, 8
"""A channel has so many ports, from FIRST + NODES * channel on; each node binds the first that is free."""


def _bind(channel: int) -> tuple[socket.socket, range]:
    """A socket on the first free port of a bus, and all its ports."""
    ports = range(FIRST + NODES * channel, FIRST + NODES * (channel + 1))
    found = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for port in ports:
        with contextlib.suppress(OSError):
            found.bind(("127.0.0.1", port))
            found.setblocking(False)
            return found, ports
    found.close()
    raise DriverError(f"can: all {NODES} ports from {ports[0]} of loopback bus {channel} are taken")


def bus(channel: int) -> Any:
    """A node of the bus `channel`, as python-can wants it.

    Raises:
        DriverError: all of the bus's ports are taken.
    """
    can = require("can", "drivers")

    class Loopback(can.BusABC):
        """Every node hears what the others say, in datagrams of one frame."""

        def __init__(self) -> None:
            self.socket, self.ports = _bind(channel)
            self.channel_info = f"loopback {channel}"
            super().__init__(channel=channel)

        def send(self, message: Any, timeout: float | None = None) -> None:
            data = HEAD.pack(message.arbitration_id, len(message.data)) + bytes(message.data)
            own = self.socket.getsockname()[1]
            for port in self.ports:
                if port != own:
                    with contextlib.suppress(OSError):
                        self.socket.sendto(data, ("127.0.0.1", port))

        def _recv_internal(self, timeout: float | None) -> tuple[Any, bool]:
            select.select([self.socket], [], [], timeout)
            with contextlib.suppress(OSError, struct.error):
                data = self.socket.recv(256)
                number, size = HEAD.unpack(data[: HEAD.size])
                body = data[HEAD.size :]
                if size == len(body) <= 8:
                    return can.Message(timestamp=time.time(), arbitration_id=number, data=body, is_extended_id=False), False
            return None, False

        def shutdown(self) -> None:
            super().shutdown()
            self.socket.close()

    return Loopback()
