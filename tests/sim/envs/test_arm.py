"""The arm at its table: kinematics, servos, contacts and tasks against what mechanics says."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from robot.core.config import build
from robot.core.errors import ConfigError
from sim import gym
from sim.arm.camera import AIM, EYE, Camera
from sim.arm.config import bounds
from sim.arm.kinematics import Reach, pointing_down
from sim.arm.model import GRIP, OPENING, LinksConfig, Shape, Thing, bent, compiled, joint_names
from sim.arm.world import World

Array = NDArray[np.float64]
LINKS = LinksConfig(joints=7, base=0.333, upper=0.316, elbow=0.0825, forearm=0.384, wrist=0.088, hand=0.2104, density=1100.0)
OTHER = LinksConfig(joints=6, base=0.4, upper=0.25, elbow=0.03, forearm=0.3, wrist=0.05, hand=0.18, density=900.0)
CUBE, CAN = Thing(Shape.box, 0.04, 0.04), Thing(Shape.cylinder, 0.066, 0.1)
STEP = 0.004


def make(name: str = "arm_lift", num_envs: int = 2, **keys: Any) -> Any:
    return build(gym.config(name, num_envs=num_envs, threads=1, **keys), "env")


def action(env: Any, *target: float) -> torch.Tensor:
    """The action (B, 5) that stands for x, y, z [m], yaw [rad] and opening [m]."""
    low, high = bounds(env.config.workspace)
    return torch.from_numpy(2 * (np.array(target) - low) / (high - low) - 1).float().expand(env.num_envs, 5)


def world(thing: Thing = CUBE, place: tuple[float, float] = (0.5, 0.1), height: float = 0.0) -> tuple[World, Reach]:
    """A world with the hand above the table, and its kinematics; the object's lowest point is at `height` [m]."""
    made = World(compiled(LINKS, thing, 0.0, STEP), 7, thing)
    reach = Reach(made.model, 7, bent(7))
    q = reach.solve(bent(7), np.array([0.45, 0.0, 0.25]), 0.0, 100)
    made.vary(0.1, 0.8, 1.0)
    made.reset(q, OPENING, np.array([*place, thing.height / 2 + height]), 0.0, np.zeros(3))
    return made, reach


def grasped(mass: float, friction: float) -> float:
    """Height of the lowest point [m] of a can of this mass [kg] and friction after an attempt to lift it by 12 cm."""
    made, reach = world(CAN)
    q = made.angles.copy()
    made.vary(mass, friction, 1.0)
    made.reset(q, OPENING, np.array([0.5, 0.1, 0.05]), 0.0, np.zeros(3))
    for z, opening, periods in ((0.15, OPENING, 10), (0.07, OPENING, 10), (0.07, 0.0, 6), (0.19, 0.0, 15)):
        q = reach.solve(made.set_points[:-1], np.array([0.5, 0.1, z]), 0.0, 50)
        start = made.set_points[:-1].copy()
        for k in range(periods):
            made.step(np.append(start + (q - start) * min(1.0, (k + 1) / 8), opening), 25)
    return made.bottom


def screw(axis: Array, point: Array, angle: float) -> Array:
    """The motion (4, 4) by `angle` [rad] about a line: Rodrigues' formula, and the translation that leaves its points alone."""
    hat = np.cross(np.eye(3), axis)
    rotation = np.eye(3) + np.sin(angle) * hat + (1 - np.cos(angle)) * hat @ hat
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = rotation, point - rotation @ point
    return motion


def product_of_exponentials(links: LinksConfig, angles: Array) -> Array:
    """Pose (4, 4) of the hand: the joints' lines at zero angles, where the arm stands straight up."""
    y, z = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    top = links.base + links.upper
    wrist = top + links.forearm
    lines = {
        "turn": (z, [0, 0, 0]), "shoulder": (y, [0, 0, links.base]), "upper_roll": (z, [0, 0, 0]),
        "elbow": (y, [links.elbow, 0, top]), "forearm_roll": (z, [0, 0, 0]), "wrist": (y, [0, 0, wrist]),
        "hand_roll": (z, [-links.wrist, 0, 0]),
    }  # fmt: skip
    pose = np.eye(4)
    for name, angle in zip(joint_names(links.joints), angles, strict=True):
        axis, point = lines[name]
        pose = pose @ screw(axis, np.array(point, float), angle)
    home = np.eye(4)
    home[:3, 3] = -links.wrist, 0, wrist + links.hand
    return pose @ home


