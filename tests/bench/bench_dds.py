"""The ROS 2 bridge between two processes on loopback: round trips of a JointState of seven joints, loss, CPU, throughput.

python -m tests.bench.bench_dds [seconds=60 rate=1000 realtime=1 domain=97]

Beside it in the same run: the same with Cyclone DDS' own Python objects on both sides, and our side against Fast DDS in C++ where
its headers are installed. Both ends sleep until something comes; messages go reliably, the last 100 are kept. `late` answers came
only after their period, `lost` ones never. The burst keeps 50 messages under way at a time, as fast as it goes; `codec_us` is the
time of one message. Bar, with realtime=1: 0 lost in 60 s at 1 kHz, round trip p50 <= 0.4 ms, p99 <= 1 ms, sender's CPU <= 25 % of
a core.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import timeit
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from hardware.fakes.keys import keys
from hardware.ros.bridge import Qos
from hardware.ros.cdr import codec
from hardware.ros.dds import Dds, DdsConfig, configuration
from hardware.runtime import hurry
from robot.core.paths import ROOT
from tests.hardware.ros import fastdds
from tests.hardware.ros.references import cyclone_message, cyclone_type, panda, rosbags_message, store

KEYS = {"seconds": 60.0, "rate": 1000.0, "realtime": 1, "domain": 97}
KIND = "sensor_msgs/msg/JointState"
DEPTH, WINDOW, BURST = 100, 50, 20_000
PATIENCE = 2.0
"""After so long an answer is lost [s]."""
ROWS = {"ours": "ours", "objects": "objects", "ours_fastdds": "ours"}
"""By row: what the client is made of; its echo is the same, or Fast DDS."""


class Ours:
    """Two ends of our bridge, on the topics `goes` and `comes`."""

    def __init__(self, bridge: Dds, goes: str, comes: str) -> None:
        self.message = panda()
        self.writer = bridge.advertise(goes, KIND, Qos(True, DEPTH))
        self.reader = bridge.subscribe(comes, KIND, Qos(True, DEPTH))
        self.handle = self.reader._reader

    def send(self, number: int) -> None:
        self.message["header"]["stamp"]["sec"] = number
        self.writer.publish(self.message)

    def numbers(self) -> list[int]:
        return [message["header"]["stamp"]["sec"] for message, _ in self.reader.take()]

    def echo(self) -> None:
        for message, _ in self.reader.take():
            self.writer.publish(message)

    def met(self) -> bool:
        return self.writer.peers() > 0 and self.reader.peers() > 0


class Objects:
    """The same with Cyclone DDS' own objects."""

    def __init__(self, participant: Any, goes: str, comes: str) -> None:
        from cyclonedds.core import Policy
        from cyclonedds.core import Qos as CycloneQos
        from cyclonedds.pub import DataWriter
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic

        kept = Policy.Reliability.Reliable(10**6), Policy.History.KeepLast(DEPTH)
        qos = CycloneQos(*kept, Policy.DataRepresentation(use_cdrv0_representation=True))
        there, here = (Topic(participant, f"rt/{name}", cyclone_type(KIND)) for name in (goes, comes))
        self.message = cyclone_message(KIND, panda())
        self.writer, self.handle = DataWriter(participant, there, qos), DataReader(participant, here, qos)

    def send(self, number: int) -> None:
        self.message.header.stamp.sec = number
        self.writer.write(self.message)

    def numbers(self) -> list[int]:
        return [message.header.stamp.sec for message in self.handle.take(DEPTH)]

    def echo(self) -> None:
        for message in self.handle.take(DEPTH):
            if message.sample_info.valid_data:  # else it tells that the other side is gone
                self.writer.write(message)

    def met(self) -> bool:
        return bool(self.writer.get_matched_subscriptions() and self.handle.get_matched_publications())


@contextlib.contextmanager
def ends(what: str, domain: int, goes: str, comes: str) -> Iterator[tuple[Any, Callable[[float], None]]]:
    """Two ends, and a function that sleeps until something comes or so many seconds have passed."""
    from cyclonedds.core import InstanceState, ReadCondition, SampleState, ViewState, WaitSet
    from cyclonedds.domain import Domain, DomainParticipant

    config = DdsConfig(domain, "lo", False, ["127.0.0.1"], 1 << 20)
    with contextlib.ExitStack() as stack:
        if what == "ours":
            bridge = stack.enter_context(Dds(config))
            participant, found = bridge._participant, Ours(bridge, goes, comes)
        else:
            kept = Domain(domain, configuration(config))
            participant = DomainParticipant(domain)
            stack.callback(kept.__del__)
            found = Objects(participant, goes, comes)
        waiting = WaitSet(participant)
        waiting.attach(ReadCondition(found.handle, ViewState.Any | InstanceState.Any | SampleState.NotRead))
        yield found, lambda seconds: waiting.wait(max(0, int(1e9 * seconds)))


