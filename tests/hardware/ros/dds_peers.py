"""What the tests over DDS share: a domain, a config, patience, and another process that sends back what it gets."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from hardware.ros.dds import DdsConfig
from robot.core.paths import ROOT

DOMAIN = 1 + os.getpid() % 90
"""Away from a graph that may run here, and from tests beside this one."""
ECHO = """
import sys, time
from hardware.ros.bridge import Qos
from hardware.ros.dds import Dds, DdsConfig
all = Qos(True, 1000)
with Dds(DdsConfig(int(sys.argv[1]), "lo", False, ["127.0.0.1"], 1 << 24)) as bridge:
    came, goes = bridge.subscribe("to", sys.argv[2], all), bridge.advertise("from", sys.argv[2], all)
    print("ready", flush=True)
    while True:
        for message, _ in came.take():
            goes.publish(message)
        time.sleep(1e-3)
"""


def config(**changes):
    return DdsConfig(
        **{"domain": DOMAIN, "interface": "lo", "multicast": False, "peers": ["127.0.0.1"], "limit": 1 << 24, **changes}
    )


def until(what, seconds=10.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@contextlib.contextmanager
def echoing(kind: str) -> Iterator["subprocess.Popen[str]"]:
    """Another process that takes a kind from the topic `to` and writes it to `from`."""
    command = [sys.executable, "-c", ECHO, str(DOMAIN), kind]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def collect(subscription, count):
    found = []
    until(lambda: found.extend(subscription.take()) or len(found) >= count)
    return found
