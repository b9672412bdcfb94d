"""An arm that would touch itself: distances against closed forms and MuJoCo, and what leaves the guard for adversaries."""

import math
import random

import numpy as np
import pytest
from omegaconf import OmegaConf

from hardware import safety
from hardware.collision import Bodies, Collision, Joint, Sphere
from hardware.drivers.base import Reading
from hardware.guard import Action, Guard, Mode
from hardware.limits import Channel, Family, Limits, Safe, load
from hardware.lookahead import Lookahead, stretch
from robot.core.errors import ConfigError, DriverError
from robot.core.interface import Field, Interface
from robot.core.paths import ROOT
from tests.hardware.test_safety import adversary, broken, limits, some_channel

IDENTITY = [1.0, 0.0, 0.0, 0.0]
NAMES = ("shoulder", "elbow")
UPPER, FORE = 0.4, 0.3
DT = 0.01


def planar(margin=0.02, excluded=()):
    """Two links in a plane; the foot, the elbow and the hand are spheres."""
    joints = [
        Joint("shoulder", "base", [0.0, 0.0, 0.0], IDENTITY, [0.0, 0.0, 1.0]),
        Joint("elbow", "shoulder", [UPPER, 0.0, 0.0], IDENTITY, [0.0, 0.0, 2.0]),  # of any length
    ]
    spheres = [
        Sphere("foot", "base", [0.0, 0.0, 0.0], 0.1),
        Sphere("arm", "shoulder", [UPPER, 0.0, 0.0], 0.06),
        Sphere("hand", "elbow", [FORE, 0.0, 0.0], 0.05),
    ]
    return Collision(margin, joints, spheres, [list(pair) for pair in excluded])


def gap(elbow):
    """Between foot and hand, by the law of cosines."""
    return np.sqrt(UPPER**2 + FORE**2 + 2 * UPPER * FORE * np.cos(elbow)) - 0.15


def test_gaps_of_two_links_are_those_of_the_law_of_cosines():
    bodies, postures = Bodies(planar(), NAMES), np.random.default_rng(0).uniform(-math.pi, math.pi, (500, 2))
    gaps = bodies.gaps(postures)
    pairs = [{bodies.names[a], bodies.names[b]} for a, b in zip(bodies.a, bodies.b, strict=True)]
    np.testing.assert_allclose(gaps[:, pairs.index({"foot", "hand"})], gap(postures[:, 1]), atol=1e-12)
    np.testing.assert_allclose(gaps[:, pairs.index({"foot", "arm"})], UPPER - 0.16, atol=1e-12)
    np.testing.assert_allclose(gaps[:, pairs.index({"arm", "hand"})], FORE - 0.11, atol=1e-12)


def test_channels_are_found_by_name():
    postures = np.random.default_rng(1).uniform(-3, 3, (20, 2))
    swapped = np.column_stack([postures[:, 1], np.full(20, 9.0), postures[:, 0]])
    here = Bodies(planar(), NAMES).gaps(postures)
    np.testing.assert_array_equal(Bodies(planar(), ("elbow", "gripper", "shoulder")).gaps(swapped), here)


def test_touching_names_the_nearest_pair_of_all_postures():
    bodies = Bodies(planar(), NAMES)
    folded = math.pi - 0.1  # 0.1 m from the foot's centre, and 0.19 m of arm and hand apart anyhow
    assert bodies.touching(np.array([[0.0, 0.0], [1.0, 1.0]])) is None
    told = bodies.touching(np.array([[0.0, 0.0], [0.5, folded], [1.0, 1.0]]))
    assert told is not None
    assert told == ("'foot' and 'hand' nearer than 0.02 m", pytest.approx(gap(folded)))
    assert Bodies(planar(excluded=[("hand", "foot")]), NAMES).touching(np.array([[0.5, folded]])) is None


