"""A rosbridge server (protocol v2) without ROS: topics between whoever connects, for tests and demos on one computer.

    python -m hardware.fakes.rosbridge port=9090

advertise, unadvertise, publish, subscribe (throttle_rate, queue_length, fragment_size), unsubscribe, fragment, call_service of
/rosapi/topics, set_level; what it cannot read is answered with a status. The last message of a latched topic is kept. Several
subscriptions of a client to a topic count as one with the lowest throttle, the smallest fragments and the longest queue.
"""

import contextlib
import json
import threading
import time
from collections import deque
from typing import Any

from hardware.fakes.keys import keys
from hardware.ros.plain import Fragments, parse
from robot.core.errors import MessageError
from robot.core.optional import require

KEYS = {"port": 9090, "limit": 1 << 24}
KEPT = 1000
"""Messages that wait for a client that is slow and asked for no queue."""


class Feed:
    """What a client asked for of a topic, and what waits for it."""

    def __init__(self) -> None:
        self.asked: dict[str, dict[str, Any]] = {}
        self.waiting: deque[Any] = deque()
        self.last = 0.0

    def ask(self, operation: dict[str, Any]) -> None:
        for key in ("throttle_rate", "queue_length", "fragment_size"):
            if not 0 <= (operation.get(key) or 0) < 1e9:
                raise ValueError(f"{key} has to be a number of at least 0")
        self.asked[str(operation.get("id"))] = operation

    def numbers(self, key: str) -> list[float]:
        return [float(operation.get(key) or 0) for operation in self.asked.values()]

    def due(self) -> float:
        """When the next message may leave [s, monotonic]."""
        return self.last + min(self.numbers("throttle_rate")) / 1e3

    def put(self, message: Any) -> None:
        length, throttled = int(max(self.numbers("queue_length"))), min(self.numbers("throttle_rate")) > 0
        if length or not throttled or (not self.waiting and time.monotonic() >= self.due()):
            self.waiting.append(message)
        while len(self.waiting) > (length or KEPT):
            self.waiting.popleft()

    def size(self) -> int:
        """Of the fragments; 0 for whole operations."""
        return int(min((size for size in self.numbers("fragment_size") if size > 0), default=0))


class Client:
    """One who has connected. A thread sends what waits, so that nobody waits for a slow one."""

    def __init__(self, link: Any, limit: int) -> None:
        self.link, self.fragments = link, Fragments(limit)
        self.feeds: dict[str, Feed] = {}
        self.advertised: dict[str, str] = {}
        self.level, self.sent, self.gone = "error", 0, False
        self.changed = threading.Condition()
        threading.Thread(target=self._run, daemon=True).start()

    def put(self, topic: str, message: Any) -> None:
        with self.changed:
            if topic in self.feeds:
                self.feeds[topic].put(message)
                self.changed.notify()

    def leave(self) -> None:
        with self.changed:
            self.gone = True
            self.changed.notify()

    def _run(self) -> None:
        while True:
            with self.changed:
                found = self._next()
                while found is None or found[0] > time.monotonic():
                    if self.gone:
                        return
                    self.changed.wait(None if found is None else max(0.0, found[0] - time.monotonic()))
                    found = self._next()
                _, topic, feed = found
                message, feed.last, size = feed.waiting.popleft(), time.monotonic(), feed.size()
            self.send({"op": "publish", "topic": topic, "msg": message}, size)

    def _next(self) -> tuple[float, str, Feed] | None:
        """When, of which topic, for the next message that waits."""
        rows = [(feed.due(), topic, feed) for topic, feed in self.feeds.items() if feed.waiting]
        return min(rows, key=lambda row: row[0], default=None)

    def send(self, operation: dict[str, Any], size: int = 0) -> None:
        """Whole, or in fragments of `size` characters."""
        text = json.dumps(operation)
        self.sent += 1
        pieces = [text[k : k + size] for k in range(0, len(text), size)] if 0 < size < len(text) else []
        with contextlib.suppress(Exception):  # it went away
            if not pieces:
                self.link.send(text)
            for number, piece in enumerate(pieces):
                part = {"op": "fragment", "id": f"part:{self.sent}", "data": piece, "num": number, "total": len(pieces)}
                self.link.send(json.dumps(part))


