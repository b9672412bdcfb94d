"""Dynamic window approach (Fox, Burgard and Thrun, 1997): the best of many arcs (v, w) that the base can reach within one
plan, on the current depth image or, as an option, on a short rolling buffer of scans. Local only: it has no map.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from policies.nn import paths
from policies.nn.deproject import FAR, MAX_ACCELERATION, MAX_SPEED, MAX_YAW_ACCELERATION, MAX_YAW_RATE, RADIUS, scan_b
from policies.policy import Memory, Observation, Plan, Policy
from robot.core.interface import Interface


@dataclass
class DWAConfig:
    spacing: float
    """Distance between waypoints [m]."""
    floor: float
    """What ends below this height is driven over [m]."""
    memory: bool
    """Also avoid what the last `scans` depth images showed, moved by odometry."""
    scans: int
    """Depth images in the rolling buffer."""
    speeds: int
    """Samples of forward speed."""
    rates: int
    """Samples of yaw rate; odd, so that straight ahead is one."""
    horizon: float
    """How long an arc is driven in the imagination [s]."""
    window: float
    """Time over which the acceleration limits bound the reachable velocities [s]."""
    margin: float
    """Distance that the robot's edge must keep [m]."""
    clearance: float
    """Distance beyond which more clearance earns nothing [m]."""
    weight_heading: float
    """Weight of ending with the goal ahead."""
    weight_clearance: float
    """Weight of clearance."""
    weight_speed: float
    """Weight of speed."""


