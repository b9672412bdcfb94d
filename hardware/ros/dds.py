"""ROS 2 without ROS: its topics over plain DDS, by Cyclone DDS. Services and actions are left out: ROS has several forms of them.

Messages cross the library as bytes, since its own way to make objects of them is too slow for a loop. It still checks what
arrives against the type, and has threads of its own: a write returns at once, a read takes what is there.
"""

import contextlib
import math
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar
from xml.sax.saxutils import escape, quoteattr

from hardware.ros.bridge import DEFAULT, SENSOR, Bridge, Message, Publisher, Qos, Subscription
from hardware.ros.cdr import codec
from hardware.ros.messages import Type, fields
from hardware.ros.typehash import typehash
from hardware.skew import Skew
from robot.core.errors import DriverError, MessageError, MissingExtraError
from robot.core.optional import require

TOPIC = re.compile(r"(/?[A-Za-z_][A-Za-z0-9_]*)(/[A-Za-z_][A-Za-z0-9_]*)*")
BLOCKING = 1_000_000
"""How long a write may wait [ns]. It does not, since of what a slow reader has not fetched only the newest are kept."""
PORTS, DOMAINS = 250, 233
"""Domain d has the ports 7400 + 250 d and following, and there are so many domains: the RTPS standard, and what a port can be."""
WRITERS = 64
"""Of a topic whose clocks are compared with ours; with one more all are compared anew."""
PADS = (b"", b"\0", b"\0\0", b"\0\0\0")
LOOPBACK = "lo"


@dataclass
class DdsConfig:
    domain: int
    """ROS_DOMAIN_ID of the graph, 0 to 232."""
    interface: str | None
    """The one network interface that is used: lo keeps everything on this computer, both ways. null: whichever DDS chooses."""
    multicast: bool
    """Whether others are looked for by multicast, as ROS does unless told otherwise; never on lo."""
    peers: list[str]
    """Addresses at which others are looked for."""
    limit: int
    """Bytes of the largest message that is sent or accepted."""


class Dds(Bridge):
    """Attributes:
    config: what it was made of.
    """

    def __init__(self, config: DdsConfig) -> None:
        if not 0 <= config.domain < DOMAINS:
            raise DriverError(
                f"there is no DDS domain {config.domain}; bridge.domain is 0 to {DOMAINS - 1}, ROS_DOMAIN_ID of the graph"
            )
        self.config = config
        self._domain: Domain | None = None
        self._participant: Any = None
        self._topics: dict[tuple[str, str], Any] = {}
        self._ends: list[DdsSubscription | DdsPublisher] = []

    def open(self) -> None:
        if self._domain is not None:
            raise DriverError(f"the bridge to DDS domain {self.config.domain} is open already")
        library = _library()
        self._domain = Domain.get(self.config)
        try:
            self._participant = library.domain.DomainParticipant(self.config.domain)
        except library.core.DDSException as error:
            self.close()
            raise DriverError(
                f"DDS domain {self.config.domain} takes no participant ({error}); close other programs in it"
            ) from error

    def close(self) -> None:
        for end in self._ends:
            end.close()
        self._ends.clear()
        self._topics.clear()
        if self._participant is not None:
            _delete(self._participant)
            self._participant = None
        if self._domain is not None:
            self._domain.release()
            self._domain = None

    def subscribe(self, topic: str, kind: str, qos: Qos = SENSOR) -> "DdsSubscription":
        """
        Raises:
            DriverError: not open, or no name of a topic.
            MessageError: no such kind.
        """
        handle = self._topic(topic, kind)
        reader = self._made(topic, _library().sub.DataReader, handle, _policies(kind, qos, writer=False))
        self._ends.append(end := DdsSubscription(topic, kind, qos, self.config.limit, reader))
        return end

    def advertise(self, topic: str, kind: str, qos: Qos = DEFAULT) -> "DdsPublisher":
        """
        Raises:
            DriverError: not open, or no name of a topic.
            MessageError: no such kind.
        """
        handle = self._topic(topic, kind)
        writer = self._made(topic, _library().pub.DataWriter, handle, _policies(kind, qos, writer=True))
        self._ends.append(end := DdsPublisher(topic, kind, self.config.limit, writer))
        return end

    def _topic(self, topic: str, kind: str) -> Any:
        if self._participant is None:
            raise DriverError(f"the bridge to DDS domain {self.config.domain} is not open; use it in a with statement")
        if not TOPIC.fullmatch(topic):
            raise DriverError(
                f"'{topic}' is no name of a topic; letters, digits and _ between slashes, such as /arm/joint_states"
            )
        name = "rt/" + topic.removeprefix("/")
        if (name, kind) not in self._topics:
            self._topics[name, kind] = self._made(topic, _library().topic.Topic, name, _idl(kind))
        return self._topics[name, kind]

    def _made(self, topic: str, entity: Any, *arguments: Any) -> Any:
        try:
            return entity(self._participant, *arguments)
        except _library().core.DDSException as error:
            raise DriverError(
                f"{topic}: DDS refuses it ({error}); is qos.depth above 0, and its type the same everywhere?"
            ) from error


