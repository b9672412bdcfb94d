"""What speaks for and against NavDP's candidates besides its critic; nothing here is trained."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.navdp_critic import positions
from policies.nn.local_map import look_up

NEVER = -1e3
"""Bonus of a candidate that is none."""


@dataclass
class CautionConfig:
    """What the local map alone says against a candidate, whatever the critic has learnt."""

    weight: float
    """Taken from the value of a candidate that touches all along, in the critic's units."""
    margin: float
    """Room beside the body below which a waypoint is too close [m]."""
    waypoints: int
    """How many waypoints are looked at: the part that will be driven before long."""


@dataclass
class PersistenceConfig:
    """The rest of the path chosen before is one more candidate.

    Fresh samples alone make a robot dither where ways out are many and none is clearly best: the best of n noisy values
    points elsewhere at every decision, and on average it stays where it is.
    """

    bonus: float
    """Added to its value, in the critic's units."""
    remaining: float
    """It is a candidate as long as this much of it is left [m]."""


def closeness(config: CautionConfig, paths: Tensor, clearance: Tensor, resolution: float) -> Tensor:
    """Penalties (B, n) of paths (B, n, T, 3): the weight times the mean share of the margin that is missing.

    Args:
        clearance: (B, 1, V, V), robot-centred, of the body in the local map [m].
        resolution: its cell size [m].
    """
    room = look_up(clearance, positions(paths)[:, :, : config.waypoints], resolution)[..., 0]
    return config.weight * (1 - room / config.margin).clamp(min=0).mean(-1)


def bonus(config: PersistenceConfig, previous: Tensor) -> Tensor:
    """Bonus (B, 1) of carrying on with what is left of the path chosen before, deltas (B, T, 3)."""
    left = previous[..., :2].norm(dim=-1).sum(-1, keepdim=True)
    return torch.where(left > config.remaining, config.bonus, NEVER)


def carried_on(path: Tensor, pose: Tensor, now: Tensor) -> Tensor:
    """What is left of a path, as deltas (B, T, 3) in the robot frame of `now`; past its end the robot stands.

    Args:
        path: poses (B, T, 3) in the robot frame of `pose` [m, m, rad]; what lies before the pose nearest to the robot is done.
        pose, now: robot poses (B, 3) in the odom frame.
    """
    length = path.shape[1]
    path = torch.cat([torch.zeros_like(path[:, :1]), path], dim=1)
    cosine, sine = pose[:, 2:].cos(), pose[:, 2:].sin()
    x = cosine * path[..., 0] - sine * path[..., 1] + pose[:, :1] - now[:, :1]
    y = sine * path[..., 0] + cosine * path[..., 1] + pose[:, 1:2] - now[:, 1:2]
    cosine, sine = now[:, 2:].cos(), now[:, 2:].sin()
    path = torch.stack([cosine * x + sine * y, cosine * y - sine * x, path[..., 2] + pose[:, 2:] - now[:, 2:]], dim=-1)
    nearest = (x * x + y * y).argmin(1)
    rest = (nearest[:, None] + 1 + torch.arange(length, device=path.device)).clamp(max=length)
    rest = torch.gather(path, 1, rest[..., None].expand(-1, -1, 3))
    delta = torch.diff(rest, dim=1, prepend=torch.zeros_like(rest[:, :1]))
    turn = delta[..., 2:]
    return torch.cat([delta[..., :2], turn - 2 * math.pi * torch.round(turn / (2 * math.pi))], dim=-1)