def test_a_gap_of_exactly_the_margin_is_allowed():
    reached = float(Bodies(planar(), NAMES).gaps(np.array([[0.0, 2.5]])).min())
    assert Bodies(planar(margin=reached), NAMES).touching(np.array([[0.0, 2.5]])) is None
    assert Bodies(planar(margin=reached + 1e-9), NAMES).touching(np.array([[0.0, 2.5]])) is not None


def unit(rng, size):
    vector = rng.normal(size=size)
    return (vector / np.linalg.norm(vector)).tolist()


def test_a_random_tree_is_as_far_apart_as_mujoco_says():
    mujoco = pytest.importorskip("mujoco")
    rng = np.random.default_rng(2)
    names, parents = [f"j{k}" for k in range(7)], ["base", "j0", "j1", "j1", "base", "j4", "j3"]
    joints = [
        Joint(n, p, rng.uniform(-1, 1, 3).tolist(), unit(rng, 4), unit(rng, 3)) for n, p in zip(names, parents, strict=True)
    ]
    spheres = [Sphere(f"s_{on}", on, rng.uniform(-1, 1, 3).tolist(), float(rng.uniform(0.05, 0.3))) for on in ["base", *names]]
    spec = mujoco.MjSpec()
    bodies = {"base": spec.worldbody}
    for joint in joints:
        bodies[joint.channel] = bodies[joint.parent].add_body(pos=joint.offset, quat=joint.turn)
        bodies[joint.channel].add_joint(name=joint.channel, type=mujoco.mjtJoint.mjJNT_HINGE, axis=joint.axis)
    for sphere in spheres:
        size, kind = [sphere.radius, 0, 0], mujoco.mjtGeom.mjGEOM_SPHERE
        bodies[sphere.joint].add_geom(name=sphere.name, type=kind, size=size, pos=sphere.centre)
    model = spec.compile()
    data = mujoco.MjData(model)
    ours = Bodies(Collision(0.0, joints, spheres, []), names)
    for posture in rng.uniform(-math.pi, math.pi, (40, 7)):
        for name, angle in zip(names, posture, strict=True):
            data.qpos[model.joint(name).qposadr] = angle
        mujoco.mj_forward(model, data)
        theirs = [
            mujoco.mj_geomDistance(model, data, model.geom(ours.names[a]).id, model.geom(ours.names[b]).id, 100.0, None)
            for a, b in zip(ours.a, ours.b, strict=True)
        ]
        np.testing.assert_allclose(ours.gaps(posture[None])[0], theirs, atol=1e-9)


def simulated():
    """The simulated arm of seven joints, and its body as spheres."""
    model = pytest.importorskip("sim.arm.model")
    links = OmegaConf.load(ROOT / "configs" / "env" / "arm_lift.yaml").links
    names = model.joint_names(7)
    numbers = model.LinksConfig(**{**OmegaConf.to_container(links), "joints": 7})
    compiled = model.compiled(numbers, model.Thing(model.Shape.box, 0.04, 0.06), 0.0, 0.002)
    parent, joints = "base", []
    for name in names:
        body = compiled.joint(name).bodyid[0]
        offset, turn = compiled.body_pos[body].tolist(), compiled.body_quat[body].tolist()
        joints.append(Joint(name, parent, offset, turn, compiled.joint(name).axis.tolist()))
        parent = name
    return model.mujoco, compiled, names, joints


def test_the_spheres_of_the_simulated_arm_move_as_its_bodies_do():
    mujoco, model, names, joints = simulated()
    rng = np.random.default_rng(3)
    spheres = [Sphere(f"on_{name}", name, rng.uniform(-0.1, 0.1, 3).tolist(), 0.05) for name in names]
    ours, data = Bodies(Collision(0.0, joints, spheres, []), names), mujoco.MjData(model)
    for posture in rng.uniform(-2.5, 2.5, (50, 7)):
        data.qpos[:7] = posture
        mujoco.mj_kinematics(model, data)
        for place, sphere in zip(ours.places(posture[None])[0], spheres, strict=True):
            body = model.joint(sphere.joint).bodyid[0]
            expected = data.xpos[body] + data.xmat[body].reshape(3, 3) @ sphere.centre
            np.testing.assert_allclose(place, expected, atol=1e-12)


