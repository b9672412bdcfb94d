"""A CAN bus on loopback for programs on this machine, by the protocol of socketcand: text over TCP, which python-can speaks.

What one of them sends, all others hear, and so does the device that has made the bus.
"""

import contextlib
import socket
import time

WAITING = 4096
"""Bytes of a request that may wait for their end; more are noise."""
QUIET = 0.1
"""After a program has come in, for python-can takes a frame right behind the answer for a refusal [s]."""


class Socketcand:
    """Never waits; `port` is where it listens."""

    def __init__(self, port: int) -> None:
        """port: on loopback, 0 for any that is free."""
        self.server = socket.create_server(("127.0.0.1", port))
        self.server.setblocking(False)
        self.port: int = self.server.getsockname()[1]
        self.clients: dict[socket.socket, bytes] = {}
        self.raw: dict[socket.socket, float] = {}

    def receive(self) -> list[tuple[int, bytes]]:
        """Identifier and data of each frame that has been sent since."""
        with contextlib.suppress(OSError):  # nobody more, or it is closed
            while True:
                client, _ = self.server.accept()
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.clients[client] = b""
                self._say(client, "< hi >")
        found = []
        for client in list(self.clients):
            for request in self._requests(client):
                frame = self._obey(client, request)
                if frame is not None:
                    found.append(frame)
                    self.send(*frame, sender=client)
        return found

    def send(self, number: int, data: bytes, sender: socket.socket | None = None) -> None:
        """A frame to everyone but its sender."""
        now = time.monotonic()
        for client in [client for client, since in self.raw.items() if client is not sender and now > since]:
            self._say(client, f"< frame {number:03X} {time.time():.6f} {data.hex()} >")

    def close(self) -> None:
        """Unplug everyone."""
        for client in list(self.clients):
            self._drop(client)
        self.server.close()

    def _requests(self, client: socket.socket) -> list[list[str]]:
        """Words of each request that is complete."""
        try:
            data = client.recv(65536)
        except BlockingIOError:
            return []
        except ConnectionError:
            data = b""
        if not data:
            self._drop(client)
            return []
        *whole, rest = (self.clients[client] + data).split(b">")
        self.clients[client] = rest[-WAITING:]
        return [part.decode("ascii", "replace").strip(" <").split() for part in whole]

    def _obey(self, client: socket.socket, request: list[str]) -> tuple[int, bytes] | None:
        if request[:1] in (["open"], ["rawmode"]):
            if request[0] == "rawmode":
                self.raw[client] = time.monotonic() + QUIET
            self._say(client, "< ok >")
        elif request[:1] == ["send"] and client in self.raw:
            with contextlib.suppress(ValueError, IndexError):
                number, data = int(request[1], 16), bytes(int(byte, 16) for byte in request[3:])
                if 0 <= number <= 0x7FF and len(data) == int(request[2], 16) <= 8:
                    return number, data
            self._say(client, "< error could not understand that frame >")
        return None

    def _say(self, client: socket.socket, text: str) -> None:
        """A program that does not listen any more is unplugged."""
        data = text.encode()
        try:
            told = client.send(data) == len(data)
        except OSError:
            told = False
        if not told:
            self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self.raw.pop(client, None)
        self.clients.pop(client, None)
        client.close()
