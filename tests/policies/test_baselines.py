"""The baseline navigation policies in small worlds of full-height walls, rendered by marching rays over a grid."""

import math

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from policies.nn.deproject import FAR, points_b, scan_b
from robot.core import tracking
from robot.core.config import build
from robot.core.interface import Field, Interface
from robot.core.paths import CONFIGS

CELL = 0.05
ROWS, COLUMNS = 48, 64
#        radius height camera pitch hfov        v    w    a    aw   delay error
WHEELED = (0.25, 0.45, 0.3, 0.0, math.pi / 2, 0.8, 1.5, 1.0, 4.0, 0.0, 0.0)
NAMES = ("straight", "potential_field", "dwa", "classic_planner")
INTERFACE = Interface(
    (
        Field("depth", (ROWS, COLUMNS)),
        Field("odometry", (3,)),
        Field("velocity", (2,)),
        Field("goal", (3,)),
        Field("goal_given", (2,)),
        Field("robot", (11,)),
    ),
    Field("path", (24, 3)),
    0.4,
)


def make(name, **changes):
    node = OmegaConf.merge(OmegaConf.load(CONFIGS / "policy" / f"{name}.yaml"), changes)
    return build(node, "policy", interface=INTERFACE)


def room(size=(10.0, 8.0)):
    """An empty walled room as a grid (ny, nx), True is solid."""
    solid = np.zeros((round(size[1] / CELL), round(size[0] / CELL)), bool)
    solid[[0, -1]] = True
    solid[:, [0, -1]] = True
    return solid


def fill(solid, x0, y0, x1, y1):
    solid[round(y0 / CELL) : round(y1 / CELL), round(x0 / CELL) : round(x1 / CELL)] = True
    return solid


def render(solid, pose):
    """Depth (ROWS, COLUMNS) of full-height walls and the floor, for the wheeled camera at pose (x, y, yaw)."""
    slope = (np.arange(COLUMNS) + 0.5 - COLUMNS / 2) / (COLUMNS / 2)
    s = np.arange(0.02, 5.0, 0.02)[:, None]
    x = pose[0] + s * (np.cos(pose[2]) + np.sin(pose[2]) * slope)
    y = pose[1] + s * (np.sin(pose[2]) - np.cos(pose[2]) * slope)
    u, v = np.clip((x / CELL).astype(int), 0, solid.shape[1] - 1), np.clip((y / CELL).astype(int), 0, solid.shape[0] - 1)
    inside = solid[v, u]
    wall = np.where(inside.any(0), s[inside.argmax(0), 0], np.inf)
    down = (np.arange(ROWS) + 0.5 - ROWS / 2) / (COLUMNS / 2)
    floor = np.where(down > 0, 0.3 / np.maximum(down, 1e-6), np.inf)
    depth = np.minimum(wall[None], floor[:, None])
    return np.where(depth < 5.0, depth, 0.0).astype(np.float32)


def observe(solid, pose, start, goal=None, velocity=(0.0, 0.0)):
    """The observation of one world: odometry counts from `start`, goal (x, y) in the world."""
    c, s = math.cos(start[2]), math.sin(start[2])
    dx, dy = pose[0] - start[0], pose[1] - start[1]
    odometry = (c * dx + s * dy, -s * dx + c * dy, pose[2] - start[2])
    goal_b = np.zeros(3)
    if goal is not None:
        c, s = math.cos(pose[2]), math.sin(pose[2])
        dx, dy = goal[0] - pose[0], goal[1] - pose[1]
        goal_b[:2] = c * dx + s * dy, -s * dx + c * dy
    values = {
        "depth": render(solid, pose),
        "odometry": odometry,
        "velocity": velocity,
        "goal": goal_b,
        "goal_given": (float(goal is not None), 0.0),
        "robot": WHEELED,
    }
    return {name: torch.as_tensor(np.asarray(value), dtype=torch.float32)[None] for name, value in values.items()}


