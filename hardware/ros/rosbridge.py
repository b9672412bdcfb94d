"""ROS through a rosbridge server (protocol v2, JSON over a websocket), where DDS is not to be had: browsers' way, and ROS 1's.

One thread hears and makes the connection anew when it breaks or the server falls silent; another speaks, so that a server that
hangs never holds up the servo loop. Meanwhile nothing arrives, and what is written is lost and counted, never sent later:
measurements grow old, and the guard acts. The usual client for Python brings an event loop that can be started once in a
process and ends with it; this one is threads that end.
"""

import contextlib
import itertools
import json
import socket
import struct
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from hardware.ros.bridge import DEFAULT, SENSOR, Bridge, Message, Publisher, Qos, Subscription
from hardware.ros.messages import fields
from hardware.ros.plain import Fragments, from_json, parse, to_json
from robot.core.errors import ConfigError, DriverError, MessageError
from robot.core.optional import require

LOOK = 0.2
"""How long a thread waits at most before it looks whether it is to end [s]."""
LONGEST = 5.0
"""Between two attempts to connect [s]; the first comes after a tenth."""
TOO_LARGE = 1009
"""What a websocket is closed with that brought too much."""


@dataclass
class RosbridgeConfig:
    url: str
    """Of the server, such as ws://127.0.0.1:9090."""
    ros: int
    """2, or 1 for a server of ROS 1, which names types and times otherwise."""
    limit: int
    """Bytes of the largest operation that is sent or accepted."""
    patience: float
    """How long connecting may take, and the server may be silent or take nothing, before the connection counts as broken [s]."""


