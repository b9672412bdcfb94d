"""ROS 1 through Debian's own rospy, where it is installed: apt install python3-rospy python3-sensor-msgs python3-nav-msgs ...

Debian's folder is appended to the path, never put first, so that everything else stays this environment's. rospy can be started
once in a process; bridges after the first share it. How large a message may be that comes is rospy's affair, which sets no limit:
ROS 1 trusts its network. A master that was started anew does not know this node; start the node anew as well.
"""

import contextlib
import importlib
import math
import os
import socket
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse

import numpy as np

from hardware.ros.bridge import DEFAULT, SENSOR, Bridge, Message, Publisher, Qos, Subscription
from hardware.ros.messages import Type, check, default, fields
from robot.core.errors import DriverError, MessageError

DEBIAN = "/usr/lib/python3/dist-packages"
PATIENCE = 3.0
"""How long the master may take to answer [s]."""
SMALL, LARGE = 1 << 16, 1 << 24
"""Bytes that rospy takes at a time. It skips to the newest message only among those that it has taken whole, so that pictures
larger than this would come later and later."""


@dataclass
class Ros1Config:
    master: str
    """ROS_MASTER_URI of the graph."""
    address: str
    """By which others reach this node; 127.0.0.1 keeps it to this computer."""
    name: str
    """Of the node."""
    packages: str
    """Folder of Debian's packages."""


class Ros1(Bridge):
    _started: "Ros1Config | None" = None
    _lock = threading.Lock()

    def __init__(self, config: Ros1Config) -> None:
        self.config = config
        self.ends: list[Any] = []
        self.opened = False

    def open(self) -> None:
        if self.opened:
            return
        url = urlparse(self.config.master)
        try:
            socket.create_connection((url.hostname or "", url.port or 0), PATIENCE).close()
        except OSError as error:
            raise DriverError(
                f"ros1: no master at '{self.config.master}' ({error}); start one with: rosmaster --core, or set bridge.master"
            ) from error
        self.rospy = self._rospy()
        self.opened = True

    def _rospy(self) -> Any:
        config = self.config
        with Ros1._lock:
            if Ros1._started is not None and Ros1._started != config:
                raise DriverError("ros1: rospy runs in this process with another config already; it can be started once")
            os.environ |= {"ROS_MASTER_URI": config.master, "ROS_IP": config.address, "ROS_HOSTNAME": config.address}
            if config.packages not in sys.path:
                sys.path.append(config.packages)
            try:
                rospy = importlib.import_module("rospy")
            except ImportError as error:
                raise DriverError(
                    f"ros1: rospy cannot be imported ({error}); apt install python3-rospy, or use rosbridge"
                ) from error
            if Ros1._started is None:
                rospy.init_node(config.name, anonymous=True, disable_signals=True, disable_rosout=True)
                Ros1._started = config
            return rospy

    def close(self) -> None:
        """Topics are let go of; the node itself lives as long as its process."""
        for end in self.ends:
            with contextlib.suppress(Exception):
                end.unregister()
        self.ends, self.opened = [], False

    def subscribe(self, topic: str, kind: str, qos: Qos = SENSOR) -> Subscription:
        reader, make = Reader(self, topic, kind, qos), self.type(kind)
        rows = any(type.many and type.number and type.dtype == np.uint8 for _, type in fields(kind))
        size = {"queue_size": max(qos.depth, 1), "buff_size": LARGE if rows else SMALL}
        self.ends.append(self.rospy.Subscriber(topic, make, reader.hear, tcp_nodelay=True, **size))
        return reader

    def advertise(self, topic: str, kind: str, qos: Qos = DEFAULT) -> Publisher:
        make = self.type(kind)
        end = self.rospy.Publisher(topic, make, queue_size=max(qos.depth, 1), latch=qos.latched, tcp_nodelay=True)
        self.ends.append(end)
        return Writer(self, topic, kind, end)

    def check(self, topic: str) -> None:
        """Raise a DriverError when the bridge was closed, or the node was shut down by others."""
        if not self.opened:
            raise DriverError(f"{topic}: the bridge is not open, or was closed")
        if self.rospy.is_shutdown():
            raise DriverError(f"{topic}: the node was shut down, by rosnode kill or by another of its name")

    def type(self, kind: str) -> Any:
        """Of a message, as rospy knows it."""
        fields(kind)  # a MessageError where there is no such kind
        if not self.opened:
            raise DriverError("ros1: the bridge is not open, or was closed")
        package, _, name = kind.split("/")
        try:
            return getattr(importlib.import_module(f"{package}.msg"), name)
        except (ImportError, AttributeError) as error:
            told = f"apt install python3-{package.replace('_', '-')}"
            raise DriverError(f"ros1: the type '{package}/{name}' is not installed ({error}); {told}") from error


