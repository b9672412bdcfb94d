"""Path actions: waypoint deltas (dx, dy, dtheta) in the robot frame `b`, made from points, lines, arcs and turns."""

import math

import torch
from torch import Tensor

TURN_BEARING = 2.0
"""Bearing of the path that stands for turning on the spot [rad]: past what a tracker would drive towards while turning."""


def from_points(points: Tensor) -> Tensor:
    """Actions (B, T, 3) through the waypoints (B, T, 2) in frame b; waypoints that do not move keep the heading."""
    steps = torch.diff(points, dim=1, prepend=torch.zeros_like(points[:, :1]))
    moved = steps.norm(dim=-1) > 1e-3
    heading = torch.atan2(steps[..., 1], steps[..., 0])
    turn = torch.diff(heading, dim=1, prepend=torch.zeros_like(heading[:, :1]))
    turn = torch.remainder(turn + math.pi, 2 * math.pi) - math.pi
    return torch.cat([steps * moved[..., None], (turn * moved)[..., None]], dim=-1)


def arcs(curvature: Tensor, length: Tensor, bearing: Tensor, count: int, spacing: float) -> Tensor:
    """Actions (B, count, 3) along circular arcs that leave the robot at a bearing and stop after a length.

    Args:
        curvature: (B,) [1/m], positive to the left, 0 for a line.
        length: (B,) [m].
        bearing: (B,) initial direction in frame b [rad].
        count: waypoints.
        spacing: between waypoints [m].
    """
    s = torch.arange(1, count + 1, dtype=length.dtype, device=length.device) * spacing
    s = torch.minimum(s[None], length.clamp(min=0.0)[:, None])
    turned = 0.5 * curvature[:, None] * s
    chord = s * torch.sinc(turned / math.pi)
    direction = bearing[:, None] + turned
    return from_points(torch.stack([chord * torch.cos(direction), chord * torch.sin(direction)], dim=-1))


def turns(sign: Tensor, count: int, spacing: float) -> Tensor:
    """Actions (B, count, 3) that make the tracker turn on the spot, left where sign (B,) is positive."""
    side = torch.where(sign >= 0, 1.0, -1.0)
    return arcs(torch.zeros_like(side), torch.full_like(side, 3 * spacing), side * TURN_BEARING, count, spacing)