def echo(what: str, domain: int) -> None:
    """Until it is killed."""
    with ends(what, domain, "pong", "ping") as (found, wait):
        print("ready", flush=True)
        while True:
            wait(1.0)
            found.echo()


def client(what: str, domain: int, seconds: float, rate: float) -> dict[str, Any]:
    with ends(what, domain, "ping", "pong") as (found, wait):
        end = time.monotonic() + 10
        while not found.met():
            assert time.monotonic() < end, "the other side was not found"
            time.sleep(0.01)
        time.sleep(0.2)
        paced(found, wait, 0.5, rate)
        return {**paced(found, wait, seconds, rate), **burst(found, wait)}


def paced(found: Any, wait: Callable[[float], None], seconds: float, rate: float) -> dict[str, Any]:
    """A message a period; in between answers are taken as they come."""
    count = round(seconds * rate)
    sent, came = np.full(count, np.nan), np.full(count, np.nan)
    begin, busy = time.perf_counter(), time.process_time()
    for number in range(count):
        sent[number] = time.perf_counter()
        found.send(number)
        due = begin + (number + 1) / rate
        while (left := due - time.perf_counter()) > 0:
            wait(left)
            came[found.numbers()] = time.perf_counter()
    busy, passed = time.process_time() - busy, time.perf_counter() - begin
    end = time.perf_counter() + PATIENCE
    while np.isnan(came).any() and time.perf_counter() < end:
        wait(0.1)
        came[found.numbers()] = time.perf_counter()
    trips = 1e3 * (came - sent)
    told = dict(
        zip(("p50_ms", "p99_ms", "p999_ms", "max_ms"), np.nanpercentile(trips, [50, 99, 99.9, 100]).tolist(), strict=True)
    )
    late = int((trips > 1e3 / rate).sum())
    return {
        "sent": count,
        "lost": int(np.isnan(came).sum()),
        "late": late,
        **told,
        "cpu": busy / passed,
        "rate_hz": count / passed,
    }


def burst(found: Any, wait: Callable[[float], None]) -> dict[str, Any]:
    sent = back = 0
    begin = last = time.perf_counter()
    while back < BURST and time.perf_counter() - last < PATIENCE:
        while sent < BURST and sent - back < WINDOW:
            found.send(sent)
            sent += 1
        wait(0.1)
        if fresh := len(found.numbers()):
            back, last = back + fresh, time.perf_counter()
    return {"burst_hz": back / (last - begin), "burst_lost": sent - back}


def row(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Each side in a process of its own, so that real time and the library's threads end with it."""
    what, domain = ROWS[name], given["domain"]
    script = [sys.executable, "-m", "tests.bench.bench_dds"]
    if name == "ours_fastdds":
        other = fastdds.start(domain, "rt/ping", "rt/pong", hurry if given["realtime"] else None)
    else:
        other = subprocess.Popen(
            [*script, "--echo", what, str(domain), str(given["realtime"])], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        other.stdout.readline()
    try:
        told = [str(given[key]) for key in ("domain", "seconds", "rate", "realtime")]
        done = subprocess.run([*script, "--client", what, *told], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout)
    finally:
        other.kill()
        other.communicate()


def codecs() -> dict[str, float]:
    """Microseconds a message, the best of seven."""
    message, data = panda(), codec(KIND).write(panda())
    theirs, objects = rosbags_message(KIND, message), cyclone_message(KIND, message)
    calls: dict[str, Callable[[], Any]] = {
        "write": lambda: codec(KIND).write(message),
        "read": lambda: codec(KIND).read(data),
        "rosbags_write": lambda: store().serialize_cdr(theirs, KIND),
        "rosbags_read": lambda: store().deserialize_cdr(data, KIND),
        "objects_write": lambda: objects.serialize(use_version_2=False),
        "objects_read": lambda: cyclone_type(KIND).deserialize(data),
    }
    return {name: 1e6 * min(timeit.repeat(call, number=2000, repeat=7)) / 2000 for name, call in calls.items()}


def main(arguments: list[str]) -> None:
    if arguments[:1] in (["--echo"], ["--client"]):
        role, what, domain, *rest = arguments
        if int(rest[-1]):
            assert hurry(), "the system refuses SCHED_FIFO; realtime=0 goes without"
        if role == "--echo":
            echo(what, int(domain))
        print(json.dumps(client(what, int(domain), float(rest[0]), float(rest[1]))))
        return
    given = keys(KEYS, arguments)
    results, before = {}, os.getloadavg()
    for name in ROWS:
        if name != "ours_fastdds" or fastdds.missing() is None:
            results[name] = row(name, given)
            print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
    loads = {"load_before": before, "load_after": os.getloadavg(), "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "dds", **loads, "keys": given, "codec_us": codecs(), "results": results}))


if __name__ == "__main__":
    main(sys.argv[1:])