class DdsSubscription(Subscription):
    """Attributes:
    refused: messages that could not be read. What does not even fit the type the library drops before they are counted.
    """

    def __init__(self, topic: str, kind: str, qos: Qos, limit: int, reader: Any) -> None:
        self.topic, self.kind, self.refused = topic, kind, 0
        self._codec, self._limit, self._depth = codec(kind), limit, qos.depth + 1
        self._reader, self._take = reader, _library().raw.ddspy_take
        states = _library().core
        self._states = states.SampleState.Any | states.ViewState.Any | states.InstanceState.Any
        self._clocks: dict[int, Skew] = {}
        self._since = time.monotonic()

    def take(self) -> list[tuple[Message, float]]:
        """As the bridge's. A message came after the last call and before this one; when in between, the sender's clock says."""
        if self._reader is None:
            raise DriverError(f"{self.topic}: the bridge was closed")
        samples = self._take(self._reader._ref, self._states, self._depth)
        now = time.monotonic()
        if isinstance(samples, int):
            raise DriverError(f"{self.topic}: cannot be read any more (DDS error {samples}); open the bridge anew")
        found = []
        for data, info in samples:
            if not info.valid_data:
                continue
            came = self._came(info.publication_handle, info.source_timestamp, now)
            try:
                found.append((self._codec.read(data, self._limit), came))
            except MessageError:
                self.refused += 1
        self._since = now
        return found

    def _came(self, writer: int, sent: int, now: float) -> float:
        """When a message came [s]; `sent` [ns] is in the writer's clock, which may be wrong by hours and jump."""
        clock = self._clocks.get(writer)
        if clock is None:
            if len(self._clocks) >= WRITERS:
                self._clocks.clear()
            clock = self._clocks[writer] = Skew()
        came = clock.ours(1e-9 * sent, now)
        return min(max(came, self._since), now) if math.isfinite(came) else self._since

    def peers(self) -> int:
        """How many write this topic here."""
        return 0 if self._reader is None else len(self._reader.get_matched_publications())

    def close(self) -> None:
        if self._reader is not None:
            _delete(self._reader)
            self._reader = None


class DdsPublisher(Publisher):
    """A reader that lags behind gets the last `qos.depth` messages; nobody waits for it."""

    def __init__(self, topic: str, kind: str, limit: int, writer: Any) -> None:
        self.topic, self.kind = topic, kind
        self._codec, self._limit = codec(kind), limit
        self._writer, self._write = writer, _library().raw.ddspy_write

    def publish(self, message: Message) -> None:
        if self._writer is None:
            raise DriverError(f"{self.topic}: the bridge was closed")
        data = self._codec.write(message, self._limit)
        code = self._write(self._writer._ref, data + PADS[-len(data) & 3])  # the library reads up to a multiple of four
        if code < 0:
            raise DriverError(f"{self.topic}: cannot be written any more (DDS error {code}); open the bridge anew")

    def peers(self) -> int:
        """How many read this topic."""
        return 0 if self._writer is None else len(self._writer.get_matched_subscriptions())

    def close(self) -> None:
        if self._writer is not None:
            _delete(self._writer)
            self._writer = None


class Domain:
    """What a process's bridges to one DDS domain share: the library has one configuration and one set of sockets for each."""

    _lock = threading.Lock()
    _known: ClassVar[dict[int, "Domain"]] = {}

    def __init__(self, config: DdsConfig) -> None:
        library, self.config, self.users = _library(), config, 0
        known = [name for _, name in socket.if_nameindex()]
        if config.interface is not None and config.interface not in known:
            raise DriverError(
                f"there is no network interface '{config.interface}'; bridge.interface is one of {', '.join(known)}, or null"
            )
        try:
            self.handle = library.domain.Domain(config.domain, configuration(config))
        except library.core.DDSException as error:
            raise DriverError(
                f"DDS domain {config.domain} cannot be opened on {config.interface or 'any interface'}: {error}"
            ) from error
        try:
            for found in _sockets(config.domain) if config.interface == LOOPBACK else ():
                _confine(found)
        except DriverError:
            _delete(self.handle)
            raise

    @classmethod
    def get(cls, config: DdsConfig) -> "Domain":
        with cls._lock:
            found = cls._known.get(config.domain)
            if found is None:
                found = cls._known[config.domain] = cls(config)
            if found.config != config:
                raise DriverError(
                    f"DDS domain {config.domain} is open in this process with another config; one config for one domain"
                )
            found.users += 1
            return found

    def release(self) -> None:
        with self._lock:
            self.users -= 1
            if not self.users:
                del self._known[self.config.domain]
                _delete(self.handle)


