"""The classic stack, as strong as it honestly gets: an occupancy grid from depth by odometry, unknown counted as free, and
at every plan a new clearance-weighted A* path to the goal. It keeps what left the view; it knows nothing in advance.

Frames: b robot, odom, and map = odom shifted so that the start of the episode is the middle of the grid.
"""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from policies.nn import explore, gridmap, paths, search
from policies.nn.deproject import CAMERA_HEIGHT, HEIGHT, RADIUS, points_b
from policies.policy import Memory, Observation, Plan, Policy
from robot.core.errors import ConfigError
from robot.core.interface import Interface

LOOK = 0.12
"""Length of a path that makes the tracker turn almost on the spot towards where it points [m]."""
BLIND = 0.08
"""Share of unseen cells in the way of the first half metre from which it counts as unseen."""


@dataclass
class ClassicPlannerConfig:
    spacing: float
    """Distance between waypoints [m]."""
    floor: float
    """What ends below this height is driven over [m]."""
    cell: float
    """Edge of a grid cell [m]."""
    cells: int
    """Side of the grid in cells; the goal must be nearer than half of it."""
    reach: float
    """Range of depth that is trusted, for solids and for free space [m]."""
    open_reach: float
    """Free space assumed along rays without any return above, at and below a pixel [m]; 0 turns this off."""
    near: float
    """A hit within this range is believed at once [m]; further away it takes two images."""
    hits: int
    """Evidence from which a cell is solid; an image adds 1, or 2 within `near`."""
    hits_cap: int
    """Largest evidence of a solid: after this many clearing images it is gone."""
    clear_tolerance: float
    """A ray clears a solid only if it passes within this height of where the solid was seen [m]."""
    hard_margin: float
    """Distance the robot's edge keeps from solids [m]."""
    relax: list[float]
    """Smaller margins tried in turn when there is no path [m]; negative ones allow for the grid's rounding."""
    margin: float
    """Width of the band beyond that costs extra [m]."""
    weight: float
    """Extra cost per metre at its inner edge [1]."""
    smoothing: int
    """Passes of a three-point mean over the waypoints; each rounds corners and cuts them."""
    escape: float
    """How far the robot may drive through too narrow space to get out of it [m]."""
    turn: float
    """Cost of setting out in another direction than the robot faces [m/rad]; keeps it from wavering between two ways."""
    gain: float
    """Without a goal: metres of way that a square metre of unknown space is worth."""


