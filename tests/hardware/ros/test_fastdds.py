"""A second vendor's DDS and CDR understand us: eProsima Fast DDS, in a process of its own, sends every JointState back."""

import time

import numpy as np
import pytest

pytest.importorskip("cyclonedds")
pytest.importorskip("rosbags")

from hardware.ros.bridge import DEFAULT, SENSOR, Qos
from hardware.ros.cdr import codec
from hardware.ros.dds import Dds
from tests.hardware.ros import fastdds
from tests.hardware.ros.dds_peers import DOMAIN, config, until
from tests.hardware.ros.references import panda, random_message, same

pytestmark = pytest.mark.skipif(fastdds.missing() is not None, reason=str(fastdds.missing()))

STATE = "sensor_msgs/msg/JointState"
COUNT = 1000


@pytest.fixture
def echo():
    process = fastdds.start(DOMAIN, "rt/arm/command", "rt/arm/state")
    yield process
    process.kill()
    process.communicate()


def test_fast_dds_sends_back_what_it_was_sent(echo):
    """Byte for byte, after it has taken every message apart and put it together again."""
    rng, found = np.random.default_rng(0), []
    sent = [panda(), *(random_message(STATE, rng) for _ in range(COUNT - 1))]
    with Dds(config()) as bridge:
        goes, comes = (
            bridge.advertise("/arm/command", STATE, Qos(True, COUNT)),
            bridge.subscribe("/arm/state", STATE, Qos(True, COUNT)),
        )
        until(lambda: goes.peers() == comes.peers() == 1)
        for message in sent:
            goes.publish(message)
            found += comes.take()
            time.sleep(5e-4)
        until(lambda: found.extend(comes.take()) or len(found) == COUNT)
        assert comes.refused == 0
    assert [codec(STATE).write(message) for message, _ in found] == [codec(STATE).write(message) for message in sent]
    assert same(found[0][0], panda())
    assert int(echo.communicate("")[0]) == COUNT


def test_its_reader_wants_more_than_a_sensor_gives(echo):
    """Its reliable ends meet ours by the same rules as ROS nodes do."""
    with Dds(config()) as bridge:
        goes, comes = bridge.advertise("/arm/command", STATE, SENSOR), bridge.subscribe("/arm/state", STATE, SENSOR)
        until(lambda: comes.peers() == 1)
        assert goes.peers() == 0
        assert bridge.advertise("/arm/command", STATE, DEFAULT).publish(panda()) is None
