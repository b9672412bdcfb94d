"""From depth images to points around the robot: the one place that knows the camera model.

Pinhole with square pixels, z-depth along the optical axis, pixel centres at half integers, the camera at (0, 0,
camera_height) of the robot frame `b` (x forward, y left, z up from the floor), pitched about y. Plain tensor arithmetic
without branches, so that it exports to ONNX inside a network.
"""

import torch
from torch import Tensor

RADIUS, HEIGHT, CAMERA_HEIGHT, CAMERA_PITCH, HFOV, MAX_SPEED, MAX_YAW_RATE, MAX_ACCELERATION, MAX_YAW_ACCELERATION = range(9)
"""Where the observation `robot` (B, 11) keeps what; lengths [m], angles [rad]."""
FAR = 1e3
"""Coordinate of what was not seen [m]."""


def rays_b(robot: Tensor, height: int, width: int) -> Tensor:
    """Directions (B, height, width, 3) of the pixels in frame b, scaled to reach one metre along the optical axis."""
    slope = torch.tan(0.5 * robot[:, HFOV])[:, None, None] * (2.0 / width)
    column = torch.arange(width, dtype=robot.dtype, device=robot.device)[None, None, :] + (0.5 - 0.5 * width)
    row = torch.arange(height, dtype=robot.dtype, device=robot.device)[None, :, None] + (0.5 - 0.5 * height)
    cosine = torch.cos(robot[:, CAMERA_PITCH])[:, None, None]
    sine = torch.sin(robot[:, CAMERA_PITCH])[:, None, None]
    up = -row * slope
    shape = (robot.shape[0], height, width)
    forward = (cosine - sine * up).expand(shape)
    left = (-column * slope).expand(shape)
    return torch.stack([forward, left, (sine + cosine * up).expand(shape)], dim=-1)


def points_b(depth: Tensor, robot: Tensor) -> tuple[Tensor, Tensor]:
    """Surface points seen by each pixel.

    Args:
        depth: (B, H, W) z-depth [m], 0 where nothing returned.
        robot: (B, 11) the observation field `robot`.

    Returns:
        points (B, H, W, 3) in frame b [m], z above the floor, and valid (B, H, W) bool; points that are not valid lie at
        the camera.
    """
    camera = torch.zeros_like(robot[:, :3]) + robot[:, CAMERA_HEIGHT : CAMERA_HEIGHT + 1] * robot.new_tensor([0.0, 0.0, 1.0])
    points = rays_b(robot, depth.shape[1], depth.shape[2]) * depth[..., None] + camera[:, None, None, :]
    return points, depth > 0.0


def scan_b(depth: Tensor, robot: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The nearest obstacle in each image column, like a laser scanner's.

    Args:
        depth: (B, H, W) z-depth [m].
        robot: (B, 11) the observation field `robot`.
        floor: what ends below this height is driven over [m].

    Returns:
        points (B, W, 2) in frame b and distances (B, W) from the robot [m], both FAR where the column shows no obstacle
        between `floor` and the robot's height.
    """
    points, valid = points_b(depth, robot)
    z = points[..., 2]
    solid = valid & (z > floor) & (z < robot[:, HEIGHT, None, None])
    distance = torch.where(solid, points[..., :2].norm(dim=-1), torch.full_like(z, FAR))
    nearest, row = distance.min(dim=1)
    chosen = points[..., :2].gather(1, row[:, None, :, None].expand(-1, 1, -1, 2))[:, 0]
    return torch.where((nearest < FAR)[..., None], chosen, torch.full_like(chosen, FAR)), nearest