def drive(policy, solid, start, goal, plans):
    """Closed loop with the tracker. Returns the poses (N, 3) and whether the robot's disc ever touched something."""
    memory = policy.initial_memory(1)
    pose, velocity, trace = np.array(start, float), np.zeros((1, 2)), [np.array(start, float)]
    limits = np.array([WHEELED[5:9]])
    ys, xs = np.nonzero(solid)
    hit = False
    for _ in range(plans):
        actions, memory = policy.act(observe(solid, pose, start, goal, velocity[0]), memory)
        points = tracking.waypoints(actions[:, 0].numpy())
        local = np.zeros((1, 3))
        for _ in range(8):
            velocity = tracking.track(points, local, velocity, limits, 0.05)
            local = tracking.predict(local, velocity, 0.05)
            pose = tracking.predict(pose[None], velocity, 0.05)[0]
            hit |= bool((np.hypot((xs + 0.5) * CELL - pose[0], (ys + 0.5) * CELL - pose[1]) < WHEELED[0]).any())
            trace.append(pose)
        if goal is not None and math.hypot(pose[0] - goal[0], pose[1] - goal[1]) < 0.3:
            break
    return np.array(trace), hit


def ends(policy, solid, pose, goal):
    """Waypoints (24, 2) of the first plan, in the robot frame."""
    actions, _ = policy.act(observe(solid, pose, pose, goal), policy.initial_memory(1))
    assert actions.shape == (1, 1, 24, 3)
    return np.cumsum(actions[0, 0, :, :2].numpy(), axis=0)


