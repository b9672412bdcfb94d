"""The DDS bridge against Cyclone DDS' own objects, against itself in another process, and what never may leave or block."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

from cyclonedds._clayer import ddspy_write, ddspy_write_ts
from cyclonedds.core import Policy
from cyclonedds.core import Qos as CycloneQos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from hardware.ros import dds
from hardware.ros.bridge import DEFAULT, LATCHED, SENSOR, Qos
from hardware.ros.cdr import codec
from hardware.ros.dds import Dds, configuration
from hardware.ros.messages import default, kinds
from hardware.ros.typehash import typehash
from robot.core.errors import DriverError, MessageError
from robot.core.paths import ROOT
from tests.hardware.ros.dds_peers import DOMAIN, collect, config, echoing, until
from tests.hardware.ros.references import cyclone_message, cyclone_type, panda, random_message, same

STATE = "sensor_msgs/msg/JointState"


@pytest.fixture
def bridge():
    with Dds(config()) as opened:
        yield opened


@pytest.fixture
def pair(bridge):
    """A publisher and a subscription that have found each other."""

    def make(kind=STATE, topic="/state", there=DEFAULT, here=DEFAULT):
        found = SimpleNamespace(goes=bridge.advertise(topic, kind, there), comes=bridge.subscribe(topic, kind, here))
        until(lambda: found.goes.peers() == found.comes.peers() == 1)
        return found

    return make


@pytest.fixture
def other():
    """Another process that sends back what it gets: other(kind) starts it."""
    with contextlib.ExitStack() as stack:
        yield lambda kind=STATE: stack.enter_context(echoing(kind))


def test_a_thousand_states_go_to_another_process_and_back_in_order(other, bridge):
    other()
    goes, comes = bridge.advertise("/to", STATE, Qos(True, 1000)), bridge.subscribe("from", STATE, Qos(True, 1000))
    until(lambda: goes.peers() == comes.peers() == 1)
    rng, sent, found = np.random.default_rng(0), [], []
    for number in range(1000):
        message = random_message(STATE, rng)
        message["header"]["stamp"]["sec"] = number
        sent.append(message)
        goes.publish(message)
        found += comes.take()
        time.sleep(2e-4)
    until(lambda: found.extend(comes.take()) or len(found) == len(sent))
    assert all(same(message, original) for (message, _), original in zip(found, sent, strict=True))
    stamps = [stamp for _, stamp in found]
    assert stamps == sorted(stamps)
    assert comes.refused == 0


@pytest.mark.parametrize(
    "kind", [STATE, "sensor_msgs/msg/Imu", "tf2_msgs/msg/TFMessage", "std_msgs/msg/Empty", "rcl_interfaces/msg/Log"]
)
def test_what_we_send_is_what_the_library_reads_and_the_reverse(bridge, kind):
    participant = DomainParticipant(DOMAIN)
    package, name = kind.split("/msg/")
    assert cyclone_type(kind).__idl_typename__ == f"{package}::msg::dds_::{name}_"
    reliable = CycloneQos(Policy.Reliability.Reliable(10**9), Policy.History.KeepLast(50))
    plain = CycloneQos(*reliable, Policy.DataRepresentation(use_cdrv0_representation=True))
    reader = DataReader(participant, Topic(participant, "rt/arm/there", cyclone_type(kind)), plain)
    writer = DataWriter(participant, Topic(participant, "rt/arm/here", cyclone_type(kind)), plain)
    goes, comes = bridge.advertise("/arm/there", kind, Qos(True, 50)), bridge.subscribe("/arm/here", kind, Qos(True, 50))
    until(lambda: goes.peers() == comes.peers() == 1)
    rng = np.random.default_rng(1)
    messages = [random_message(kind, rng) for _ in range(20)]
    objects = [cyclone_message(kind, message) for message in messages]
    for message, object in zip(messages, objects, strict=True):
        goes.publish(message)
        writer.write(object)
    found = []
    until(lambda: found.extend(reader.take(50)) or len(found) == 20)
    assert [each.serialize(use_version_2=False) for each in found] == [each.serialize(use_version_2=False) for each in objects]
    assert all(same(message, original) for (message, _), original in zip(collect(comes, 20), messages, strict=True))


def test_others_are_told_the_type_and_its_hash(bridge):
    participant = DomainParticipant(DOMAIN)
    qos = CycloneQos(Policy.Reliability.BestEffort, Policy.DataRepresentation(use_cdrv0_representation=True))
    reader = DataReader(participant, Topic(participant, "rt/state", cyclone_type(STATE)), qos)
    bridge.advertise("state", STATE, Qos(True, 7))
    until(reader.get_matched_publications)
    told = reader.get_matched_publication_data(reader.get_matched_publications()[0])
    assert (told.topic_name, told.type_name) == ("rt/state", "sensor_msgs::msg::dds_::JointState_")
    assert Policy.Userdata(f"typehash={typehash(STATE)};".encode()) in told.qos
    assert Policy.Durability.Volatile in told.qos


def test_every_kind_can_be_advertised(bridge):
    for number, kind in enumerate(kinds()):
        bridge.advertise(f"/kind/{kind}", kind).publish(default(kind))
        if number % 30 == 29:  # topics are not for free
            bridge.close()
            bridge.open()


def test_who_comes_late_gets_what_is_latched_and_nothing_else(bridge):
    for topic, qos in (("latched", LATCHED), ("volatile", DEFAULT)):
        goes = bridge.advertise(topic, STATE, qos)
        for number in range(3):
            message = panda()
            message["header"]["stamp"]["sec"] = number
            goes.publish(message)
    latched, volatile = bridge.subscribe("latched", STATE, LATCHED), bridge.subscribe("volatile", STATE, DEFAULT)
    until(lambda: latched.peers() == volatile.peers() == 1)
    assert [message["header"]["stamp"]["sec"] for message, _ in collect(latched, 1)] == [2]
    assert volatile.take() == []


def test_the_newest_are_kept_in_order(pair):
    ends = pair(here=Qos(True, 5))
    for number in range(20):
        ends.goes.publish({**panda(), "name": [str(number)]})
    time.sleep(0.2)
    assert [message["name"] for message, _ in ends.comes.take()] == [["15"], ["16"], ["17"], ["18"], ["19"]]
    assert ends.comes.take() == []
    assert ends.comes.newest() is None


def test_ends_that_ask_for_more_than_is_offered_do_not_meet(bridge):
    """As in ROS: a reader that wants all of a writer that may lose some; a latched reader of a writer that forgets."""
    for number, (there, here, meet) in enumerate(
        [(SENSOR, DEFAULT, 0), (DEFAULT, SENSOR, 1), (DEFAULT, LATCHED, 0), (LATCHED, DEFAULT, 1)]
    ):
        goes, comes = bridge.advertise(f"t{number}", STATE, there), bridge.subscribe(f"t{number}", STATE, here)
        time.sleep(0.1)
        until(lambda goes=goes, comes=comes, meet=meet: goes.peers() == comes.peers() == meet)


def test_large_messages_arrive_whole(other, bridge):
    kind = "sensor_msgs/msg/Image"
    other(kind)
    goes, comes = bridge.advertise("to", kind), bridge.subscribe("from", kind, DEFAULT)
    until(lambda: goes.peers() == comes.peers() == 1)
    image = {**default(kind), "data": np.random.default_rng(2).integers(0, 256, 1080 * 1920 * 3, np.uint8)}
    goes.publish(image)
    assert same(collect(comes, 1)[0][0], image)


def test_what_cannot_be_read_is_counted_and_the_rest_goes_on(pair):
    ends = pair()
    data = codec(STATE).write(panda())
    for wrong in (data + bytes(-len(data) % 4 + 8), data):
        assert ddspy_write(ends.goes._writer._ref, wrong) == 0
    assert same(collect(ends.comes, 1)[0][0], panda())
    assert ends.comes.refused == 1


def test_what_is_wrong_or_too_large_is_not_sent():
    with Dds(config(limit=1000)) as bridge:
        goes = bridge.advertise("state", STATE)
        with pytest.raises(MessageError, match="position"):
            goes.publish({**panda(), "position": "left"})
        with pytest.raises(MessageError, match="limit of 1000"):
            goes.publish({**panda(), "position": np.zeros(1000)})


def test_a_reader_that_has_stopped_gets_the_newest_when_it_goes_on_and_holds_nobody_up(other, bridge):
    reader = other()
    goes, comes = bridge.advertise("to", STATE, Qos(True, 5)), bridge.subscribe("from", STATE, Qos(True, 1000))
    until(lambda: goes.peers() == comes.peers() == 1)
    reader.send_signal(signal.SIGSTOP)
    rest = np.zeros(2000)
    for number in range(1000):
        goes.publish({**panda(), "position": rest, "name": [str(number)]})
    reader.send_signal(signal.SIGCONT)
    found = []
    until(lambda: found.extend(message["name"][0] for message, _ in comes.take()) or "999" in found)
    assert found[-5:] == ["995", "996", "997", "998", "999"]
    assert len(found) < 900


def test_messages_are_as_old_as_they_are(pair):
    """Also those that lay about until they were fetched, and whatever the sender's clock says."""
    ends = pair()
    ends.goes.publish(panda())
    collect(ends.comes, 1)
    before = time.monotonic()
    ends.goes.publish(panda())
    after = time.monotonic()
    time.sleep(0.3)
    ((_, stamp),) = ends.comes.take()
    assert before - 0.1 <= stamp <= after + 0.1
    for wrong in (-3600, 3600, 0):
        fetched = time.monotonic()
        ends.comes.take()
        data = codec(STATE).write(panda())
        assert ddspy_write_ts(ends.goes._writer._ref, data + bytes(-len(data) % 4), time.time_ns() + wrong * 10**9) == 0
        ((_, stamp),) = collect(ends.comes, 1)
        assert fetched <= stamp <= time.monotonic()


