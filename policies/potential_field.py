"""Artificial potential field (Khatib, 1986) over what the current depth image shows: attraction to the goal, repulsion
from surfaces nearer than the reach, the path follows the force. It remembers nothing but the side it turns to when stuck.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from policies.nn import paths
from policies.nn.deproject import RADIUS, scan_b
from policies.policy import Memory, Observation, Plan, Policy
from robot.core.interface import Interface

STEP = 0.04
"""Step along the force [m]."""


@dataclass
class PotentialFieldConfig:
    spacing: float
    """Distance between waypoints [m]."""
    floor: float
    """What ends below this height is driven over [m]."""
    reach: float
    """Surfaces further than this from the robot's edge do not repel [m]."""
    repulsion: float
    """Strength of the repulsion [m²], against an attraction of 1."""
    swirl: float
    """Part of the repulsion that also acts sideways, towards the goal's side, and leads round flat things [1]."""
    min_length: float
    """A path that leads less far than this is a trap, and the robot turns on the spot [m]."""


class PotentialField(Policy):
    """Memory: turn (B,), the side of the running turn, 0 for none."""

    def __init__(self, config: PotentialFieldConfig, interface: Interface) -> None:
        super().__init__(interface)
        self.config = config

    def initial_memory(self, batch: int) -> Memory:
        return {"turn": torch.zeros(batch)}

    def plan(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> Plan:
        config, count = self.config, self.interface.action.shape[0]
        robot, before = observation["robot"], memory["turn"]
        given = observation["goal_given"][:, :1] > 0.5
        goal = torch.where(given, observation["goal"][:, :2], robot.new_tensor([10.0, 0.0]))
        points, _ = scan_b(observation["depth"], robot, config.floor)
        out = np.zeros((len(goal), count, 2), np.float32)
        law = (config.reach, config.repulsion, config.swirl, config.spacing)
        _follow(points.numpy(), goal.numpy(), robot[:, RADIUS].contiguous().numpy(), *law, out)
        waypoints = torch.from_numpy(out)
        near = goal.norm(dim=-1) < config.min_length
        trapped = (waypoints.norm(dim=-1).amax(dim=1) < config.min_length) & ~near
        side = torch.where(goal[:, 1] >= 0, 1.0, -1.0)
        turn = torch.where(trapped, torch.where(before != 0, before, side), torch.zeros_like(before))
        turning = paths.turns(turn, count, config.spacing)
        actions = torch.where(trapped[:, None, None], turning, paths.from_points(waypoints))
        return Plan(actions[:, None], {"turn": turn})


@njit(cache=True, nogil=True)
def _force(points, x, y, goal, radius, reach, gain, swirl):
    """Force (fx, fy) at a point of frame b and the distance [m] of the robot's edge there to the nearest surface."""
    dx, dy = goal[0] - x, goal[1] - y
    far = max(math.hypot(dx, dy), 1e-6)
    rx, ry = 0.0, 0.0
    nearest = 1e3
    for k in range(points.shape[0]):
        ox, oy = x - points[k, 0], y - points[k, 1]
        distance = math.hypot(ox, oy)
        gap = max(distance - radius, 0.01)
        nearest = min(nearest, distance - radius)
        if gap < reach:
            push = gain * (1.0 / gap - 1.0 / reach) / (gap * points.shape[0])
            rx += push * ox / max(distance, 1e-6)
            ry += push * oy / max(distance, 1e-6)
    side = swirl if dy * rx - dx * ry >= 0.0 else -swirl
    return dx / far + rx - side * ry, dy / far + ry + side * rx, nearest


@njit(cache=True, nogil=True)
def _follow(points, goal, radius, reach, gain, swirl, spacing, out) -> None:
    """Walk along the force: points (B, W, 2), goal (B, 2), radius (B,) to waypoints `out` (B, T, 2) in frame b."""
    substeps = round(spacing / STEP)
    for i in range(points.shape[0]):
        x, y = 0.0, 0.0
        stopped = False
        for k in range(out.shape[1]):
            for _ in range(substeps):
                fx, fy, gap = _force(points[i], x, y, goal[i], radius[i], reach, gain, swirl)
                size = math.hypot(fx, fy)
                left = math.hypot(goal[i, 0] - x, goal[i, 1] - y)
                stopped = stopped or size < 0.05 or left < STEP or (gap < 0.0 and x * x + y * y > 0.01)
                if not stopped:
                    x += STEP * fx / size
                    y += STEP * fy / size
            out[i, k, 0] = x
            out[i, k, 1] = y