def guarded(collision, channels, safe=Safe.hold, dt=DT):
    names = tuple(channel.name for channel in channels)
    seen = (Field("joints", (len(names),), "float32", "rad", names=names),)
    interface = Interface(seen, Field("targets", (len(names),), "float32", "rad", names=names), dt)
    told = Limits(Family.joints, safe, dt, 0.05, 0.05, math.inf, [], list(channels), [], None, None, collision)
    return Guard(told, interface)


def play(guard, wanted, start, dt=DT):
    """All commands that leave (K, A) for what is wanted, re-armed after a hold has come to rest."""
    where, now, sent, faults = np.array(start, float), 1.0, [], []
    guard.arm(Reading({"joints": where.astype(np.float32)}, now, where), now)
    for values in wanted:
        now += dt
        before = guard.mode
        command = guard.tick(now, Reading({"joints": where.astype(np.float32)}, now, where), Action(values, now))
        if guard.mode is Mode.hold and before is not Mode.hold:
            faults.append(guard.reasons[-1])
        if command is not None:
            where = np.array(command)
            sent.append(command)
    return np.array(sent), faults


ARMS = {
    "jerk": [Channel(name, "rad", -3.1, 3.1, 3.0, 20.0, 400.0) for name in NAMES],
    "acceleration": [Channel(name, "rad", -3.1, 3.1, 3.0, 20.0, math.inf) for name in NAMES],
    "rate": [Channel(name, "rad", -3.1, 3.1, 3.0, math.inf, math.inf) for name in NAMES],
}


@pytest.mark.parametrize("kind", ARMS)
def test_an_arm_that_is_told_to_fold_stops_before_it_touches_itself(kind):
    guard = guarded(planar(), ARMS[kind])
    sent, faults = play(guard, [[0.0, 3.0]] * 300, [0.0, 0.5])
    assert guard.mode is Mode.hold
    assert len(faults) == 1
    assert "'foot' and 'hand'" in faults[0]
    gaps = gap(sent[:, 1])
    assert gaps.min() >= 0.02
    assert gaps[-1] < 0.02 + 3.0 * DT * UPPER + 0.01  # no earlier than it must
    assert np.ptp(sent[-20:], axis=0).max() < 1e-9
    for k, channel in enumerate(ARMS[kind]):
        assert broken(sent[:, k].tolist(), channel, DT, [0.0, 0.5][k]) is None


@pytest.mark.parametrize("kind", ARMS)
def test_adversaries_never_make_it_touch_itself(kind):
    """Not even on the way that braking takes: whenever it stops, it stops free."""
    rng, faults, wide = random.Random(4), 0, planar()
    wide.spheres[0].radius += 0.15  # in the way more often
    for _ in range(30):
        wanted = list(zip(*[adversary(rng, channel, DT, 500) for channel in ARMS[kind]], strict=True))
        wanted = [[0.0 if x is None or not abs(x) < 4 else x for x in row] for row in wanted]  # the guard faults on others
        guard = guarded(wide, ARMS[kind])
        sent, found = play(guard, wanted, [0.0, rng.uniform(-1, 1)])
        faults += len(found)
        assert gap(sent[:, 1]).min() >= 0.02 + 0.15
    assert faults >= 3


