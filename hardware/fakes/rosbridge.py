"""A rosbridge server (protocol v2) without ROS: topics between whoever connects, for tests and demos on one computer.

    python -m hardware.fakes.rosbridge port=9090

advertise, unadvertise, publish, subscribe (throttle_rate, queue_length, fragment_size), unsubscribe, fragment, call_service of
/rosapi/topics, set_level; what it cannot read is answered with a status. The last message of a latched topic is kept.
"""

import contextlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from hardware.fakes.keys import keys
from hardware.ros.plain import parse
from robot.core.errors import MessageError
from robot.core.optional import require

KEYS = {"port": 9090, "limit": 1 << 24}


@dataclass
class Client:
    """One who has connected."""

    link: Any
    topics: dict[str, dict[str, Any]] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    parts: dict[str, dict[int, str]] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def send(self, operation: dict[str, Any], size: int = 0) -> None:
        """Whole, or in fragments of `size` characters."""
        text = json.dumps(operation)
        pieces = [text[k : k + size] for k in range(0, len(text), size)] if 0 < size < len(text) else []
        with self.lock, contextlib.suppress(Exception):
            if not pieces:
                self.link.send(text)
            for number, piece in enumerate(pieces):
                part = {"op": "fragment", "id": str(id(text)), "data": piece, "num": number, "total": len(pieces)}
                self.link.send(json.dumps(part))


class Server:
    """Listens on loopback alone; `with Server(0) as server: server.url`."""

    def __init__(self, port: int, limit: int = 1 << 24) -> None:
        self.limit = limit
        self.clients: list[Client] = []
        self.kinds: dict[str, str] = {}
        self.latched: dict[str, Any] = {}
        self.seen = {"operations": 0, "published": 0, "refused": 0}
        serve = require("websockets.sync.server", "ros").serve
        self.server = serve(self._serve, "127.0.0.1", port, max_size=limit, compression=None)
        self.port = self.server.socket.getsockname()[1]
        self.url = f"ws://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "Server":
        self.thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.shutdown()
        for client in list(self.clients):
            with contextlib.suppress(Exception):
                client.link.close()
        self.thread.join()

    def _serve(self, link: Any) -> None:
        client = Client(link)
        self.clients.append(client)
        try:
            for text in link:
                self._take(client, text)
        except Exception:  # whoever went away
            return
        finally:
            self.clients.remove(client)

    def _take(self, client: Client, text: Any) -> None:
        self.seen["operations"] += 1
        try:
            operation = parse(text, self.limit)
            if operation.get("op") == "fragment":
                whole = self._gather(client, operation)
                if whole is None:
                    return
                operation = parse(whole, self.limit)
            self._obey(client, operation)
        except (MessageError, KeyError, TypeError, ValueError) as error:
            self.seen["refused"] += 1
            client.send({"op": "status", "level": "error", "msg": str(error)[:200]})

    def _gather(self, client: Client, part: dict[str, Any]) -> str | None:
        known = client.parts.setdefault(str(part["id"]), {})
        known[int(part["num"])] = str(part["data"])
        if len(known) < int(part["total"]):
            return None
        del client.parts[str(part["id"])]
        return "".join(known[k] for k in sorted(known))

    def _obey(self, client: Client, operation: dict[str, Any]) -> None:
        kind, topic = str(operation["op"]), str(operation.get("topic", ""))
        if kind == "advertise":
            self.kinds[topic] = str(operation["type"])
            if operation.get("latch"):
                self.latched.setdefault(topic, None)
        elif kind == "publish":
            self._publish(topic, operation["msg"])
        elif kind == "subscribe":
            client.topics[topic] = operation
            if self.latched.get(topic) is not None:
                self._pass(client, topic, self.latched[topic])
        elif kind in ("unsubscribe", "unadvertise"):
            (client.topics if kind == "unsubscribe" else self.kinds).pop(topic, None)
        elif kind == "call_service":
            known = operation["service"] == "/rosapi/topics"
            values = {"topics": list(self.kinds), "types": list(self.kinds.values())} if known else {}
            answer = {"op": "service_response", "service": operation["service"], "id": operation.get("id"), "values": values}
            client.send(answer | {"result": known})
        elif kind != "set_level":
            raise ValueError(f"unknown operation '{kind[:40]}'")

    def _publish(self, topic: str, message: Any) -> None:
        self.seen["published"] += 1
        if topic in self.latched:
            self.latched[topic] = message
        for client in list(self.clients):
            if topic in client.topics:
                self._pass(client, topic, message)

    def _pass(self, client: Client, topic: str, message: Any) -> None:
        wanted, now = client.topics[topic], time.monotonic()
        if now - client.last.get(topic, 0.0) >= float(wanted.get("throttle_rate") or 0) / 1e3:
            client.last[topic] = now
            client.send({"op": "publish", "topic": topic, "msg": message}, int(wanted.get("fragment_size") or 0))


def main() -> None:
    """Serve until a signal comes."""
    from hardware.fakes.device import serve

    given = keys(KEYS)
    with Server(given["port"], given["limit"]) as server:
        serve(lambda: None, 0.1, server.url, lambda: server.seen)


if __name__ == "__main__":
    main()