def test_points_of_a_pitched_camera_lie_on_the_floor_it_looks_at():
    robot = torch.tensor([WHEELED]).clone()
    robot[0, 2], robot[0, 3] = 1.25, -0.5
    rays, _ = points_b(torch.ones(1, ROWS, COLUMNS), robot)
    to_floor = torch.where(rays[..., 2] < 1.2, 1.25 / (1.25 - rays[..., 2]), torch.zeros(()))
    points, valid = points_b(to_floor, robot)
    assert valid.any()
    assert points[valid][:, 2].abs().max() < 1e-5
    middle = points[0, ROWS // 2 - 1 : ROWS // 2 + 1, COLUMNS // 2 - 1 : COLUMNS // 2 + 1].mean((0, 1))
    assert middle[0] == pytest.approx(1.25 / math.tan(0.5), rel=0.01)
    assert points[0, ROWS // 2, 0, 1] > 0 > points[0, ROWS // 2, -1, 1], "column 0 is on the left"


def test_scan_measures_a_wall_and_ignores_the_floor():
    wall = fill(room(), 5.0, 0.0, 5.5, 8.0)
    observation = observe(wall, (3.0, 4.0, 0.0), (3.0, 4.0, 0.0))
    points, distance = scan_b(observation["depth"], observation["robot"], 0.05)
    assert (points[0, :, 0] - 2.0).abs().max() < 0.05
    assert distance[0].min() == pytest.approx(2.0, abs=0.05)
    blind = scan_b(torch.zeros(1, ROWS, COLUMNS), observation["robot"], 0.05)
    assert (blind[0] == FAR).all()


def test_straight_goes_straight_and_stops_at_the_goal():
    path = ends(make("straight"), room(), (2.0, 4.0, 0.5), (4.0, 5.0))
    goal = math.cos(0.5) * 2.0 + math.sin(0.5), -math.sin(0.5) * 2.0 + math.cos(0.5)
    assert np.abs(path[-1] - goal).max() < 1e-4
    assert np.abs(path[:, 0] * goal[1] - path[:, 1] * goal[0]).max() < 1e-4
    far = ends(make("straight"), room(), (2.0, 4.0, 0.0), (8.0, 4.0))
    assert np.allclose(np.diff(far[:, 0]), 0.16, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_goal_behind_is_approached(name):
    trace, hit = drive(make(name), room(), (5.0, 4.0, 0.0), (2.5, 3.9), 40)
    assert not hit
    assert math.hypot(trace[-1, 0] - 2.5, trace[-1, 1] - 3.9) < 0.3


@pytest.mark.parametrize("name", NAMES)
def test_without_a_goal_it_keeps_moving_and_keeps_clear(name):
    trace, hit = drive(make(name), room((6.0, 5.0)), (2.0, 2.5, 0.3), None, 60)
    assert not hit
    assert np.linalg.norm(np.diff(trace[:, :2], axis=0), axis=1).sum() > 4.0


@pytest.mark.parametrize("name", ["potential_field", "dwa", "classic_planner"])
def test_a_box_ahead_is_avoided(name):
    solid = fill(room(), 4.5, 3.4, 5.3, 4.4)
    trace, hit = drive(make(name), solid, (2.0, 4.0, 0.0), (8.0, 4.1), 60)
    assert not hit
    assert math.hypot(trace[-1, 0] - 8.0, trace[-1, 1] - 4.1) < 0.4
    _, crash = drive(make("straight"), solid, (2.0, 4.0, 0.0), (8.0, 4.1), 20)
    assert crash, "the box must be in the way"


def u_shape():
    solid = fill(room(), 5.5, 2.5, 5.7, 5.5)
    fill(solid, 3.5, 2.5, 5.7, 2.7)
    return fill(solid, 3.5, 5.3, 5.7, 5.5)


def test_the_classic_planner_leaves_a_dead_end_and_dwa_does_not():
    start, goal = (4.6, 4.0, 0.0), (8.0, 4.0)
    trace, hit = drive(make("classic_planner"), u_shape(), start, goal, 60)
    assert not hit
    assert math.hypot(trace[-1, 0] - 8.0, trace[-1, 1] - 4.0) < 0.3
    trace, _ = drive(make("dwa"), u_shape(), start, goal, 40)
    assert math.hypot(trace[-1, 0] - 8.0, trace[-1, 1] - 4.0) > 1.0


def test_a_ghost_is_cleared_and_a_wall_stays():
    policy, pose = make("classic_planner"), (2.0, 4.0, 0.0)
    wall, ghost = fill(room(), 5.0, 2.0, 5.2, 6.0), fill(fill(room(), 5.0, 2.0, 5.2, 6.0), 3.2, 3.8, 3.5, 4.1)
    memory = policy.initial_memory(1)
    _, memory = policy.act(observe(ghost, pose, pose, (8.0, 4.0)), memory)
    assert (memory["evidence"][0, 315:325, 340:350] >= policy.config.hits).any()
    for _ in range(6):
        _, memory = policy.act(observe(wall, pose, pose, (8.0, 4.0)), memory)
    assert not (memory["evidence"][0, 315:325, 340:350] > 0).any()
    seen = memory["evidence"][0, 310:330, 378:384].max(dim=1).values >= policy.config.hits
    assert seen.sum() >= 10, "columns are 9 cm apart at 3 m, cells 5 cm"


@pytest.mark.parametrize("name", NAMES)
def test_memory_is_explicit_and_worlds_are_independent(name):
    policy = make(name, **({"memory": True} if name == "dwa" else {}))
    poses = [(2.0 + 0.1 * k, 4.0, 0.4 * k) for k in range(8)]
    goals = [(8.0, 4.1)] * 6 + [None] * 2
    single = [observe(u_shape(), pose, pose, goal) for pose, goal in zip(poses, goals, strict=True)]
    batch = {key: torch.cat([one[key] for one in single]) for key in single[0]}
    memory = policy.initial_memory(8)
    for _ in range(2):
        before = {key: value.clone() for key, value in memory.items()}
        actions, after = policy.act(batch, memory)
        again, _ = policy.act(batch, memory)
        assert torch.equal(actions, again)
        assert all(torch.equal(memory[key], value) for key, value in before.items()), "the memory given was changed"
        alone = [policy.act(one, {key: value[k : k + 1] for key, value in memory.items()}) for k, one in enumerate(single)]
        assert torch.allclose(actions, torch.cat([one[0] for one in alone]), atol=1e-6)
        for key, value in after.items():
            assert torch.allclose(value.float(), torch.cat([one[1][key] for one in alone]).float(), atol=1e-6), key
            assert value.shape[0] == 8
            assert value.data_ptr() != memory[key].data_ptr()
        memory = after


def test_of_two_equal_ways_the_classic_planner_keeps_to_one():
    solid = fill(room((8.0, 6.0)), 3.0, 0.9, 3.4, 5.1)
    trace, hit = drive(make("classic_planner"), solid, (2.2, 2.98, 0.0), (5.5, 3.0), 60)
    assert not hit
    assert math.hypot(trace[-1, 0] - 5.5, trace[-1, 1] - 3.0) < 0.3
    assert np.ptp(np.unwrap(trace[:, 2])) < 3.5, "no turning to and fro; without the cost of turning it is 8.5 rad"


def test_the_classic_planner_looks_before_it_goes_sideways():
    goal = (8.0, 3.6)
    aside = ends(make("classic_planner"), room(), (2.0, 4.0, 0.6), goal)
    assert np.linalg.norm(aside[-1]) < 0.2, "half of its way is out of view: it turns towards it, almost on the spot"
    assert math.atan2(aside[0, 1], aside[0, 0]) == pytest.approx(-0.66, abs=0.1)
    ahead = ends(make("classic_planner"), room(), (2.0, 4.0, -0.1), goal)
    assert np.linalg.norm(ahead[-1]) > 3.0