class Reader(Subscription):
    def __init__(self, bridge: Ros1, topic: str, kind: str, qos: Qos) -> None:
        self.bridge, self.topic, self.kind = bridge, topic, kind
        self.waiting: deque[tuple[Message, float]] = deque(maxlen=qos.depth)

    def hear(self, found: Any) -> None:
        """In rospy's thread."""
        try:
            message = from_ros1(self.kind, found)
            check(self.kind, message)
            self.waiting.append((message, time.monotonic()))
        except (MessageError, AttributeError, TypeError, ValueError, OverflowError):
            self.refused += 1

    def take(self) -> list[tuple[Message, float]]:
        self.bridge.check(self.topic)
        found = []
        with contextlib.suppress(IndexError):
            while True:
                found.append(self.waiting.popleft())
        return found


class Writer(Publisher):
    def __init__(self, bridge: Ros1, topic: str, kind: str, end: Any) -> None:
        self.bridge, self.topic, self.kind, self.end, self.make = bridge, topic, kind, end, bridge.type(kind)

    def publish(self, message: Message) -> None:
        self.bridge.check(self.topic)
        check(self.kind, message)
        try:
            self.end.publish(to_ros1(self.kind, message, self.make()))
        except self.bridge.rospy.ROSSerializationException as error:
            raise MessageError(f"{self.topic}: ROS 1 cannot say this {self.kind}: {error}") from error
        except self.bridge.rospy.ROSException as error:
            raise DriverError(f"{self.topic}: {error}") from error


def to_ros1(kind: str, message: Message, target: Any) -> Any:
    """Fill a genpy message; fields that ROS 1 lacks are left out."""
    if kind in ("builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration"):
        target.secs, target.nsecs = int(message["sec"]), int(message["nanosec"])
        return target
    for name, type in fields(kind):
        slot = _slot(target, name)
        if slot is not None:
            setattr(target, slot, _to(type, message[name], getattr(target, slot), f"{kind}.{name}"))
    return target


def _slot(target: Any, name: str) -> str | None:
    """ROS 1 names a few fields in other letters: K of CameraInfo, for k."""
    return next((slot for slot in (name, name.upper()) if slot in target.__slots__), None)


def _to(type: Type, value: Any, target: Any, where: str) -> Any:
    if type.many and type.nested:
        make = _class_of(type.base)
        return [to_ros1(type.base, one, make()) for one in value]
    if type.many and type.number and type.dtype == np.uint8 and type.base != "bool":
        return bytes(np.asarray(value, np.uint8)) if not isinstance(value, bytes) else value
    if type.many and type.number:
        return np.asarray(value).tolist()
    return to_ros1(type.base, value, target) if type.nested else value


def _class_of(kind: str) -> Any:
    if kind == "builtin_interfaces/msg/Time":
        return importlib.import_module("rospy").Time
    package, _, name = kind.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def from_ros1(kind: str, found: Any) -> Message:
    """The message in a genpy message; fields that ROS 1 lacks have their default."""
    if kind in ("builtin_interfaces/msg/Time", "builtin_interfaces/msg/Duration"):
        return {"sec": int(found.secs), "nanosec": int(found.nsecs)}
    message = default(kind)
    for name, type in fields(kind):
        slot = _slot(found, name)
        if slot is not None:
            message[name] = _from(type, getattr(found, slot))
    return message


def _from(type: Type, value: Any) -> Any:
    if type.many and type.number:
        row = np.frombuffer(value, np.uint8) if isinstance(value, bytes) else np.array(value)
        return row.astype(type.dtype) if row.size else np.zeros(0, type.dtype)
    if type.many:
        return [from_ros1(type.base, one) if type.nested else str(one) for one in value]
    if type.nested:
        return from_ros1(type.base, value)
    if type.base == "bool":
        return bool(value)
    return float(value) if type.number and type.dtype.kind == "f" and math.isfinite(float(value)) else value