class Rosbridge(Bridge):
    """Attributes:
    dropped: messages that were written and not sent: there was no connection, or newer ones took their place.
    refused: operations that could not be understood.
    breaks: how often the connection was lost.
    said: the server's last complaint, a status of level error or warning.
    """

    def __init__(self, config: RosbridgeConfig) -> None:
        if config.ros not in (1, 2):
            raise ConfigError(f"bridge.ros is {config.ros}; accepted: 1, 2")
        self.config = config
        self.numbers = itertools.count(1)
        self.threads: list[threading.Thread] = []
        self.dropped = self.refused = self.breaks = 0
        self.said = ""
        self._begin()

    def _begin(self) -> None:
        self.readers: dict[str, list[Reader]] = {}
        self.greetings: list[str] = []
        self.fragments = Fragments(self.config.limit)
        self.link: Any = None
        self.ended = threading.Event()
        self.changed = threading.Condition()
        """Holds `link`, `greetings` and what is due."""
        self.hello: deque[str] = deque()
        self.due: deque[deque[str]] = deque()
        """Queues, each as often as it has texts."""

    def open(self) -> None:
        if self.threads:
            return
        self._begin()
        self.client = require("websockets.sync.client", "ros")
        try:
            self.link = self._connect()
        except (OSError, ValueError, self._trouble()) as error:
            told = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DriverError(
                f"rosbridge: '{self.config.url}' cannot be reached: {told}; start one with: "
                "ros2 launch rosbridge_server rosbridge_websocket_launch.xml"
            ) from error
        for run in (self._listen, self._speak):
            self.threads.append(threading.Thread(target=run, name=f"rosbridge{run.__name__}", daemon=True))
            self.threads[-1].start()

    def close(self) -> None:
        """What was written before is sent first."""
        threads, self.threads = self.threads, []
        self.ended.set()
        with self.changed:
            self.changed.notify_all()
        for thread in threads:
            thread.join()
        if self.link is not None:
            with contextlib.suppress(Exception):
                self.link.close()
            self.link = None

    def subscribe(self, topic: str, kind: str, qos: Qos = SENSOR) -> Subscription:
        name = self.name(kind)
        reader = Reader(self, topic, kind, qos)
        self.readers.setdefault(topic, []).append(reader)
        told = {"topic": topic, "type": name, "queue_length": qos.depth, "throttle_rate": 0}
        self._greet({"op": "subscribe", "id": f"subscribe:{next(self.numbers)}", **told})
        return reader

    def advertise(self, topic: str, kind: str, qos: Qos = DEFAULT) -> Publisher:
        told = {"topic": topic, "type": self.name(kind), "latch": qos.latched, "queue_size": qos.depth}
        self._greet({"op": "advertise", "id": f"advertise:{next(self.numbers)}", **told})
        return Writer(self, topic, kind, qos)

    def name(self, kind: str) -> str:
        """Of a kind, as the server has it; a MessageError where there is no such kind."""
        fields(kind)
        return kind.replace("/msg/", "/") if self.config.ros == 1 else kind

    def send(self, operation: dict[str, Any], queue: "deque[str]") -> None:
        """Have an operation sent, or lost where there is no connection; never waits."""
        text = json.dumps(operation, allow_nan=False)
        if len(text) > self.config.limit:
            raise MessageError(f"rosbridge: an operation of {len(text)} bytes; bridge.limit is {self.config.limit}")
        with self.changed:
            if not self.threads:
                raise DriverError("rosbridge: it is not open, or was closed")
            if self.link is None:
                self.dropped += 1
            elif len(queue) == queue.maxlen:
                self.dropped += 1
                queue.append(text)
            else:
                queue.append(text)
                self.due.append(queue)
                self.changed.notify()

    def _greet(self, operation: dict[str, Any]) -> None:
        """What every new connection begins with."""
        with self.changed:
            if not self.threads:
                raise DriverError("rosbridge: it is not open, or was closed")
            text = json.dumps(operation)
            self.greetings.append(text)
            if self.link is not None:
                self._say(text)

    def _say(self, text: str) -> None:
        self.hello.append(text)
        self.due.append(self.hello)
        self.changed.notify()

    def _connect(self) -> Any:
        patience = self.config.patience
        times = {"open_timeout": patience, "ping_interval": patience / 3, "ping_timeout": patience, "close_timeout": 1.0}
        found = self.client.connect(self.config.url, proxy=None, compression=None, max_size=self.config.limit, **times)
        link = found.__enter__()
        whole, part = divmod(patience, 1.0)
        link.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(whole), int(1e6 * part)))
        return link

    def _trouble(self) -> Any:
        return require("websockets.exceptions", "ros").WebSocketException

    def _speak(self) -> None:
        """Send what is due; on closing, what is left."""
        while True:
            with self.changed:
                while not self.due:
                    if self.ended.is_set():
                        return
                    self.changed.wait()
                queue, link = self.due.popleft(), self.link
                text = queue.popleft()
            try:
                link.send(text)
            except (OSError, self._trouble()) as error:
                self.dropped += queue is not self.hello
                self._broken(link, error)

    def _listen(self) -> None:
        """Hear, and connect again."""
        wait = 0.1
        while not self.ended.is_set():
            link = self.link
            if link is None:
                self.ended.wait(wait)
                wait = min(2 * wait, LONGEST)
                self._again()
                continue
            try:
                text = link.recv(timeout=LOOK)
            except TimeoutError:
                continue
            except (OSError, EOFError, self._trouble()) as error:
                self._broken(link, error)
                continue
            wait = 0.1
            self._hear(text, time.monotonic())

    def _broken(self, link: Any, error: Exception) -> None:
        """Forget a connection and what was to be sent over it: a command must not come late."""
        with self.changed:
            if self.link is not link:
                return
            self.link, self.fragments = None, Fragments(self.config.limit)
            self.breaks += 1
            self.refused += getattr(getattr(error, "sent", None), "code", None) == TOO_LARGE
            self.dropped += sum(queue is not self.hello for queue in self.due)
            for queue in self.due:
                queue.clear()
            self.due.clear()

    def _again(self) -> None:
        if self.ended.is_set():
            return
        with contextlib.suppress(OSError, ValueError, self._trouble()):
            link = self._connect()
            with self.changed:
                self.link = link
                for text in self.greetings:
                    self._say(text)

    def _hear(self, text: Any, came: float) -> None:
        """One operation that came; what cannot be understood is counted."""
        try:
            operation = parse(text, self.config.limit)
            if operation.get("op") == "fragment":
                whole = self.fragments.add(operation)
                if whole is None:
                    return
                operation = parse(whole, self.config.limit)
            if operation.get("op") == "publish":
                for reader in self.readers.get(str(operation.get("topic")), ()):
                    reader.hear(operation.get("msg"), came)
            elif operation.get("op") == "status" and operation.get("level") in ("error", "warning"):
                self.said = str(operation.get("msg"))[:500]
        except MessageError:
            self.refused += 1


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
        if not self.bridge.threads:
            raise DriverError(f"{self.topic}: the bridge is not open, or was closed")
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self.waiting.popleft())
        return found


class Writer(Publisher):
    def __init__(self, bridge: Rosbridge, topic: str, kind: str, qos: Qos) -> None:
        self.bridge, self.topic, self.kind = bridge, topic, kind
        self.queue: deque[str] = deque(maxlen=max(qos.depth, 1))

    def publish(self, message: Message) -> None:
        told = to_json(self.kind, message, self.bridge.config.ros)
        self.bridge.send({"op": "publish", "topic": self.topic, "msg": told}, self.queue)
