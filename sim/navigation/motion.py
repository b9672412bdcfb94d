"""Kinematics of a fleet of unicycle bases with limits, dead time, tracking error and drifting odometry; and contact."""

import math

import numpy as np
from numba import njit, prange

from sim.navigation.fields import touches


@njit(cache=True, nogil=True)
def drive(pose, velocity, odometry, command, error, drift, limits, dt, travelled) -> None:
    """One control period of every base, in place.

    Args:
        pose: true poses (B, 3) x, y [m], yaw [rad], frame w.
        velocity: executed velocities (B, 2) v [m/s], w [rad/s].
        odometry: believed poses (B, 3), frame odom.
        command: (B, 2) commands that take effect now.
        error: (B, 2) factors on executed v and w.
        drift: (B, 2) heading drift [rad/m] and scale error [1] of the odometry.
        limits: (B, 4) max speed, yaw rate, acceleration, yaw acceleration.
        dt: period [s].
        travelled: (B,) path lengths [m], increased.
    """
    for i in range(pose.shape[0]):
        for axis in range(2):
            step = limits[i, 2 + axis] * dt
            target = command[i, axis] * error[i, axis]
            velocity[i, axis] += min(max(target - velocity[i, axis], -step), step)
        turn = velocity[i, 1] * dt
        move = velocity[i, 0] * dt
        _advance(pose[i], move, turn)
        _advance(odometry[i], move * (1.0 + drift[i, 1]), turn + drift[i, 0] * abs(move))
        travelled[i] += abs(move)


@njit(cache=True, nogil=True)
def _advance(pose, move, turn):
    chord = move if abs(turn) < 1e-9 else move * math.sin(0.5 * turn) / (0.5 * turn)
    pose[0] += chord * math.cos(pose[2] + 0.5 * turn)
    pose[1] += chord * math.sin(pose[2] + 0.5 * turn)
    yaw = pose[2] + turn
    pose[2] = yaw - 2 * math.pi * math.floor((yaw + math.pi) / (2 * math.pi))


@njit(cache=True, nogil=True)
def contacts(blocked, shape, pose, radius, discs, out) -> None:
    """Which robots touch something: blocked (B, N, N) with shape (B, 2), discs (B, M, 4) x, y, radius, height; out (B,) bool."""
    for i in range(pose.shape[0]):
        hit = touches(blocked[i, : shape[i, 0], : shape[i, 1]], pose[i, 0], pose[i, 1], radius[i])
        for k in range(discs.shape[1]):
            reach = radius[i] + discs[i, k, 2]
            dx = discs[i, k, 0] - pose[i, 0]
            dy = discs[i, k, 1] - pose[i, 1]
            if discs[i, k, 2] > 0.0 and dx * dx + dy * dy < reach * reach:
                hit = True
        out[i] = hit


@njit(cache=True, nogil=True, parallel=True)
def mark_seen(seen, depth, camera, pose, cell) -> None:
    """Mark the floor each camera sees on coarse grids, for the explored area.

    Args:
        seen: bool (B, G, G), cells of `cell` [m].
        depth: z-depth (B, H, W) [m], 0 = nothing in range.
        camera: (B, 2) horizontal field of view [rad] and range [m] credited where nothing returns.
        pose: (B, 3) camera x, y, yaw in frame w.
    """
    for i in prange(depth.shape[0]):
        height, width = depth.shape[1], depth.shape[2]
        slope = 2.0 * math.tan(0.5 * camera[i, 0]) / width
        for col in range(width):
            side = -(col + 0.5 - 0.5 * width) * slope
            far = 0.0
            for row in range(height // 3, 2 * height // 3):
                d = depth[i, row, col]
                far = max(far, camera[i, 1] if d == 0.0 else d)
            reach = far * math.sqrt(1.0 + side * side)
            angle = pose[i, 2] + math.atan(side)
            s = 0.0
            while s < reach:
                u = int((pose[i, 0] + s * math.cos(angle)) / cell)
                v = int((pose[i, 1] + s * math.sin(angle)) / cell)
                if 0 <= u < seen.shape[2] and 0 <= v < seen.shape[1]:
                    seen[i, v, u] = True
                s += 0.5 * cell


def wrap(angle: np.ndarray) -> np.ndarray:
    """Angles [rad] brought to [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


def to_frame(pose: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Poses (B, 3) expressed in the frames of `origin` (B, 3)."""
    c, s = np.cos(origin[:, 2]), np.sin(origin[:, 2])
    dx, dy = pose[:, 0] - origin[:, 0], pose[:, 1] - origin[:, 1]
    return np.stack([c * dx + s * dy, -s * dx + c * dy, wrap(pose[:, 2] - origin[:, 2])], axis=-1)
