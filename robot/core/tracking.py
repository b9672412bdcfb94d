"""Waypoints to velocity commands: pure pursuit with a look-ahead short enough not to cut corners.

One numpy implementation serves the simulated fleet (a batch) and the robot (a batch of one). Frames: everything is given in
the robot frame at the time the path was planned, the path frame `p`.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LOOK_AHEAD = 0.25
"""Distance of the pursued point along the path [m]; 0.3 m and more costs 4 points of success by cutting corners."""
TURN_IN_PLACE = 0.7
"""Heading error above which the robot turns on the spot [rad]."""


def waypoints(action: Array) -> Array:
    """Positions (B, T + 1, 2) of a path action (B, T, 3) in frame p, the robot's own position first."""
    start = np.zeros((action.shape[0], 1, 2))
    return np.concatenate([start, np.cumsum(action[..., :2], axis=1, dtype=np.float64)], axis=1)


def project(points: Array, position: Array) -> tuple[Array, Array]:
    """Arc length (B,) of the point of each polyline (B, N, 2) nearest to position (B, 2), and the arc lengths (B, N)."""
    segment = np.diff(points, axis=1)
    length = np.linalg.norm(segment, axis=-1)
    along = np.concatenate([np.zeros((len(points), 1)), np.cumsum(length, axis=1)], axis=1)
    offset = position[:, None] - points[:, :-1]
    t = np.clip((offset * segment).sum(-1) / np.maximum(length, 1e-9) ** 2, 0.0, 1.0)
    gap = np.linalg.norm(offset - t[..., None] * segment, axis=-1)
    nearest = gap.argmin(axis=1)
    rows = np.arange(len(points))
    return along[rows, nearest] + t[rows, nearest] * length[rows, nearest], along


def interpolate(points: Array, along: Array, s: Array) -> Array:
    """Points (B, 2) of polylines (B, N, 2) at arc lengths s (B,)."""
    index = np.clip((along < s[:, None]).sum(axis=1), 1, points.shape[1] - 1)
    rows = np.arange(len(points))
    low, high = along[rows, index - 1], along[rows, index]
    t = np.clip((s - low) / np.maximum(high - low, 1e-9), 0.0, 1.0)[:, None]
    return points[rows, index - 1] * (1 - t) + points[rows, index] * t


def track(points: Array, pose: Array, velocity: Array, limits: Array, dt: float, delay: Array | float = 0.0) -> Array:
    """The next velocity command.

    Args:
        points: path (B, N, 2) in frame p, from `waypoints`.
        pose: where the robot is now (B, 3) x, y, yaw in frame p.
        velocity: last command (B, 2) v [m/s], w [rad/s].
        limits: (B, 4) max speed [m/s], yaw rate [rad/s], acceleration [m/s²], yaw acceleration [rad/s²].
        dt: time to the next command [s].
        delay: dead time of the base (B,) [s]; the pose is predicted over it.

    Returns:
        (B, 2) command within the limits of speed, and of acceleration from `velocity`.
    """
    pose = predict(pose, velocity, np.broadcast_to(np.asarray(delay, np.float64), (len(pose),)))
    max_v, max_w, max_a, max_aw = limits.T
    s, along = project(points, pose[:, :2])
    left = along[:, -1] - s
    target = interpolate(points, along, np.minimum(s + LOOK_AHEAD, along[:, -1])) - pose[:, :2]
    distance = np.linalg.norm(target, axis=-1)
    error = np.arctan2(target[:, 1], target[:, 0]) - pose[:, 2]
    error = (error + np.pi) % (2 * np.pi) - np.pi
    stop = (left < 0.03) & (distance < 0.06)
    turning = np.abs(error) > TURN_IN_PLACE
    curvature = 2.0 * np.sin(error) / np.maximum(distance, 0.1)
    v = np.minimum(max_v, np.sqrt(2.0 * 0.5 * max_a * np.maximum(left, 0.0)))
    v = np.minimum(v, 0.9 * max_w / np.maximum(np.abs(curvature), 1e-6)) * np.maximum(np.cos(error), 0.2)
    v = np.where(turning | stop, 0.0, v)
    brake = np.sqrt(2.0 * 0.5 * max_aw * np.abs(error))
    w = np.where(turning, np.sign(error) * np.minimum(max_w, brake), v * curvature)
    w = np.where(stop, 0.0, w)
    return limit(np.stack([v, w], axis=-1), velocity, limits, dt)


def limit(command: Array, velocity: Array, limits: Array, dt: float) -> Array:
    """The command (B, 2) nearest to what was asked that keeps all limits, given the last command."""
    max_v, max_w, max_a, max_aw = limits.T
    v = np.clip(command[:, 0], velocity[:, 0] - max_a * dt, velocity[:, 0] + max_a * dt)
    w = np.clip(command[:, 1], velocity[:, 1] - max_aw * dt, velocity[:, 1] + max_aw * dt)
    return np.stack([np.clip(v, 0.0, max_v), np.clip(w, -max_w, max_w)], axis=-1)


def predict(pose: Array, velocity: Array, duration: Array | float) -> Array:
    """Pose (B, 3) after moving with constant (v, w) for `duration` [s], along the exact arc."""
    turn = velocity[:, 1] * duration
    chord = velocity[:, 0] * duration * np.sinc(turn / (2 * np.pi))
    middle = pose[:, 2] + 0.5 * turn
    return np.stack([pose[:, 0] + chord * np.cos(middle), pose[:, 1] + chord * np.sin(middle), pose[:, 2] + turn], axis=-1)
