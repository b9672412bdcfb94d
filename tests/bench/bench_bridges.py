"""The bridges through rosbridge and into ROS 1 between processes on loopback: round trips of a JointState, loss, CPU.

python -m tests.bench.bench_bridges [seconds=30 rosbridge_hz=200 ros1_hz=500 realtime=1]

Beside each in the same run: the usual client of Python (roslibpy, rospy) in its place, with the same other side: a bare websocket
that sends back what it hears, through our server; a plain rospy node. A round trip ends when the client has the message. `lost`
answers never came, `late` ones after their period. Bars, with realtime=1: nothing lost; rosbridge at 200 Hz p99 <= 5 ms; ROS 1
at 500 Hz p99 <= 3 ms.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import numpy as np

from hardware.fakes.keys import keys
from hardware.ros.bridge import Bridge, Qos
from hardware.ros.plain import to_json
from hardware.ros.ros1 import Ros1, Ros1Config
from hardware.ros.rosbridge import Rosbridge, RosbridgeConfig
from hardware.runtime import hurry
from robot.core.paths import ROOT
from tests.hardware.ros.references import panda

KEYS = {"seconds": 30.0, "rosbridge_hz": 200.0, "ros1_hz": 500.0, "realtime": 1}
KIND = "sensor_msgs/msg/JointState"
MANY = Qos(True, 5000)
PATIENCE, WARM = 3.0, 1.0
"""After so long an answer is lost; so long is driven before it counts [s]."""
ROWS = {"rosbridge": "rosbridge", "rosbridge_roslibpy": "rosbridge", "ros1": "ros1", "ros1_rospy": "ros1"}
"""By row: the way that it takes."""
Numbers = list[tuple[int, float]]
"""Answers: which, and when they came [s, monotonic]."""


@contextlib.contextmanager
def ours(bridge: Bridge) -> Iterator[tuple[Callable[[int], None], Callable[[], Numbers]]]:
    """A function that sends, and one that says which answers have come."""
    with bridge:
        reader, writer, message = bridge.subscribe("/joints_back", KIND, MANY), bridge.advertise("/joints", KIND, MANY), panda()

        def send(number: int) -> None:
            message["header"]["stamp"]["sec"] = number
            writer.publish(message)

        yield send, lambda: [(found["header"]["stamp"]["sec"], came) for found, came in reader.take()]


@contextlib.contextmanager
def by_roslibpy(url: str) -> Iterator[tuple[Callable[[int], None], Callable[[], Numbers]]]:
    import roslibpy

    client = roslibpy.Ros(urlparse(url).hostname, urlparse(url).port)
    client.run(timeout=20)
    waiting: Numbers = []
    there, back = (roslibpy.Topic(client, topic, KIND, queue_size=5000) for topic in ("/joints", "/joints_back"))
    back.subscribe(lambda found: waiting.append((found["header"]["stamp"]["sec"], time.monotonic())))
    there.advertise()
    message = to_json(KIND, panda())

    def send(number: int) -> None:
        message["header"]["stamp"]["sec"] = number
        there.publish(message)

    yield send, lambda: taken(waiting)
    client.close()


@contextlib.contextmanager
def by_rospy(url: str) -> Iterator[tuple[Callable[[int], None], Callable[[], Numbers]]]:
    os.environ |= {"ROS_MASTER_URI": url, "ROS_IP": "127.0.0.1"}
    sys.path.append("/usr/lib/python3/dist-packages")
    import rospy
    from sensor_msgs.msg import JointState

    rospy.init_node("bench", anonymous=True, disable_signals=True, disable_rosout=True)
    waiting: Numbers = []
    writer = rospy.Publisher("/joints", JointState, queue_size=5000, tcp_nodelay=True)
    take = lambda found: waiting.append((found.header.stamp.secs, time.monotonic()))  # noqa: E731
    rospy.Subscriber("/joints_back", JointState, take, queue_size=5000, tcp_nodelay=True)
    told = panda()
    message = JointState(name=told["name"], position=list(told["position"]), velocity=list(told["velocity"]))

    def send(number: int) -> None:
        message.header.stamp.secs = number
        writer.publish(message)

    yield send, lambda: taken(waiting)


def taken(waiting: Numbers) -> Numbers:
    """What waits; other threads may append meanwhile."""
    found = waiting[:]
    del waiting[: len(found)]
    return found


def client(row: str, url: str, seconds: float, rate: float) -> dict[str, Any]:
    ends = {
        "rosbridge": lambda: ours(Rosbridge(RosbridgeConfig(url, 2, 1 << 20, 10.0))),
        "rosbridge_roslibpy": lambda: by_roslibpy(url),
        "ros1": lambda: ours(Ros1(Ros1Config(url, "127.0.0.1", "bench", "/usr/lib/python3/dist-packages"))),
        "ros1_rospy": lambda: by_rospy(url),
    }
    with ends[row]() as (send, answers):
        end = time.monotonic() + 20
        while not answers():
            assert time.monotonic() < end, "nobody answers"
            send(0)
            time.sleep(0.05)
        time.sleep(0.5)
        answers()
        paced(send, answers, WARM, rate)
        return paced(send, answers, seconds, rate)


def paced(send: Callable[[int], None], answers: Callable[[], Numbers], seconds: float, rate: float) -> dict[str, Any]:
    count = round(seconds * rate)
    sent, came = np.full(count, np.nan), np.full(count, np.nan)
    begin, busy = time.monotonic(), time.process_time()
    for number in range(count):
        sent[number] = time.monotonic()
        send(number)
        time.sleep(max(0.0, begin + (number + 1) / rate - time.monotonic()))
        note(answers(), came)
    busy, passed = time.process_time() - busy, time.monotonic() - begin
    end = time.monotonic() + PATIENCE
    while np.isnan(came).any() and time.monotonic() < end:
        time.sleep(0.01)
        note(answers(), came)
    trips = 1e3 * (came - sent)
    told = np.nanpercentile(trips, [50, 99, 99.9, 100]).tolist()
    return {
        "sent": count,
        "lost": int(np.isnan(came).sum()),
        "late": int((trips > 1e3 / rate).sum()),
        **dict(zip(("p50_ms", "p99_ms", "p999_ms", "max_ms"), told, strict=True)),
        "cpu": busy / passed,
        "rate_hz": count / passed,
    }


def note(found: Numbers, came: Any) -> None:
    for number, when in found:
        came[number] = when


def echo(url: str) -> None:
    """What is heard on /joints, on /joints_back, by a bare websocket."""
    from websockets.sync.client import connect

    with connect(url, proxy=None, compression=None) as link:
        link.send(json.dumps({"op": "advertise", "topic": "/joints_back", "type": KIND}))
        link.send(json.dumps({"op": "subscribe", "topic": "/joints", "type": KIND}))
        print("ready", flush=True)
        for text in link:
            link.send(text.replace('"/joints"', '"/joints_back"', 1))


@contextlib.contextmanager
def others(way: str, realtime: bool) -> Iterator[str]:
    """The processes of the other side, and where they are."""
    ahead = hurry if realtime else None
    with contextlib.ExitStack() as stack:

        def start(command: list[str], ready: bool = True, **environment: str) -> str:
            process = subprocess.Popen(
                command, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, preexec_fn=ahead,
                env={**os.environ, **environment}, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.communicate)
            stack.callback(process.kill)
            assert process.stdout is not None
            return process.stdout.readline() if ready else ""

        if way == "rosbridge":
            url = start([sys.executable, "-m", "hardware.fakes.rosbridge", "port=0"]).split()[1]
            start([sys.executable, "-m", "tests.bench.bench_bridges", "--echo", url])
        else:
            with socket.socket() as found:
                found.bind(("127.0.0.1", 0))
                url = f"http://127.0.0.1:{found.getsockname()[1]}"
            known = {"ROS_MASTER_URI": url, "ROS_IP": "127.0.0.1"}
            start(["rosmaster", "--core", "-p", url.rsplit(":", 1)[1]], False, **known)
            end = time.monotonic() + 20
            while socket.socket().connect_ex(("127.0.0.1", urlparse(url).port or 0)) and time.monotonic() < end:
                time.sleep(0.05)
            start([sys.executable, "-I", str(ROOT / "tests" / "hardware" / "ros" / "ros1_echo.py")], **known)
        yield url


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--echo"]:
        echo(arguments[1])
    if arguments[:1] == ["--client"]:
        _, row, url, seconds, rate, realtime = arguments
        if int(realtime):
            assert hurry(), "the system refuses SCHED_FIFO; realtime=0 goes without"
        print("\n" + json.dumps(client(row, url, float(seconds), float(rate))), flush=True)
        os._exit(0)  # Twisted and rospy have threads that stay
    given, results, before = keys(KEYS, arguments), {}, os.getloadavg()
    ros1 = shutil.which("rosmaster") is not None and Path("/usr/lib/python3/dist-packages/rospy").exists()
    for row, way in ROWS.items():
        if way == "ros1" and not ros1:
            continue
        with others(way, bool(given["realtime"])) as url:
            told = [url, str(given["seconds"]), str(given[f"{way}_hz"]), str(given["realtime"])]
            script = [sys.executable, "-m", "tests.bench.bench_bridges", "--client", row, *told]
            done = subprocess.run(script, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        results[row] = json.loads(done.stdout.splitlines()[-1])
        print(row, json.dumps(results[row]), file=sys.stderr, flush=True)
    loads = {"load_before": before, "load_after": os.getloadavg(), "cores": os.cpu_count()}
    print(json.dumps({"benchmark": "bridges", **loads, "keys": given, "results": results}))


if __name__ == "__main__":
    main(sys.argv[1:])
