"""A MAVLink 2 connection: UDP of our own, serial lines and TCP by pymavlink.

pymavlink's UDP shares its port with whoever asks for it, sends to everyone it has ever heard and is silent about errors. Ours has
the port to itself and speaks with one peer: the first one that says it is an autopilot.
"""

import contextlib
import os
import socket
from typing import Any

from robot.core.errors import DriverError
from robot.core.optional import require

SYSTEM, COMPONENT = 245, 191
"""What we are in MAVLink: an onboard computer."""


def dialect() -> Any:
    """The `common` messages of MAVLink 2."""
    os.environ["MAVLINK20"] = "1"
    return require("pymavlink.dialects.v20.common", "drivers")


class Udp:
    """As pymavlink's connections: `mav` sends, `recv_msg` gives the next message or None, without waiting."""

    def __init__(self, address: tuple[str, int], listen: bool) -> None:
        """address: to listen on, or to send to.

        Raises:
            OSError: the port is in use or the address is not this machine's.
        """
        common = dialect()
        self.peer = None if listen else address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind(address if listen else ("", 0))
        except OSError:
            self.socket.close()
            raise
        self.socket.setblocking(False)
        self.mav = common.MAVLink(self, srcSystem=SYSTEM, srcComponent=COMPONENT)
        self.mav.robust_parsing = True
        self.target_system = self.target_component = 1
        self._autopilot = common.MAV_COMP_ID_AUTOPILOT1
        self._waiting: list[Any] = []

    def write(self, packet: bytes) -> None:
        """Send; a peer that is not there is noticed by its silence."""
        if self.peer is not None:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self.socket.sendto(packet, self.peer)

    def recv_msg(self) -> Any:
        """The next message of the peer, or None."""
        while not self._waiting:
            try:
                data, sender = self.socket.recvfrom(4096)
            except BlockingIOError:
                return None
            except ConnectionError:
                continue
            if self.peer is not None and sender[1] != self.peer[1]:
                continue
            messages = self.mav.parse_buffer(data) or []
            if self.peer is None and any(self._introduces(message) for message in messages):
                self.peer = sender
            self._waiting = messages if self.peer is not None else []
        return self._waiting.pop(0)

    def _introduces(self, message: Any) -> bool:
        return message.get_type() == "HEARTBEAT" and message.get_srcComponent() == self._autopilot

    def close(self) -> None:
        """Free the port."""
        self.socket.close()


def connect(where: str, baud: int) -> Any:
    """A connection: udpin:<address>:<port> to be sent to, udpout:<address>:<port>, tcp:<address>:<port>, or a serial device.

    Raises:
        DriverError: it cannot be opened, and what to look at.
    """
    kind, _, rest = where.partition(":")
    try:
        if kind in ("udpin", "udpout"):
            host, _, port = rest.rpartition(":")
            return Udp((host, int(port)), kind == "udpin")
        dialect()
        mavutil = require("pymavlink.mavutil", "drivers")
        return mavutil.mavlink_connection(where, baud, source_system=SYSTEM, source_component=COMPONENT, dialect="common")
    except PermissionError as error:
        raise DriverError(f"mavlink: no permission for '{where}'; for a serial device: sudo usermod -aG dialout $USER") from error
    except (OSError, ValueError, OverflowError) as error:
        raise DriverError(
            f"mavlink: '{where}' cannot be opened ({error}); a port may be in use by another program, a device not plugged in; "
            "accepted: udpin:<address>:<port>, udpout:…, tcp:…, /dev/ttyACM0"
        ) from error