class DWA(Policy):
    """Memory: turn (B,), the side of the running turn, 0 for none; with `memory` also scans (B, K, W, 2) in frame odom."""

    def __init__(self, config: DWAConfig, interface: Interface) -> None:
        super().__init__(interface)
        self.config = config

    def initial_memory(self, batch: int) -> Memory:
        memory = {"turn": torch.zeros(batch)}
        if self.config.memory:
            width = self.interface.field("depth").shape[1]
            memory["scans"] = torch.full((batch, self.config.scans, width, 2), FAR)
        return memory

    def plan(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> Plan:
        config, count = self.config, self.interface.action.shape[0]
        robot, before = observation["robot"], memory["turn"]
        points, _ = scan_b(observation["depth"], robot, config.floor)
        after: Memory = {}
        if config.memory:
            after["scans"] = torch.cat([memory["scans"][:, 1:], _to_odom(points, observation["odometry"])[:, None]], dim=1)
            points = torch.cat([points, _to_body(after["scans"][:, :-1].flatten(1, 2), observation["odometry"])], dim=1)
        given = observation["goal_given"][:, :1] > 0.5
        goal = torch.where(given, observation["goal"][:, :2], robot.new_tensor([10.0, 0.0]))
        v, w = self._velocities(observation["velocity"], robot)
        out = np.zeros((len(goal), 3), np.float32)
        weights = np.array([config.weight_heading, config.weight_clearance, config.weight_speed], np.float32)
        law = (config.horizon, config.margin, config.clearance, weights)
        bodies = robot[:, [RADIUS, MAX_SPEED]].contiguous().numpy()
        _choose(points.contiguous().numpy(), goal.numpy(), v.numpy(), w.numpy(), bodies, *law, out)
        chosen = torch.from_numpy(out)
        stuck = chosen[:, 0] <= 0.0
        side = torch.where(goal[:, 1] >= 0, 1.0, -1.0)
        after["turn"] = torch.where(stuck, torch.where(before != 0, before, side), torch.zeros_like(before))
        curve = paths.arcs(chosen[:, 1], chosen[:, 0], torch.zeros_like(side), count, config.spacing)
        actions = torch.where(stuck[:, None, None], paths.turns(after["turn"], count, config.spacing), curve)
        return Plan(actions[:, None], after)

    def _velocities(self, velocity: Tensor, robot: Tensor) -> tuple[Tensor, Tensor]:
        """Samples of speed (B, V) and yaw rate (B, R) inside the limits and reachable from `velocity` (B, 2)."""
        config = self.config
        reach_v, reach_w = robot[:, MAX_ACCELERATION] * config.window, robot[:, MAX_YAW_ACCELERATION] * config.window
        top = torch.minimum(velocity[:, 0] + reach_v, robot[:, MAX_SPEED])
        low = torch.minimum((velocity[:, 0] - reach_v).clamp(min=0.0), 0.9 * top)
        fraction = torch.arange(1, config.speeds + 1, device=robot.device) / config.speeds
        v = low[:, None] + (top - low)[:, None] * fraction
        limit = robot[:, MAX_YAW_RATE]
        right = torch.maximum(velocity[:, 1] - reach_w, -limit)
        left = torch.minimum(velocity[:, 1] + reach_w, limit)
        w = right[:, None] + (left - right)[:, None] * torch.linspace(0.0, 1.0, config.rates, device=robot.device)
        return v.contiguous(), w.contiguous()


def _to_odom(points_b: Tensor, odometry: Tensor) -> Tensor:
    """Points (B, N, 2) of frame b in frame odom; what is FAR stays far."""
    c, s = torch.cos(odometry[:, 2:3]), torch.sin(odometry[:, 2:3])
    x, y = points_b.unbind(-1)
    return torch.stack([odometry[:, 0:1] + c * x - s * y, odometry[:, 1:2] + s * x + c * y], dim=-1)


def _to_body(points_o: Tensor, odometry: Tensor) -> Tensor:
    """Points (B, N, 2) of frame odom in frame b."""
    c, s = torch.cos(odometry[:, 2:3]), torch.sin(odometry[:, 2:3])
    x, y = points_o[..., 0] - odometry[:, 0:1], points_o[..., 1] - odometry[:, 1:2]
    return torch.stack([c * x + s * y, -s * x + c * y], dim=-1)


@njit(cache=True, nogil=True)
def _clearance(points, count, v, w, duration, radius):
    """Smallest distance [m] between the robot's edge and points[:count] (n, 2) along an arc."""
    steps = 16
    worst = 1e6
    for k in range(1, steps + 1):
        t = duration * k / steps
        half = 0.5 * w * t
        chord = v * t if abs(half) < 1e-6 else v * t * math.sin(half) / half
        x, y = chord * math.cos(half), chord * math.sin(half)
        for j in range(count):
            dx, dy = points[j, 0] - x, points[j, 1] - y
            worst = min(worst, dx * dx + dy * dy)
    return math.sqrt(worst) - radius


@njit(cache=True, nogil=True)
def _heading(goal, v, w, duration):
    """How well the robot faces the goal at the end of an arc, 1 straight at it to 0 away from it."""
    half = 0.5 * w * duration
    chord = v * duration if abs(half) < 1e-6 else v * duration * math.sin(half) / half
    dx, dy = goal[0] - chord * math.cos(half), goal[1] - chord * math.sin(half)
    error = math.atan2(dy, dx) - 2.0 * half
    error -= 2.0 * math.pi * math.floor((error + math.pi) / (2.0 * math.pi))
    return 1.0 - abs(error) / math.pi


@njit(cache=True, nogil=True)
def _near(points, reach):
    """The points (n, 2) within `reach` of the robot, packed to the front, and how many there are."""
    packed = np.empty_like(points)
    count = 0
    for j in range(points.shape[0]):
        if points[j, 0] ** 2 + points[j, 1] ** 2 < reach * reach:
            packed[count] = points[j]
            count += 1
    return packed, count


@njit(cache=True, nogil=True)
def _choose(points, goal, v, w, bodies, horizon, margin, enough, weights, out) -> None:
    """The best arc of each world: out (B, 3) = length [m], 0 when every arc collides or turning is better; curvature; score."""
    for i in range(points.shape[0]):
        radius, top = bodies[i, 0], bodies[i, 1]
        near, count = _near(points[i], top * horizon + radius + enough + 0.1)
        far = math.hypot(goal[i, 0], goal[i, 1])
        out[i, 2] = -1.0
        if abs(math.atan2(goal[i, 1], goal[i, 0])) > 1.9:
            continue
        for a in range(v.shape[1]):
            speed = v[i, a]
            duration = min(horizon, max(far, 0.1) / max(speed, 1e-3))
            for b in range(w.shape[1]):
                clear = _clearance(near, count, speed, w[i, b], duration, radius)
                if clear < margin:
                    continue
                score = weights[0] * _heading(goal[i], speed, w[i, b], duration)
                score += weights[1] * min(clear, enough) / enough + weights[2] * speed / top
                if score > out[i, 2]:
                    out[i, 0] = speed * duration
                    out[i, 1] = w[i, b] / speed
                    out[i, 2] = score
