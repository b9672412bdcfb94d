"""A UDP link that misbehaves on request, between a robot and its driver."""

import heapq
import itertools
import select
import socket
import threading
import time
from collections.abc import Callable

Change = Callable[[bytes], list[tuple[float, bytes]]]
"""What becomes of a packet: (delay [s], bytes) of each that goes on."""


def clean(data: bytes) -> list[tuple[float, bytes]]:
    """Goes on as it is."""
    return [(0.0, data)]


def cut(data: bytes) -> list[tuple[float, bytes]]:
    """Goes nowhere."""
    return []


class Lossy:
    """Passes packets from a robot on to a driver's port, and the driver's answers to the robot's.

    Attributes:
        down: what becomes of packets from the robot; assign another at any time.
        up: of packets to the robot.
    """

    def __init__(self, robot: int, driver: int) -> None:
        """robot, driver: their ports on loopback; `port` is where the robot has to send to."""
        self.down: Change = clean
        self.up: Change = clean
        self._to = {"down": ("127.0.0.1", driver), "up": ("127.0.0.1", robot)}
        self._in, self._out = (self._socket() for _ in range(2))  # the robot sends to the one, the driver to the other
        self.port: int = self._in.getsockname()[1]
        self._late: list[tuple[float, int, str, bytes]] = []
        self._number = itertools.count()
        self._ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Nothing passes any more."""
        self._ended = True
        self._thread.join()
        self._in.close()
        self._out.close()

    @staticmethod
    def _socket() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("127.0.0.1", 0))
        return made

    def _run(self) -> None:
        while not self._ended:
            now = time.monotonic()
            wait = max(0.0, min(0.05, self._late[0][0] - now)) if self._late else 0.05
            ready, _, _ = select.select([self._in, self._out], [], [], wait)
            for origin in ready:
                way = "down" if origin is self._in else "up"
                try:
                    data = origin.recv(65536)
                except ConnectionError:
                    continue
                for delay, packet in (self.down if way == "down" else self.up)(data):
                    heapq.heappush(self._late, (time.monotonic() + delay, next(self._number), way, packet))
            while self._late and self._late[0][0] <= time.monotonic():
                _, _, way, packet = heapq.heappop(self._late)
                (self._out if way == "down" else self._in).sendto(packet, self._to[way])
