"""The wheeled base against what wheels, friction and walls must do."""

import math
import time

import mujoco
import numpy as np
import pytest

from robot.core.errors import ConfigError
from sim.navigation.scene import CELL, LAYERS, Scene
from sim.physics.rays import RayCaster
from sim.physics.wheeled import WheeledBase, WheeledConfig

NOMINAL = WheeledConfig(friction=0.8, motor_lag=0.05, payload=0.0)


def room(side: float = 12.0, boxes: int = 0) -> Scene:
    """A square room with 10 cm walls, and boxes away from its middle."""
    n = round(side / CELL)
    solids = np.zeros((n, n, LAYERS, 2), np.uint8)
    rng = np.random.default_rng(0)
    for _ in range(boxes):
        x, y = rng.integers(0, n - 10, 2)
        if max(abs(x - n // 2), abs(y - n // 2)) > 40:
            solids[y : y + 6, x : x + 8, 0, 1] = rng.integers(10, 90)
    for edge in (np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]):
        solids[edge][..., 0, 1] = 100
    return Scene(solids, np.zeros(solids.shape[:3], np.uint8), math.inf, "room", "train", 0)


@pytest.fixture(scope="module")
def base() -> WheeledBase:
    return WheeledBase(room(), NOMINAL)


def test_stands_still(base: WheeledBase) -> None:
    base.reset(6.0, 6.0, 0.3)
    before = base.state
    base.step(0.0, 0.0, 10.0)
    moved = (base.state - before)[1:8]
    assert np.abs(moved).max() < 1e-6
    assert np.hypot(*base.velocity) < 1e-6
    assert not base.contact


@pytest.mark.parametrize("v", [0.3, 0.8])
def test_straight_line_is_as_long_as_commanded(base: WheeledBase, v: float) -> None:
    base.reset(2.0, 6.0, 0.0)
    base.step(v, 0.0, 2.0)
    x, y, _ = base.pose
    base.step(v, 0.0, 5.0)
    assert base.pose[0] - x == pytest.approx(5.0 * v, rel=0.01)
    assert abs(base.pose[1] - y) < 1e-3
    assert not base.contact


@pytest.mark.parametrize("w", [-1.5, 0.5, 1.5])
def test_turns_at_the_commanded_rate(base: WheeledBase, w: float) -> None:
    base.reset(6.0, 6.0, 0.0)
    base.step(0.0, w, 1.0)
    start, total = base.pose[2], 0.0
    for _ in range(40):
        base.step(0.0, w, 0.1)
        total += math.remainder(base.pose[2] - start, 2 * math.pi)
        start = base.pose[2]
    assert total == pytest.approx(4.0 * w, rel=0.04)
    assert np.hypot(base.pose[0] - 6.0, base.pose[1] - 6.0) < 0.01


def test_arc_has_the_radius_v_over_w(base: WheeledBase) -> None:
    base.reset(6.0, 6.0, 0.0)
    base.step(0.5, 0.5, 1.0)
    places = []
    for _ in range(130):
        base.step(0.5, 0.5, 0.1)
        places.append(base.pose[:2])
    assert np.ptp(np.array(places), axis=0) == pytest.approx([2.0, 2.0], rel=0.02)


def test_motor_lag_delays_the_start() -> None:
    quick, slow = (WheeledBase(room(), WheeledConfig(0.8, lag, 0.0)) for lag in (0.02, 0.3))
    for base in (quick, slow):
        base.step(0.1, 0.0, 0.3)
    assert quick.velocity[0] == pytest.approx(0.1, rel=0.05)
    assert slow.velocity[0] == pytest.approx(0.1 * (1 - math.exp(-1.0)), rel=0.1)


def test_acceleration_is_bounded_by_friction() -> None:
    """Coulomb: wheels that carry 83 % of the weight accelerate the robot at no more than 0.83 mu g."""
    for friction in (0.05, 0.1):
        base = WheeledBase(room(), WheeledConfig(friction, 0.02, 0.0))
        base.step(0.8, 0.0, 0.4)
        assert base.velocity[0] == pytest.approx(0.83 * friction * 9.81 * 0.4, rel=0.12)


def test_slip_shows_between_wheels_and_ground() -> None:
    def slip(friction: float) -> float:
        base = WheeledBase(room(), WheeledConfig(friction, 0.05, 0.0))
        x, encoders = base.pose[0], base.wheel_angles
        base.step(0.8, 0.0, 1.0)
        return 1.0 - (base.pose[0] - x) / base.odometry(encoders)[0]

    assert slip(0.8) < 0.08
    assert slip(0.1) > 0.4


def test_encoders_agree_with_the_ground_when_the_tyres_hold(base: WheeledBase) -> None:
    """An implicit wheel servo fails this by 17 mm: the solver then applies tyre forces that the integrator does not expect."""
    base.reset(3.0, 6.0, 0.0)
    x, encoders = base.pose[0], base.wheel_angles
    for speed in (*np.arange(0.05, 0.85, 0.05), *np.arange(0.75, -0.01, -0.05)):
        base.step(speed, 0.0, 0.05)
        assert base.odometry(encoders)[0] == pytest.approx(base.pose[0] - x, abs=0.002)
    assert base.pose[0] - x > 0.6


def test_payload_makes_it_heavier() -> None:
    light, heavy = (WheeledBase(room(), WheeledConfig(0.8, 0.05, load)).model for load in (0.0, 15.0))
    assert sum(light.body_mass) == pytest.approx(20.0)
    assert sum(heavy.body_mass) == pytest.approx(35.0)


def test_wall_stops_it_and_nothing_explodes_in_a_minute(base: WheeledBase) -> None:
    base.reset(11.0, 6.0, 0.4)
    touched = 0
    for k in range(600):
        base.step(0.8, 0.2 * math.sin(0.1 * k), 0.1)
        touched += base.contact
        assert np.isfinite(base.state).all()
        assert -0.01 < base.state[3] < 0.05
    assert touched > 300
    assert base.pose[0] < 12.0 - 0.1 - 0.25 + 0.01
    assert base.restarts == 0


def test_contact_tells_the_floor_and_what_is_overhead_from_a_wall() -> None:
    scene = room()
    scene.solids[:, 150:160, 0] = 24, 60
    scene.solids[:, 180:182, 0] = 0, 2
    base = WheeledBase(scene, NOMINAL)
    base.reset(6.5, 6.0, 0.0)
    reached = 0.0
    for _ in range(200):
        base.step(0.8, 0.0, 0.05)
        if base.contact:
            break
        reached = base.pose[0]
    assert base.contact
    assert reached == pytest.approx(12.0 - 0.1 - 0.25, abs=0.05)


def test_disc_that_walks_into_the_robot_is_felt() -> None:
    person = np.array([[7.0, 6.0, 0.3, 1.7], [0.0, 0.0, 0.0, 0.0]], np.float32)
    base = WheeledBase(room(), NOMINAL, person)
    base.reset(6.0, 6.0, 0.0)
    assert not base.contact
    person[0, 0] = 6.5
    base.move(person)
    base.step(0.0, 0.0, 0.05)
    assert base.contact


def test_divergence_falls_back_to_the_last_state(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    base = WheeledBase(room(), NOMINAL)
    base.step(0.5, 0.0, 1.0)
    place = base.pose
    base.data.qpos[:] = 0.0
    base._state[0, 1 + base.model.nq] = 1e12
    base.step(0.5, 0.0, 0.05)
    assert base.restarts == 1
    assert base.contact
    assert base.pose == pytest.approx(place)
    base.step(0.5, 0.0, 1.0)
    assert base.restarts == 1
    assert base.pose[0] > place[0] + 0.3


def test_same_commands_same_numbers() -> None:
    def drive() -> np.ndarray:
        base = WheeledBase(room(boxes=40), NOMINAL)
        for k in range(100):
            base.step(0.5, math.sin(k), 0.05)
        return base.state

    assert (drive() == drive()).all()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="friction"):
        WheeledBase(room(), WheeledConfig(0.0, 0.05, 0.0))


def test_twenty_times_real_time_in_a_furnished_room() -> None:
    base = WheeledBase(room(boxes=200), NOMINAL)
    rng = np.random.default_rng(0)
    start = time.process_time()
    for _ in range(200):
        base.step(rng.uniform(0, 0.8), rng.uniform(-1.5, 1.5), 0.05)
    assert 10.0 / (time.process_time() - start) > 20


def test_rays_see_the_wall_and_not_the_robot() -> None:
    base = WheeledBase(room(), NOMINAL, np.array([[8.0, 6.0, 0.3, 1.7]], np.float32))
    eye = RayCaster(lambda _: base, 1, 48, 64, 5.0)
    eye.set_camera(np.array([0]), np.array([0.3]), np.array([0.0]), np.array([math.pi / 2]))
    depth = np.empty((1, 48, 64), np.float32)
    pose = np.array([[8.0, 6.0, 0.0]])
    eye.cast(np.array([0]), pose, np.zeros((1, 0, 4), np.float32), depth)
    assert depth[0, 23] == pytest.approx(np.full(64, 3.9), abs=1e-3)
    assert depth[0, -1, 32] == pytest.approx(0.3 * 32 / 23.5, abs=1e-3)
    eye.cast(np.array([0]), pose, np.array([[[10.0, 6.5, 0.3, 1.7]]], np.float32), depth)
    near = depth[0, 23] < 3.0
    assert near[:32].any()
    assert not near[32:].any()


def test_robot_stands_on_both_wheels_and_one_caster(base: WheeledBase) -> None:
    base.reset(6.0, 6.0, 0.0)
    data = base.synchronise()
    mujoco.mj_collision(base.model, data)
    names = {base.model.geom(pair[0]).name + base.model.geom(pair[1]).name for pair in data.contact.geom}
    assert len(names) == 3
    assert not any("caster_front" in name for name in names)