def remains():
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def test_nothing_is_left_open():
    kept, sizes = [], []
    for _ in range(5):
        with Dds(config()) as bridge:
            kept += [bridge.advertise("state", STATE), bridge.subscribe("state", STATE), bridge._participant]
        sizes.append(remains())
    assert sizes[0] == sizes[-1]
    assert dds.Domain._known == {}
    again = Domain(DOMAIN, configuration(config(limit=5)))  # refused while a domain is open
    del again


def test_closed_ends_say_so():
    bridge = Dds(config())
    with pytest.raises(DriverError, match="not open"):
        bridge.subscribe("state", STATE)
    bridge.open()
    goes, comes = bridge.advertise("state", STATE), bridge.subscribe("state", STATE)
    with pytest.raises(DriverError, match="open already"):
        bridge.open()
    bridge.close()
    bridge.close()
    with pytest.raises(DriverError, match=r"/?state: the bridge was closed"):
        goes.publish(panda())
    with pytest.raises(DriverError, match=r"/?state: the bridge was closed"):
        comes.take()
    assert (goes.peers(), comes.peers()) == (0, 0)


def test_bridges_of_one_domain_share_it_and_must_agree(bridge):
    with Dds(config()) as second:
        comes, goes = second.subscribe("state", STATE, DEFAULT), bridge.advertise("state", STATE)
        until(lambda: comes.peers() == 1)
        goes.publish(panda())
        assert same(collect(comes, 1)[0][0], panda())
        held, domain = second._participant, dds.Domain._known[DOMAIN].handle
        assert held in domain.get_participants()
    assert domain.get_participants() == [bridge._participant]
    with pytest.raises(DriverError, match="another config"):
        Dds(config(limit=7)).open()
    bridge.advertise("still", STATE).publish(panda())


