"""Nothing is sent beyond loopback, nor heard from beyond it, unless the config says so."""

import contextlib
import os
import socket
import struct
import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

from hardware.ros.bridge import DEFAULT
from hardware.ros.dds import Dds, configuration
from robot.core.config import build
from robot.core.paths import CONFIGS
from tests.hardware.ros.dds_peers import DOMAIN, collect, config, echoing
from tests.hardware.ros.references import panda, same

STATE = "sensor_msgs/msg/JointState"


def test_the_default_keeps_to_this_computer():
    import yaml

    node = yaml.safe_load((CONFIGS / "bridge" / "ros2.yaml").read_text())
    bridge = build(node, "bridge")
    assert isinstance(bridge, Dds)
    assert (bridge.config.interface, bridge.config.multicast, bridge.config.peers) == ("lo", False, ["127.0.0.1"])


def udp_sockets():
    """Local addresses and devices of this process's sockets on the ports of the domain and beyond."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{number}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(number))) as each:
                if each.type == socket.SOCK_DGRAM and each.family == socket.AF_INET:
                    device = each.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).strip(b"\0").decode()
                    found.append((*each.getsockname(), device))
        except OSError:
            continue
    return found


def test_nothing_is_heard_from_beyond_loopback():
    before = udp_sockets()
    with Dds(config()):
        opened = [each for each in udp_sockets() if each not in before]
        assert len(opened) >= 3
        assert [each for each in opened if each[0] != "127.0.0.1" and each[2] != "lo"] == []


def test_nothing_is_sent_beyond_loopback():
    """By what a listener on every interface sees of the domain's ports."""
    try:
        ear = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    except (PermissionError, AttributeError):
        pytest.skip("only root may listen on every interface")
    seen: dict[str, set[str]] = {}
    with ear, echoing(STATE), Dds(config()) as bridge:
        ear.settimeout(0.2)
        goes, comes = bridge.advertise("to", STATE), bridge.subscribe("from", STATE, DEFAULT)
        end = time.monotonic() + 1
        while time.monotonic() < end or not (goes.peers() and comes.peers()):
            assert time.monotonic() < end + 10
            goes.publish(panda())
            with contextlib.suppress(TimeoutError):
                note(*ear.recvfrom(65536), seen)
    assert seen == {"lo": {"127.0.0.1"}}


def note(packet, where, seen):
    """To which address a packet for the domain's ports goes, by interface."""
    header, first = 4 * (packet[0] & 15), 7400 + 250 * DOMAIN
    port = struct.unpack_from(">H", packet, header + 2)[0] if packet[9] == socket.IPPROTO_UDP else 0
    if first <= port < first + 250:
        seen.setdefault(where[0], set()).add(socket.inet_ntoa(packet[16:20]))


def test_rubbish_on_the_ports_changes_nothing():
    """Random bytes, and random ones behind the head of a DDS packet; then a message arrives as ever."""
    rng = np.random.default_rng(0)
    before = udp_sockets()
    with Dds(config()) as bridge, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thrower:
        goes, comes = bridge.advertise("state", STATE), bridge.subscribe("state", STATE, DEFAULT)
        ports = [each[1] for each in udp_sockets() if each not in before and each[1]]
        for number in range(3000):
            head = (
                b"RTPS\2\1\1\x10" + rng.bytes(12) + bytes([rng.choice([2, 6, 7, 9, 12, 14, 18, 21, 22]), 1])
                if number % 3
                else b""
            )
            thrower.sendto(head + rng.bytes(int(rng.integers(0, 300))), ("127.0.0.1", ports[number % len(ports)]))
        goes.publish(panda())
        assert same(collect(comes, 1)[0][0], panda())
        assert comes.refused == 0


def test_multicast_is_for_networks_only():
    assert "<AllowMulticast>false" in configuration(config(multicast=True))
    assert "<AllowMulticast>true" in configuration(config(multicast=True, interface="eth0"))
    assert "<Interfaces>" not in configuration(config(interface=None))