@pytest.mark.parametrize("order", [1, 2, 3])
def test_braking_gets_no_farther_than_its_stretch(order):
    """Brute force: in whatever state adversaries leave a channel."""
    rng, tried = random.Random(order), 0
    while tried < 60:
        channel, dt = some_channel(rng), rng.choice([0.001, 0.005, 0.02])
        try:
            bounds = safety.bounds(limits(dt, channel))
        except ConfigError:
            continue
        if bounds[0].order != order:
            continue
        tried += 1
        state = safety.rest([0.0])
        for k, value in enumerate(adversary(rng, channel, dt, 100)):
            _, state, _ = safety.step(None if value is None else [value], state, bounds, dt)
            if k % 5:
                continue
            allowed, here, braking, steps = stretch(state[0][1], state[0][2], bounds[0], dt), state[0][0], state, 0
            while (abs(braking[0][1]) > 1e-9 or abs(braking[0][2]) > 1e-9) and steps < 5000:
                command, braking, _ = safety.step(None, braking, bounds, dt)
                assert abs(command[0] - here) <= allowed + 1e-9
                steps += 1


def test_levers_bound_how_much_nearer_spheres_come():
    rng = np.random.default_rng(6)
    names, parents = ["a", "b", "c", "d"], ["base", "a", "a", "c"]
    joints = [
        Joint(n, p, rng.uniform(-1, 1, 3).tolist(), unit(rng, 4), unit(rng, 3)) for n, p in zip(names, parents, strict=True)
    ]
    spheres = [Sphere(f"s_{on}", on, rng.uniform(-1, 1, 3).tolist(), 0.1) for on in ["base", *names]]
    bodies = Bodies(Collision(0.0, joints, spheres, []), ["gripper", *names])
    assert not bodies.levers[:, 0].any()
    postures = rng.uniform(-3, 3, (4000, 5))
    for k in range(5):
        moved = postures.copy()
        moved[:, k] += 1e-4
        change = np.abs(bodies.gaps(moved) - bodies.gaps(postures)).max(axis=0) / 1e-4
        assert (change <= bodies.levers[:, k] + 1e-6).all()
        assert (change >= 0.05 * bodies.levers[:, k]).all()  # and not by much too much


def test_looking_ahead_says_what_looking_at_every_posture_says():
    """The shortcut is one: over whole runs it says the same as a lookahead that remembers nothing."""
    rng, told = random.Random(7), []
    bodies, bounds = Bodies(planar(), NAMES), safety.bounds(limits(DT, *ARMS["jerk"]))
    quick = Lookahead(bodies, bounds, DT)
    for _ in range(20):
        state = safety.rest([0.0, rng.uniform(-1, 1)])
        for row in zip(*[adversary(rng, channel, DT, 200) for channel in ARMS["jerk"]], strict=True):
            command, state, _ = safety.step([math.nan if x is None else x for x in row], state, bounds, DT)
            thorough = bodies.touching(Lookahead(bodies, bounds, DT)._path(command, state))
            told.append(quick.touching(command, state))
            assert told[-1] == (thorough[0] if thorough else None)
    assert 0 < sum(near is not None for near in told) < len(told) / 2


def test_a_safe_command_that_would_touch_is_not_sent_either():
    """Zero is where the elbow of this arm is folded: it brakes instead, wherever it is."""
    folded = planar()
    folded.joints[1].turn = [0.0, 0.0, 0.0, 1.0]
    guard = guarded(folded, ARMS["jerk"], Safe.zero)
    sent, faults = play(guard, [[0.0, math.nan]] * 300, [0.0, 1.5])
    assert "not finite" in faults[0]
    assert gap(math.pi - sent[:, 1]).min() >= 0.02
    assert [reason for reason in guard.reasons if "'foot' and 'hand'" in reason] == [guard.reasons[-1]]  # said once


def test_what_keeps_apart_passes_untouched():
    channels = ARMS["jerk"]
    wanted = [[0.5 * math.sin(k * DT), 0.5 + 0.5 * math.sin(0.7 * k * DT)] for k in range(400)]
    free, _ = play(guarded(None, channels), wanted, [0.0, 0.5])
    watched, faults = play(guarded(planar(), channels), wanted, [0.0, 0.5])
    assert not faults
    np.testing.assert_array_equal(free, watched)