@pytest.mark.parametrize("topic", ["", "/", "a b", "/a//b", "a/", "1st", "über", "~/x", "{node}", "a-b"])
def test_names_that_ros_would_refuse(bridge, topic):
    with pytest.raises(DriverError, match="no name of a topic"):
        bridge.subscribe(topic, STATE)


def test_user_errors_are_one_line(bridge, monkeypatch):
    with pytest.raises(MessageError, match="near it: sensor_msgs/msg/JointState"):
        bridge.subscribe("state", "sensor_msgs/msg/JointStates")
    with pytest.raises(DriverError, match="state: DDS refuses it"):
        bridge.subscribe("state", STATE, Qos(True, 0))
    with pytest.raises(DriverError, match=r"no network interface 'wlan9'; .*lo"):
        Dds(config(interface="wlan9", domain=DOMAIN + 1)).open()
    with pytest.raises(DriverError, match=r"no DDS domain 233; bridge\.domain is 0 to 232"):
        Dds(config(domain=233))
    monkeypatch.setitem(sys.modules, "cyclonedds.core", None)
    with pytest.raises(DriverError, match=r"tiller\[ros\]"):
        dds._library.__wrapped__()


def test_the_module_is_there_without_the_package():
    script = "import sys, hardware.ros.dds; sys.exit('cyclonedds' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(ROOT)).returncode == 0