@pytest.mark.parametrize("links", [LINKS, OTHER], ids=["seven", "six"])
def test_hand_is_where_the_product_of_exponentials_says(links: LinksConfig) -> None:
    reach = Reach(compiled(links, CUBE, 0.0, STEP), links.joints, bent(links.joints))
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = rng.uniform(reach.low, reach.high)
        position, rotation = reach.forward(q)
        expected = product_of_exponentials(links, q)
        np.testing.assert_allclose(position, expected[:3, 3], atol=1e-9)
        np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-9)
    assert reach.forward(bent(links.joints))[1][2, 2] == pytest.approx(-1.0)


def test_masses_are_those_of_the_solids() -> None:
    model = compiled(LINKS, CUBE, 0.0, STEP)
    assert 17.0 < model.body_mass[:-1].sum() < 21.0
    for thing in (CUBE, CAN):
        model = compiled(LINKS, thing, 0.0, STEP)
        mass, inertia = model.body_mass[-1], model.body_inertia[-1]
        np.testing.assert_allclose(np.sort(thing.inertia(mass)), np.sort(inertia), rtol=1e-9)


@pytest.mark.parametrize("thing", [CUBE, CAN], ids=["cube", "can"])
def test_lowest_point_of_a_tilted_thing(thing: Thing) -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        up = rng.normal(size=3)
        up /= np.linalg.norm(up)
        if thing.shape is Shape.box:
            corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * thing.half()
        else:
            turn = np.linspace(0, 2 * np.pi, 2000)
            ring = np.stack([np.cos(turn), np.sin(turn), np.zeros(2000)], 1) * thing.width / 2
            lid = np.array([0, 0, thing.height / 2])
            corners = np.concatenate([ring + lid, ring - lid])
        assert thing.depth(up) == pytest.approx(-(corners @ up).min(), abs=1e-6)


def test_gravity_moves_nothing_that_is_held_still() -> None:
    made, _ = world()
    before, place = made.angles.copy(), made.object[0].copy()
    for _ in range(50):
        made.step(made.set_points, 25)
    assert np.abs(made.angles - before).max() < 1e-9
    assert np.abs(made.object[0] - place).max() < 2e-4
    assert made.moving < 1e-3


def test_a_falling_cube_falls_freely_bounces_little_and_comes_to_rest() -> None:
    made, _ = world(height=0.2)
    heights, energies, weight = [], [], 0.1 * 9.81
    for _ in range(20):
        made.step(made.set_points, 5)
        speed = made.data.qvel[made._speed : made._speed + 6]
        turning = 0.5 * CUBE.inertia(0.1)[0] * float(speed[3:] @ speed[3:])
        energies.append(weight * made.object[0][2] + 0.5 * 0.1 * float(speed[:3] @ speed[:3]) + turning)
        heights.append(made.bottom)
    assert heights[4] == pytest.approx(0.2 - 0.5 * 9.81 * 0.1**2, abs=0.005)  # semi-implicit steps of 4 ms: 2 mm ahead
    assert all(b < a * 1.02 + 1e-4 for a, b in pairwise(energies))
    for _ in range(5):
        made.step(made.set_points, 25)
    assert abs(made.bottom) < 5e-4
    assert made.moving < 1e-2


def test_friction_decides_what_can_be_lifted() -> None:
    """Two fingers with the force GRIP carry m g as long as friction is above m g / (2 GRIP)."""
    needed = 0.4 * 9.81 / (2 * GRIP)
    assert grasped(0.4, 3.0 * needed) > 0.1
    assert grasped(0.4, 0.5 * needed) < 0.01


