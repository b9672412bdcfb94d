"""ROS through a rosbridge server (protocol v2, JSON over a websocket), where DDS is not to be had: browsers' way, and ROS 1's.

A thread owns the connection and makes it anew when it breaks; meanwhile nothing arrives, and what is written is lost and counted:
measurements grow old, and the guard acts. The usual client for Python brings an event loop that cannot be started twice in a
process; this one is a thread that ends.
"""

import contextlib
import itertools
import json
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from hardware.ros.bridge import DEFAULT, SENSOR, Bridge, Message, Publisher, Qos, Subscription
from hardware.ros.messages import fields
from hardware.ros.plain import from_json, parse, to_json
from robot.core.errors import DriverError, MessageError
from robot.core.optional import require

LOOK = 0.2
"""How long the thread waits at most before it looks whether it is to end [s]."""
LONGEST = 5.0
"""Between two attempts to connect [s]; the first comes after a tenth."""
PARTS = 4096
"""Fragments of one operation, and operations that are incomplete at a time, at most."""


@dataclass
class RosbridgeConfig:
    url: str
    """Of the server, such as ws://127.0.0.1:9090."""
    limit: int
    """Bytes of the largest operation that is sent or accepted."""
    patience: float
    """How long the first connection may take [s]."""


class Rosbridge(Bridge):
    """Attributes:
    dropped: messages that were written while there was no connection.
    refused: operations that could not be understood.
    """

    def __init__(self, config: RosbridgeConfig) -> None:
        self.config = config
        self.readers: dict[str, list[Reader]] = {}
        self.greetings: list[dict[str, Any]] = []
        self.link: Any = None
        self.ended = threading.Event()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.dropped = self.refused = 0
        self.parts: dict[str, dict[int, str]] = {}
        self.numbers = itertools.count(1)

    def open(self) -> None:
        if self.thread is not None:
            return
        self.ended.clear()
        self.client = require("websockets.sync.client", "ros")
        try:
            self.link = self._connect(self.config.patience)
        except (OSError, ValueError, self._trouble(), TimeoutError) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DriverError(
                f"rosbridge: '{self.config.url}' cannot be reached: {told}; start one with: "
                "ros2 launch rosbridge_server rosbridge_websocket_launch.xml"
            ) from error
        self.thread = threading.Thread(target=self._run, name="rosbridge", daemon=True)
        self.thread.start()

    def close(self) -> None:
        thread, self.thread = self.thread, None
        if thread is not None:
            self.ended.set()
            thread.join()
            with contextlib.suppress(Exception):
                self.link.close()
            self.link = None

    def subscribe(self, topic: str, kind: str, qos: Qos = SENSOR) -> Subscription:
        fields(kind)  # a MessageError where there is no such kind
        reader = Reader(self, topic, kind, qos)
        self.readers.setdefault(topic, []).append(reader)
        greeting = {"op": "subscribe", "id": f"subscribe:{next(self.numbers)}", "topic": topic, "type": kind}
        self._greet(greeting | {"queue_length": qos.depth, "throttle_rate": 0})
        return reader

    def advertise(self, topic: str, kind: str, qos: Qos = DEFAULT) -> Publisher:
        fields(kind)
        greeting = {
            "op": "advertise",
            "id": f"advertise:{next(self.numbers)}",
            "topic": topic,
            "type": kind,
            "latch": qos.latched,
        }
        self._greet(greeting)
        return Writer(self, topic, kind)

    def send(self, operation: dict[str, Any]) -> None:
        """One operation, or lost where there is no connection."""
        if self.thread is None:
            raise DriverError("rosbridge: it is not open, or was closed")
        text = json.dumps(operation, allow_nan=False)
        if len(text) > self.config.limit:
            raise MessageError(f"rosbridge: an operation of {len(text)} bytes; bridge.limit is {self.config.limit}")
        link = self.link
        try:
            if link is None:
                raise ConnectionError
            with self.lock:
                link.send(text)
        except (OSError, self._trouble()):
            self.dropped += 1

    def _greet(self, operation: dict[str, Any]) -> None:
        self.greetings.append(operation)
        self.send(operation)

    def _connect(self, patience: float) -> Any:
        options = {"max_size": self.config.limit, "open_timeout": patience, "close_timeout": 1.0, "compression": None}
        return self.client.connect(self.config.url, proxy=None, **options)

    def _trouble(self) -> Any:
        return require("websockets.exceptions", "ros").WebSocketException

    def _run(self) -> None:
        """Hear, and connect again."""
        wait = 0.1
        while not self.ended.is_set():
            if self.link is None:
                self.ended.wait(wait)
                wait = min(2 * wait, LONGEST)
                self._again()
                continue
            try:
                text = self.link.recv(timeout=LOOK)
            except TimeoutError:
                continue
            except (OSError, self._trouble(), EOFError):
                self.link, self.parts = None, {}
                continue
            wait = 0.1
            self._hear(text, time.monotonic())

    def _again(self) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError, self._trouble()):
            link = self._connect(LONGEST)
            for operation in self.greetings:
                link.send(json.dumps(operation))
            self.link = link

    def _hear(self, text: Any, came: float) -> None:
        """One operation that came; what cannot be understood is counted."""
        try:
            operation = parse(text, self.config.limit)
            if operation.get("op") == "fragment":
                whole = self._gather(operation)
                if whole is None:
                    return
                operation = parse(whole, self.config.limit)
            if operation.get("op") == "publish":
                for reader in self.readers.get(str(operation.get("topic")), ()):
                    reader.hear(operation.get("msg"), came)
        except MessageError:
            self.refused += 1

    def _gather(self, part: dict[str, Any]) -> str | None:
        """The whole operation once its last fragment is there, in whatever order they come."""
        name, text, number, total = (part.get(key) for key in ("id", "data", "num", "total"))
        good = isinstance(text, str) and isinstance(number, int) and isinstance(total, int) and isinstance(name, str | int)
        if not good or not 0 <= number < total <= PARTS:  # type: ignore[operator]
            raise MessageError("a fragment without id, data, num and total")
        known = self.parts.setdefault(str(name), {})
        known[number] = text  # type: ignore[index,assignment]
        if len(self.parts) > PARTS or sum(map(len, known.values())) > self.config.limit:
            self.parts.clear()
            raise MessageError("too many fragments, or too large")
        if len(known) < total:  # type: ignore[operator]
            return None
        del self.parts[str(name)]
        return "".join(known[k] for k in sorted(known))


class Reader(Subscription):
    def __init__(self, bridge: Rosbridge, topic: str, kind: str, qos: Qos) -> None:
        self.bridge, self.topic, self.kind = bridge, topic, kind
        self.waiting: deque[tuple[Message, float]] = deque(maxlen=qos.depth)

    def hear(self, data: Any, came: float) -> None:
        """In the bridge's thread."""
        try:
            self.waiting.append((from_json(self.kind, data), came))
        except MessageError:
            self.refused += 1

    def take(self) -> list[tuple[Message, float]]:
        if self.bridge.thread is None:
            raise DriverError(f"{self.topic}: the bridge is not open, or was closed")
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self.waiting.popleft())
        return found


class Writer(Publisher):
    def __init__(self, bridge: Rosbridge, topic: str, kind: str) -> None:
        self.bridge, self.topic, self.kind = bridge, topic, kind

    def publish(self, message: Message) -> None:
        self.bridge.send({"op": "publish", "topic": self.topic, "msg": to_json(self.kind, message)})