def test_it_is_not_armed_where_it_touches_itself():
    guard = guarded(planar(), ARMS["jerk"])
    with pytest.raises(DriverError, match=r"'foot' and 'hand' nearer than 0.02 m, -?0\.\d+ m: move them apart"):
        play(guard, [], [0.0, 3.0])
    assert guard.mode is Mode.idle


def changed(**changes):
    """planar(), with other values by path: joints.0.axis=..."""
    found = OmegaConf.structured(planar())
    for path, value in changes.items():
        OmegaConf.update(found, path.replace("__", "."), value)
    return OmegaConf.to_object(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"margin": -0.1}, "margin"),
        ({"margin": math.inf}, "margin"),
        ({"joints__0__channel": "hip"}, "hip.*one of the channels"),
        ({"joints__1__channel": "shoulder"}, "once"),
        ({"joints__0__parent": "elbow"}, "before it"),
        ({"joints__1__parent": "nowhere"}, "nowhere"),
        ({"joints__0__offset": [0.0, 0.0]}, "offset.*3 finite numbers"),
        ({"joints__0__offset": [0.0, 0.0, math.nan]}, "offset.*finite"),
        ({"joints__0__turn": [0.0] * 4}, "turn is all zero"),
        ({"joints__0__turn": [1.0]}, "turn.*4 finite"),
        ({"joints__0__axis": [0.0] * 3}, "axis is all zero"),
        ({"spheres__0__name": "hand"}, "named once"),
        ({"spheres__0__joint": "knee"}, "knee"),
        ({"spheres__0__centre": [0.0]}, "centre"),
        ({"spheres__0__radius": 0.0}, "radius"),
        ({"spheres__0__radius": math.nan}, "radius"),
        ({"excluded": [["foot", "head"]]}, "head"),
        ({"excluded": [["foot"]]}, "two of"),
        ({"excluded": [["foot", "hand"], ["arm", "hand"], ["arm", "foot"]]}, "no two spheres are left"),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_in_words(change, words):
    with pytest.raises(ConfigError, match=words):
        Bodies(changed(**change), NAMES)


YAML = """
family: joints
safe: hold
dt: 0.01
command_age: 0.05
observation_age: 0.05
frozen: .inf
trembling: []
channels:
  - {name: shoulder, unit: rad, low: -3.0, high: 3.0, rate: 2.0, rate2: 20.0, rate3: .inf}
  - {name: elbow, unit: rad, low: -3.0, high: 3.0, rate: 2.0, rate2: 20.0, rate3: .inf}
measured: []
fence: null
tilt: null
collision:
  margin: 0.02
  joints:
    - {channel: shoulder, parent: base, offset: [0, 0, 0.1], turn: [1, 0, 0, 0], axis: [0, 0, 1]}
    - {channel: elbow, parent: shoulder, offset: [0.4, 0, 0], turn: [1, 0, 0, 0], axis: [0, 0, 1]}
  spheres:
    - {name: foot, joint: base, centre: [0, 0, 0.1], radius: 0.1}
    - {name: hand, joint: elbow, centre: [0.3, 0, 0], radius: 0.05}
  excluded: []
"""


def test_a_body_is_read_from_yaml(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text(YAML)
    found = load(file)
    assert found.collision is not None
    assert Bodies(found.collision, NAMES).gaps(np.array([[0.3, 0.0]])) == pytest.approx(0.55)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: elbow, unit: rad", "name: elbow, unit: m", "angles in rad"),
        ("rate: 2.0, rate2: 20.0", "rate: .inf, rate2: .inf", "finite rate"),
        ("joint: elbow", "joint: wrist", "wrist"),
        ("radius: 0.1}", "radios: 0.1}", "radios"),
        (YAML[YAML.index("collision:") :], "", "collision"),
    ],
)
def test_a_wrong_body_in_yaml_is_refused_in_one_line(tmp_path, old, new, words):
    file = tmp_path / "limits.yaml"
    file.write_text(YAML.replace(old, new))
    with pytest.raises(ConfigError, match=words) as error:
        load(file)
    assert "\n" not in str(error.value)