class Server:
    """Listens on loopback alone; `with Server(0) as server: server.url`."""

    def __init__(self, port: int, limit: int = 1 << 24) -> None:
        self.limit = limit
        self.clients: list[Client] = []
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

    def topics(self) -> dict[str, str]:
        """Types by topic, of what somebody has advertised."""
        return {topic: kind for client in list(self.clients) for topic, kind in list(client.advertised.items())}

    def _serve(self, link: Any) -> None:
        client = Client(link, self.limit)
        self.clients.append(client)
        try:
            for text in link:
                self._take(client, text)
        except Exception:  # whoever went away
            return
        finally:
            self.clients.remove(client)
            client.leave()

    def _take(self, client: Client, text: Any) -> None:
        self.seen["operations"] += 1
        operation: dict[str, Any] = {}
        try:
            operation = parse(text, self.limit)
            if operation.get("op") == "fragment":
                whole = client.fragments.add(operation)
                if whole is None:
                    return
                operation = parse(whole, self.limit)
            self._obey(client, operation)
        except (MessageError, KeyError, TypeError, ValueError, OverflowError) as error:
            self.seen["refused"] += 1
            if client.level != "none":
                told = {"level": "error", "msg": f"{type(error).__name__}: {error}"[:200]}
                client.send({"op": "status", **told} | ({"id": operation["id"]} if "id" in operation else {}))

    def _obey(self, client: Client, operation: dict[str, Any]) -> None:
        kind, topic = str(operation["op"]), str(operation.get("topic", ""))
        if kind not in ("call_service", "set_level") and not topic.strip("/"):
            raise ValueError(f"'{kind[:40]}' is unknown, or lacks a topic")
        if kind == "advertise":
            client.advertised[topic] = str(operation["type"])
            if operation.get("latch"):
                self.latched.setdefault(topic, None)
        elif kind == "unadvertise":
            client.advertised.pop(topic, None)
        elif kind == "publish":
            self._publish(topic, operation["msg"])
        elif kind in ("subscribe", "unsubscribe"):
            self._subscribe(client, topic, operation)
        elif kind == "call_service":
            known, topics = operation["service"] == "/rosapi/topics", self.topics()
            values = {"topics": list(topics), "types": list(topics.values())} if known else {}
            answer = {"op": "service_response", "service": operation["service"], "id": operation.get("id"), "values": values}
            client.send(answer | {"result": known})
        elif kind == "set_level":
            client.level = str(operation["level"])
        else:
            raise ValueError(f"unknown operation '{kind[:40]}'")

    def _subscribe(self, client: Client, topic: str, operation: dict[str, Any]) -> None:
        with client.changed:
            feed = client.feeds.get(topic) or Feed()
            if operation["op"] == "subscribe":
                feed.ask(operation)
                client.feeds[topic] = feed
            elif "id" in operation and len(feed.asked) > 1:
                feed.asked.pop(str(operation["id"]), None)
            else:
                client.feeds.pop(topic, None)
        if operation["op"] == "subscribe" and self.latched.get(topic) is not None:
            client.put(topic, self.latched[topic])

    def _publish(self, topic: str, message: Any) -> None:
        if not isinstance(message, dict):
            raise TypeError("msg is no object")
        self.seen["published"] += 1
        if topic in self.latched:
            self.latched[topic] = message
        for client in list(self.clients):
            client.put(topic, message)


def main() -> None:
    """Serve until a signal comes."""
    from hardware.fakes.device import serve

    given = keys(KEYS)
    with Server(given["port"], given["limit"]) as server:
        serve(lambda: None, 0.1, server.url, lambda: server.seen)


if __name__ == "__main__":
    main()
