"""What NavDP's critic is taught: the worth of a path, read off the true clearance and cost-to-go around the robot."""

import math
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from policies.nn.local_map import look_up


class Target(Enum):
    paper = "paper"
    progress = "progress"


@dataclass
class CriticConfig:
    target: Target
    """paper: gain of clearance minus time near obstacles; progress: cost-to-go gained before the first contact, minus risk."""
    goal_agnostic: bool
    """Hide the goal from the critic, as the paper does."""
    own_samples: bool
    """Also train on the policy's own samples."""
    negative_angle: float
    """Experts' paths are turned by up to this angle to make negatives [rad]."""
    safe_distance: float
    """Clearance beyond the robot's body that counts as safe [m]; for `paper`, from the path to obstacles."""
    gamma: float
    """`paper`: weight of the clearance gained along the path."""
    risk: float
    """Weight of contact; for `paper`, of closeness: its lambda."""
    closeness: float
    """`progress`: weight of coming nearer than safe_distance."""
    resolution: float
    """Cell size of the crops [m]."""


@dataclass
class CautionConfig:
    """What the local map alone says against a candidate, whatever the critic has learnt."""

    weight: float
    """Taken from the value of a candidate that touches all along, in the critic's units."""
    margin: float
    """Room beside the body below which a waypoint is too close [m]."""
    waypoints: int
    """How many waypoints are looked at: the part that will be driven before long."""


def positions(action: Tensor) -> Tensor:
    """Waypoint positions (..., T, 2) of paths (..., T, 3), in the robot frame [m]."""
    return torch.cumsum(action[..., :2], dim=-2)


def rotated(action: Tensor, angle: float) -> Tensor:
    """Paths (B, T, 3) turned about the robot by uniform angles in ±`angle` [rad]."""
    turn = (2 * torch.rand(action.shape[0], 1, device=action.device) - 1) * angle
    c, s = turn.cos(), turn.sin()
    dx, dy = action[..., 0], action[..., 1]
    heading = action[..., 2].clone()
    heading[:, 0] = torch.remainder(heading[:, 0] + turn[:, 0] + math.pi, 2 * math.pi) - math.pi
    return torch.stack([c * dx - s * dy, s * dx + c * dy, heading], dim=-1)


def _at(crop: Tensor, points: Tensor, resolution: float) -> Tensor:
    """Values (B, n, T) of robot-centred crops (B, V, V) at points (B, n, T, 2) [m]."""
    return look_up(crop[:, None], points, resolution)[..., 0]


def path_values(config: CriticConfig, paths: Tensor, batch: dict[str, Tensor], goal_known: Tensor) -> Tensor:
    """Target values (B, n) of paths (B, n, T, 3).

    Args:
        batch: `clearance` (B, V, V) [m]; `cost` (B, V, V), cost-to-go relative to the robot's place [m]; `robot` (B, 11).
        goal_known: (B,), where False progress is the distance covered, as there is no goal to come nearer to.

    For `paper`: V = gamma (d_T - d_1) - risk * mean_m 1[d_m < d_safe] (NavDP, section III-C; it telescopes).
    For `progress`: V = (cost-to-go gained up to the first contact) / horizon - risk * (share of the path after it)
    - closeness * mean closeness before it, which falls from 1 at contact to 0 at safe_distance.
    """
    points = positions(paths)
    d = _at(batch["clearance"], points, config.resolution)
    if config.target is Target.paper:
        near = (d < config.safe_distance).to(d.dtype).mean(-1)
        return config.gamma * (d[..., -1] - d[..., 0]) - config.risk * near
    start = _at(batch["clearance"], torch.zeros_like(points[:, :1, :1]), config.resolution)
    body = batch["robot"][:, 0, None, None]
    middle = _at(batch["clearance"], points - 0.5 * paths[..., :2], config.resolution)
    free = (torch.minimum(d, middle) > torch.minimum(body, start - 0.02)).to(d.dtype).cumprod(-1)
    gained = -_at(batch["cost"], points, config.resolution)
    gained = torch.where(goal_known[:, None, None], gained, points.norm(dim=-1))
    gained = free * torch.diff(gained, dim=-1, prepend=torch.zeros_like(gained[..., :1]))
    close = (1 - (d - body) / config.safe_distance).clamp(0, 1) * free
    return (gained / 0.16 - config.risk * (1 - free) - config.closeness * close).mean(-1)


def closeness(config: CautionConfig, paths: Tensor, clearance: Tensor, resolution: float) -> Tensor:
    """Penalties (B, n) of paths (B, n, T, 3): the weight times the mean share of the margin that is missing.

    Args:
        clearance: (B, 1, V, V), robot-centred, of the body in the local map [m].
        resolution: its cell size [m].
    """
    room = look_up(clearance, positions(paths)[:, :, : config.waypoints], resolution)[..., 0]
    return config.weight * (1 - room / config.margin).clamp(min=0).mean(-1)