def configuration(config: DdsConfig) -> str:
    """For Cyclone DDS, as XML."""
    name = f"<Interfaces><NetworkInterface name={quoteattr(config.interface)}/></Interfaces>" if config.interface else ""
    multicast = "true" if config.multicast and config.interface != LOOPBACK else "false"
    peers = "".join(f"<Peer Address={quoteattr(peer)}/>" for peer in config.peers)
    return (
        f"<CycloneDDS><Domain Id='any'><General>{name}<AllowMulticast>{escape(multicast)}</AllowMulticast></General>"
        f"<Discovery><ParticipantIndex>auto</ParticipantIndex><Peers>{peers}</Peers></Discovery>"
        f"<Internal><MaxSampleSize>{config.limit} B</MaxSampleSize></Internal>"
        "</Domain></CycloneDDS>"
    )


def _sockets(domain: int) -> Iterator[socket.socket]:
    """This process's UDP sockets that anyone could send to, on the ports of a domain."""
    first = 7400 + PORTS * domain
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(number))) as found:
                inet = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_DGRAM
                if inet and first <= found.getsockname()[1] < first + PORTS:
                    yield found


def _confine(found: socket.socket) -> None:
    """The library speaks on one interface and hears on all; on loopback the kernel can keep it from that."""
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, LOOPBACK.encode() + b"\0")
    except OSError as error:
        raise DriverError(
            f"DDS cannot be kept to '{LOOPBACK}' ({error}); Linux 5.7 or root can, and bridge.interface=null goes without"
        ) from error


def _delete(entity: Any) -> None:
    """At once, with all that belongs to it, whoever still refers to it."""
    entity.__del__()


@cache
def _library() -> SimpleNamespace:
    """The modules of Cyclone DDS that are needed here; `raw` has its calls for bytes.

    Raises:
        DriverError: it is not installed.
    """
    names = ("core", "domain", "topic", "pub", "sub", "idl")
    try:
        found = SimpleNamespace(**{name: require(f"cyclonedds.{name}", "ros") for name in names})
        found.types, found.raw = require("cyclonedds.idl.types", "ros"), require("cyclonedds._clayer", "ros")
    except MissingExtraError as error:
        raise DriverError(str(error)) from error
    return found


def _policies(kind: str, qos: Qos, writer: bool) -> Any:
    policy, core = _library().core.Policy, _library().core
    last = policy.History.KeepLast(qos.depth)
    chosen = [
        policy.Reliability.Reliable(BLOCKING) if qos.reliable else policy.Reliability.BestEffort,
        policy.Durability.TransientLocal if qos.latched else policy.Durability.Volatile,
        last,
        policy.DataRepresentation(use_cdrv0_representation=True),
        policy.Userdata(f"typehash={typehash(kind)};".encode()),
    ]
    if writer:
        chosen += [policy.WriterDataLifecycle(autodispose=False), policy.DurabilityService(0, last, -1, -1, -1)]
    return core.Qos(*chosen)


@cache
def _idl(kind: str) -> Any:
    """The type as the library wants it, to match it with others' and to check what comes."""
    idl, package, name = _library().idl, *kind.split("/msg/")
    known = fields(kind) or (("structure_needs_at_least_one_member", Type("uint8")),)
    return idl.make_idl_struct(f"{name}_", f"{package}::msg::dds_::{name}_", {name: _idl_type(type) for name, type in known})


def _idl_type(type: Type) -> Any:
    types = _library().types
    if type.nested:
        one = _idl(type.base)
    elif type.base == "string":
        one = types.bounded_str[type.bound] if type.bound else str
    else:
        one = {"bool": bool, "char": types.uint8}.get(type.base) or getattr(types, type.base)
    if type.many == "array":
        return types.array[one, type.size]
    return (types.sequence[one, type.size] if type.size else types.sequence[one]) if type.many else one