class ClassicPlanner(Policy):
    """Memory: evidence int8 and level uint8 (B, G, G) of `gridmap`; origin (B, 2) of the grid's middle in odom [m] and
    started (B,), 0 before the first image; turn (B,), the side of a running search turn, 0 for none; target (B, 3), where
    to explore, x, y in frame map [m] and 1 if chosen.
    """

    def __init__(self, config: ClassicPlannerConfig, interface: Interface) -> None:
        super().__init__(interface)
        if config.cells < 8 or config.cell <= 0 or config.hits < 1:
            raise ConfigError("policy.classic_planner: cells must be at least 8, cell above 0 and hits at least 1")
        self.config = config

    def initial_memory(self, batch: int) -> Memory:
        side = self.config.cells
        return {
            "evidence": torch.zeros((batch, side, side), dtype=torch.int8),
            "level": torch.zeros((batch, side, side), dtype=torch.uint8),
            "origin": torch.zeros(batch, 2),
            "started": torch.zeros(batch),
            "turn": torch.zeros(batch),
            "target": torch.zeros((batch, 3), dtype=torch.float64),
        }

    def plan(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> Plan:
        config, count = self.config, self.interface.action.shape[0]
        odometry, robot, goal = observation["odometry"], observation["robot"], observation["goal"]
        started = memory["started"][:, None] > 0.5
        after = {name: value.clone() for name, value in memory.items()}
        after["origin"] = torch.where(started, memory["origin"], odometry[:, :2])
        after["started"] = torch.ones_like(memory["started"])
        half = 0.5 * config.cells * config.cell
        pose = torch.cat([odometry[:, :2] - after["origin"] + half, odometry[:, 2:]], dim=-1).double().numpy()
        self._see(observation, pose, after)
        points = np.zeros((len(pose), count, 2), np.float32)
        rule = np.array([config.cell, config.margin, config.weight, config.escape, config.spacing, config.smoothing, config.turn])
        margins = np.array([config.hard_margin, *config.relax])
        radius = robot[:, RADIUS].double().numpy()
        given = observation["goal_given"][:, 0].numpy() > 0.5
        goals = _goals(pose, goal[:, :2].double().numpy())
        grids, targets = after["evidence"].numpy(), after["target"].numpy()

        def route(i: int) -> bool:
            if not given[i]:
                explore.explore(grids[i], config.hits, pose[i], radius[i], rule, config.gain, targets[i])
                goals[i] = targets[i, :2]
                if targets[i, 2] < 0.5:
                    return False
            return _plan(grids[i], config.hits, pose[i], goals[i], radius[i], margins, rule, points[i])

        found = torch.tensor(_each_world(route, len(pose)))
        path = paths.from_points(torch.from_numpy(points))
        lost = ~found
        side = torch.where(goal[:, 1] >= 0, 1.0, -1.0)
        after["turn"] = torch.where(lost, torch.where(memory["turn"] != 0, memory["turn"], side), torch.zeros_like(side))
        actions = torch.where(lost[:, None, None], paths.turns(after["turn"], count, config.spacing), path)
        return Plan(actions[:, None], after)

    def _see(self, observation: Observation, pose: np.ndarray, memory: Memory) -> None:
        """Add the depth image to the grids of `memory`, which are this plan's own copies."""
        config, depth, robot = self.config, observation["depth"], observation["robot"]
        empty = torch.nn.functional.pad((depth <= 0).float(), (0, 0, 1, 1), value=1.0)
        unseen = (empty[:, :-2] * empty[:, 1:-1] * empty[:, 2:] > 0) & (config.open_reach > 0)
        points, valid = points_b(torch.where(unseen, config.open_reach, depth), robot)
        kind = torch.where(unseen, gridmap.OPEN, torch.where(valid, gridmap.SOLID, gridmap.NOTHING)).to(torch.uint8)
        bands = torch.stack([torch.full_like(robot[:, HEIGHT], config.floor), robot[:, HEIGHT]], dim=-1)
        bodies = robot[:, [RADIUS, CAMERA_HEIGHT]]
        rule = np.array([config.clear_tolerance, 20.0, config.hits_cap])
        points, kind, bands, bodies = points.numpy(), kind.numpy(), bands.double().numpy(), bodies.double().numpy()
        evidence, level = memory["evidence"].numpy(), memory["level"].numpy()

        def see(i: int) -> None:
            seen = (points[i], kind[i], bands[i], pose[i], bodies[i])
            gridmap.integrate(evidence[i], level[i], *seen, config.cell, config.reach, config.near, rule)

        _each_world(see, len(pose))


def _each_world(work: Callable[[int], Any], count: int) -> list:
    """Results of a function of the world's number that spends its time in compiled code, on torch's number of threads."""
    if count == 1:
        return [work(0)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(work, range(count)))


def _goals(pose: np.ndarray, goal_b: np.ndarray) -> np.ndarray:
    """Goals (B, 2) of frame b in the frame of the poses (B, 3)."""
    c, s = np.cos(pose[:, 2]), np.sin(pose[:, 2])
    x, y = goal_b.T
    return np.stack([pose[:, 0] + c * x - s * y, pose[:, 1] + s * x + c * y], axis=-1)


@njit(cache=True, nogil=True)
def _box(evidence, hits, start, goal, pad):
    """Part of the grid (x0, y0, x1, y1) that a best path can need: solids, start and goal, and room to go round them."""
    side = evidence.shape[0]
    x0, y0, x1, y1 = gridmap.bounds(evidence, hits)
    x0, y0 = min(x0, start[0], goal[0]), min(y0, start[1], goal[1])
    x1, y1 = max(x1, start[0] + 1, goal[0] + 1), max(y1, start[1] + 1, goal[1] + 1)
    return max(x0 - pad, 0), max(y0 - pad, 0), min(x1 + pad, side), min(y1 + pad, side)


@njit(cache=True, nogil=True)
def _route(clear, start, goal, yaw, radius, margins, rule, out):
    """Points (n, 2) [cells] of the best path over a clearance grid written to out; n = 0 if no margin lets the robot through."""
    cell, margin, weight, escape, turn = rule[0], rule[1] / rule[0], rule[2], rule[3] / rule[0], rule[6] / rule[0]
    for k in range(margins.size):
        body = (radius + margins[k]) / cell
        u, v = search.nearest_free(clear, goal[0], goal[1], body, int(1.5 / cell))
        if u < 0:
            continue
        cells = search.astar(clear, start, (u, v), body, margin, weight, escape, yaw, turn)
        if len(cells) > 0:
            return search.shortcut(clear, cells, out.shape[0], body, margin, weight, out)
    return 0


@njit(cache=True, nogil=True)
def _plan(evidence, hits, pose, goal_m, radius, margins, rule, points):
    """A path for one world.

    Args:
        evidence, hits: grid int8 (G, G), and the evidence from which a cell is solid.
        pose, goal_m: x, y, yaw and x, y in frame map.
        radius: of the robot [m].
        margins: (n,) distances to keep from solids, tried in turn [m].
        rule: cell, margin, weight, escape, spacing, smoothing, turn as configured.
        points: waypoints (T, 2) in frame b [m], written.

    Returns:
        False if there is no path.
    """
    cell, side = rule[0], evidence.shape[0]
    goal = (min(max(int(goal_m[0] / cell), 0), side - 1), min(max(int(goal_m[1] / cell), 0), side - 1))
    start = (min(max(int(pose[0] / cell), 0), side - 1), min(max(int(pose[1] / cell), 0), side - 1))
    cap = math.ceil((radius + margins[0] + rule[1]) / cell) + 1
    box = _box(evidence, hits, start, goal, cap + 4)
    clear = gridmap.distance(evidence, hits, box, float(cap))
    line = np.empty((160, 2))
    start, goal = (start[0] - box[0], start[1] - box[1]), (goal[0] - box[0], goal[1] - box[1])
    count = _route(clear, start, goal, pose[2], radius, margins, rule, line)
    if count == 0:
        return False
    c, s = math.cos(pose[2]), math.sin(pose[2])
    for k in range(count):
        x, y = (line[k, 0] + box[0]) * cell - pose[0], (line[k, 1] + box[1]) * cell - pose[1]
        line[k, 0], line[k, 1] = c * x + s * y, -s * x + c * y
    line[0, 0], line[0, 1] = 0.0, 0.0
    waypoints = np.empty((points.shape[0], 2))
    search.resample(line, count, rule[4], waypoints)
    search.smooth(waypoints, int(rule[5]))
    if _blind(evidence, waypoints, pose, radius, cell):
        bearing = math.atan2(waypoints[1, 1], waypoints[1, 0])
        for k in range(points.shape[0]):
            waypoints[k, 0], waypoints[k, 1] = LOOK * math.cos(bearing), LOOK * math.sin(bearing)
    for k in range(points.shape[0]):
        points[k, 0], points[k, 1] = waypoints[k, 0], waypoints[k, 1]
    return True


@njit(cache=True, nogil=True)
def _blind(evidence, waypoints, pose, radius, cell):
    """Whether the path sets out sideways into space that no image has shown: then look there before going."""
    if abs(math.atan2(waypoints[1, 1], waypoints[1, 0])) < 0.2 or math.hypot(waypoints[1, 0], waypoints[1, 1]) < 0.2:
        return False
    c, s = math.cos(pose[2]), math.sin(pose[2])
    half = int(radius / cell)
    unknown, total = 0, 0
    for k in range(1, 4):
        x, y = pose[0] + c * waypoints[k, 0] - s * waypoints[k, 1], pose[1] + s * waypoints[k, 0] + c * waypoints[k, 1]
        for v in range(int(y / cell) - half, int(y / cell) + half + 1):
            for u in range(int(x / cell) - half, int(x / cell) + half + 1):
                near = math.hypot((u + 0.5) * cell - x, (v + 0.5) * cell - y) < radius
                own = math.hypot((u + 0.5) * cell - pose[0], (v + 0.5) * cell - pose[1]) < radius
                if near and not own and 0 <= u < evidence.shape[1] and 0 <= v < evidence.shape[0]:
                    unknown += evidence[v, u] == 0
                    total += 1
    return unknown > BLIND * total