@pytest.mark.parametrize("joints", [6, 7])
def test_inverse_kinematics_reaches_the_workspace(joints: int) -> None:
    env = make(links={"joints": joints})
    reach, rng = env._reaches[0], np.random.default_rng(2)
    for _ in range(60):
        target = rng.uniform(*bounds(env.config.workspace))
        position, rotation = reach.forward(reach.solve(reach.rest, target[:3], target[3], 60))
        assert np.linalg.norm(position - target[:3]) < 0.002
        assert np.abs(rotation - pointing_down(target[3])).max() < 0.01


def test_the_hand_goes_where_the_action_says() -> None:
    env = make()
    rng = np.random.default_rng(3)
    env.reset(seed=0)
    for _ in range(4):
        x, y, z, yaw = rng.uniform([0.3, -0.25, 0.1, -1.5], [0.6, 0.25, 0.3, 1.5])
        for _ in range(20):
            observation, *_ = env.step(action(env, x, y, z, yaw, 0.05))
        assert np.abs(observation["hand_position"][0].numpy() - [x, y, z]).max() < 0.002
        assert np.abs(observation["hand_rotation"][0].numpy() - pointing_down(yaw).T[:2].ravel()).max() < 0.02
        assert float(observation["gripper"][0]) == pytest.approx(0.05, abs=1e-3)


def test_actions_outside_the_bounds_are_those_at_the_bounds() -> None:
    seen = []
    for value in (-3.0, -1.0):
        env = make()
        env.reset(seed=0)
        seen.append([env.step(torch.full((2, 5), value))[0] for _ in range(3)][-1])
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])


def test_no_speed_limit_is_broken() -> None:
    env = make()
    observation, _ = env.reset(seed=0)
    for k in range(12):
        before, points = observation["hand_position"], env.set_point.copy()
        observation, *_ = env.step(torch.full((2, 5), 1.0 if k < 6 else -1.0))
        moved = env.set_point - points
        assert np.linalg.norm(moved[:, :3], axis=1).max() <= env.config.workspace.speed * 0.1 + 1e-9
        assert np.abs(moved[:, 3]).max() <= env.config.workspace.turn * 0.1 + 1e-9
        assert float((observation["hand_position"] - before).norm(dim=1).max()) < 1.3 * env.config.workspace.speed * 0.1


def test_pressing_on_a_can_and_wild_actions_break_nothing() -> None:
    env = make("arm_can")
    observation, _ = env.reset(seed=0)
    x, y, _ = observation["object_position"][0].tolist()
    for z in [0.2] * 10 + [0.015] * 15:
        env.step(action(env, x, y, z, 0.0, 0.0))
        assert env.worlds[0].bottom > -0.005
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        env.step(2 * torch.rand(2, 5, generator=generator) - 1)
        assert not any(made.lost or made.data.warning.number.any() for made in env.worlds)


def lifted(env: Any) -> Any:
    """Grasp the cube of world 0 by hand and lift it; what the last step returned."""
    observation, _ = env.reset(seed=0)
    x, y, z = observation["object_position"][0].tolist()
    edge = observation["object_rotation"][0, :2]
    yaw = (float(torch.atan2(edge[1], edge[0])) + np.pi / 4) % (np.pi / 2) - np.pi / 4
    answer: Any = None
    for height, opening, periods in ((z + 0.07, 0.08, 12), (z, 0.08, 8), (z, 0.0, 5), (z + 0.1, 0.0, 6)):
        for _ in range(periods):
            answer = env.step(action(env, x, y, height, yaw, opening))
    return answer


def test_a_cube_that_is_held_up_is_a_success() -> None:
    env = make(num_envs=1, hold=0.8)
    _, reward, terminated, truncated, info = lifted(env)
    assert not terminated.any()
    for _ in range(7):
        assert reward.tolist() == [0.0]
        _, reward, terminated, truncated, info = env.step(action(env, 0.45, 0.0, 0.2, 0.0, 0.0))
        if terminated.any():
            break
    assert terminated.tolist() == [True]
    assert truncated.tolist() == [False]
    assert reward.tolist() == [1.0]
    assert float(info["final_info"]["success"]) == 1.0
    assert float(info["final_info"]["max_height"]) > 0.04


def test_a_cube_that_is_dropped_is_no_success() -> None:
    env = make(num_envs=1, hold=5.0)
    observation, _, terminated, *_ = lifted(env)
    assert float(observation["object_position"][0, 2]) > 0.1
    x, y, z = observation["hand_position"][0].tolist()
    for _ in range(8):
        observation, reward, over, *_ = env.step(action(env, x, y, z, 0.0, 0.08))
        terminated |= over
        assert reward.tolist() == [0.0]
    assert not terminated.any()
    measures = env.metrics()
    assert float(measures["dropped"]) == 1.0
    assert float(measures["success"]) == 0.0
    assert float(measures["max_height"]) > 0.08
    assert float(observation["object_position"][0, 2]) < 0.03


def test_a_can_in_the_bin_counts_when_it_is_let_go_and_at_rest() -> None:
    env = make("arm_can", num_envs=3)
    env.reset(seed=0)
    target = env.params["target"].numpy()
    places = [target[0] + [0.02, -0.02, 0.05], target[1] + [0.0, 0.0, 0.3], target[2] + [-0.2, -0.05, 0.05]]
    for made, place, goal in zip(env.worlds, places, target, strict=True):
        made.reset(made.angles.copy(), OPENING, place, 0.0, goal)
    rewards = [env.step(action(env, 0.35, -0.2, 0.3, 0.0, 0.08))[1].tolist() for _ in range(3)]
    assert rewards == [[0.0] * 3] * 2 + [[1.0, 0.0, 0.0]]  # in the bin, still falling, beside it


def test_an_object_off_the_table_ends_the_episode_without_success() -> None:
    env = make()
    env.reset(seed=0)
    made = env.worlds[1]
    made.reset(made.angles.copy(), OPENING, np.array([2.0, 0.0, 0.0]), 0.0, np.zeros(3))
    terminated = torch.zeros(2, dtype=torch.bool)
    while not terminated.any():
        _, _, terminated, truncated, info = env.step(torch.zeros(2, 5))
    assert terminated.tolist() == [False, True]
    assert not truncated.any()
    assert info["final_info"]["success"].tolist() == [0.0, 0.0]


def test_dense_rewards_add_up_to_the_potentials() -> None:
    env = make(num_envs=1, reward="dense", hold=9.0)
    env.reset(seed=0)
    start = env._potentials(0)
    total, step = np.zeros(3), env.step

    def counted(given: torch.Tensor) -> Any:
        answer = step(given)
        total[:] += [float(answer[4]["terms"][name]) for name in ("reach", "grasp", "move")]
        return answer

    env.step = counted
    lifted(env)
    weights = np.array([0.1, 0.2, 0.4])
    np.testing.assert_allclose(total, weights * (env._potentials(0) - start), atol=1e-5)
    assert total[1] == pytest.approx(0.2)
    assert total[2] == pytest.approx(0.4)


def test_objects_are_drawn_where_ranges_say_and_kept_where_they_say_one_number() -> None:
    env = make(num_envs=8)
    env.reset(seed=0)
    for name, (low, high) in (("object_mass", (0.04, 0.12)), ("object_friction", (0.6, 1.0)), ("object_scale", (0.9, 1.1))):
        assert low <= float(env.params[name].min()) < float(env.params[name].max()) <= high
    for made, mass, scale in zip(env.worlds, env.params["object_mass"], env.params["object_scale"], strict=True):
        assert made.model.body("object").mass[0] == pytest.approx(float(mass))
        assert made.model.geom("object").size == pytest.approx(float(scale) * np.full(3, 0.02))
    env = make(object={"mass": [0.1, 0.1]}, num_envs=1)
    env.params["object_mass"][0] = 0.07
    env.reset(seed=0)
    assert env.worlds[0].model.body("object").mass[0] == pytest.approx(0.07)
    env.params["object_mass"][0] = -1.0
    with pytest.raises(ConfigError, match="must be positive"):
        env.reset(seed=0)


def test_disturbances_move_the_hand() -> None:
    hands = []
    for disturbance in (0.0, 0.02):
        env = make(disturbance=disturbance)
        env.reset(seed=0)
        hands.append(env.step(torch.zeros(2, 5))[0]["hand_position"])
    assert 0 < float((hands[0] - hands[1]).norm(dim=1).max()) < 0.06


def test_threads_change_no_number() -> None:
    one, two = make(num_envs=3), build(gym.config("arm_lift", num_envs=3, threads=2), "env")
    one.reset(seed=4)
    two.reset(seed=4)
    for _ in range(4):
        a, b = (env.step(torch.full((3, 5), 0.3))[0] for env in (one, two))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_depth_of_the_table_is_that_of_a_plane() -> None:
    env = make(depth=True)
    observation, _ = env.reset(seed=0)
    depth = observation["depth"][0].numpy()
    camera = Camera(64)
    plane = (-EYE[2] / np.minimum(camera.rays[:, 2], -1e-9)).reshape(64, 64)
    ahead = np.subtract(AIM, EYE) / np.linalg.norm(np.subtract(AIM, EYE))
    np.testing.assert_allclose(camera.rays @ ahead, 1.0)  # so that lengths along rays are distances along the optical axis
    on_table = np.abs(depth - plane) < 1e-4
    nearer = (depth > 0) & (depth < plane - 1e-4)
    assert on_table.mean() > 0.3
    assert nearer.mean() > 0.1
    assert (on_table | nearer | (depth == 0)).mean() > 0.97  # what is left is the edge of the table


def test_pictures_show_the_object() -> None:
    env = make("arm_can")
    env.reset(seed=0)
    picture = env.picture(0, 64)
    assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    assert 5 < ((picture[..., 0] > 100) & (picture[..., 1:] < 80).all(-1)).sum() < 400


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"num_envs": 0}, "num_envs=0"),
        ({"task": "push"}, "lift, can"),
        ({"links": {"joints": 5}}, "6 or 7"),
        ({"links": {"forearm": 0.2}}, "does not reach the corner"),
        ({"dt": 0.03}, "7.5 physics steps"),
        ({"object": {"width": -0.04}}, "must be positive"),
        ({"object": {"width": 0.09}}, "too wide for the gripper"),
        ({"object": {"mass": [-1.0, 0.1]}}, r"mass=\[-1.0, 0.1\] must be positive"),
        ({"object": {"friction": [1.0, 0.5]}}, "the lower one first"),
        ({"object": {"x": [0.4, 0.9]}}, "leaves the workspace, which goes from 0.3 to 0.6 m"),
        ({"workspace": {"low": [0.3, -0.25]}}, "three finite numbers"),
        ({"workspace": {"low": [0.3, -0.25, 0.0]}}, "tips"),
        ({"workspace": {"high": [0.9, 0.4, 0.4]}}, "does not reach the corner"),
        ({"workspace": {"start": [0.0, 0.0, 0.2]}}, "leaves the workspace"),
        ({"disturbance": -0.1}, "disturbance"),
        ({"widht": 1}, "unknown key"),
    ],
)
def test_bad_configs_are_refused_by_name(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(gym.config("arm_lift", **{"num_envs": 1, "threads": 1, **keys}), "env")


@pytest.mark.parametrize(
    ("place", "words"),
    [({"x": [0.4, 0.9]}, "env.bin.x"), ({"side": 0.05}, "narrower"), ({"x": [0.5, 0.5], "y": [-0.1, -0.1]}, "no place")],
)
def test_bins_that_cannot_be_are_refused(place: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make("arm_can", bin=place, object={"x": [0.48, 0.52], "y": [-0.12, -0.08]}).reset(seed=0)
