"""The T, its outline and the share of a goal that it covers; pixels and radians, frame w of the table, y as in the data."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

Array = NDArray[np.float64]

SIDE = 512.0
"""Edge of the table [px]."""
RADIUS = 15.0
"""Of the agent [px]."""
BAR = (-60.0, 60.0, 0.0, 30.0)
STEM = (-15.0, 15.0, 30.0, 120.0)
"""The two rectangles of the T in its own frame: x low, x high, y low, y high [px]."""
AREA = 6300.0
"""Of the T [px^2]."""
CENTRE = (0.0, 45.0)
"""Centre of mass in the frame of the T [px]."""
OUTLINE = np.array([[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]], np.float64)
"""Corners of the T in its frame, in order (8, 2) [px]."""
KEYPOINTS = np.array(
    [[9.27, 90.04], [-60.98, -1.19], [60.91, -1.39], [-0.27, 25.54], [-14.06, 122.82], [39.00, 32.86], [-39.97, 32.73],
     [-16.82, 62.86], [23.54, -1.70]]
)  # fmt: skip
"""The nine points of the published key-point observations, in the frame of the T (9, 2) [px]."""


def placed(points: Array, pose: Array) -> Array:
    """Points (K, 2) of a body's frame in frame w, for poses (..., 3) of x, y, angle: (..., K, 2)."""
    c, s = np.cos(pose[..., 2:3]), np.sin(pose[..., 2:3])
    x = pose[..., 0:1] + c * points[:, 0] - s * points[:, 1]
    y = pose[..., 1:2] + s * points[:, 0] + c * points[:, 1]
    return np.stack([x, y], axis=-1)


@njit(cache=True, nogil=True)
def coverage(pose: Array, goal: Array) -> float:
    """Share of a T at `goal` (3,) that a T at `pose` (3,) covers, in [0, 1]."""
    total = 0.0
    for mine in (BAR, STEM):
        for its in (BAR, STEM):
            total += _overlap(pose, mine, goal, its)
    return total / AREA


@njit(cache=True, nogil=True)
def coverages(poses: Array, goals: Array) -> Array:
    """`coverage` of each row of poses (B, 3) and goals (B, 3)."""
    out = np.empty(len(poses))
    for i in range(len(poses)):
        out[i] = coverage(poses[i], goals[i])
    return out


@njit(cache=True, nogil=True)
def _overlap(pose, mine, goal, its):
    """Area that a rectangle of one body and one of another have in common: clipping in the other's frame."""
    x, y, fresh_x, fresh_y = np.empty(10), np.empty(10), np.empty(10), np.empty(10)
    turn = pose[2] - goal[2]
    c, s = np.cos(turn), np.sin(turn)
    gc, gs = np.cos(goal[2]), np.sin(goal[2])
    dx, dy = pose[0] - goal[0], pose[1] - goal[1]
    ox, oy = gc * dx + gs * dy, -gs * dx + gc * dy
    for k in range(4):
        px = mine[0] if k in (0, 3) else mine[1]
        py = mine[2] if k < 2 else mine[3]
        x[k], y[k] = ox + c * px - s * py, oy + s * px + c * py
    count = 4
    for side in range(4):
        limit, sign = its[side], 1.0 if side % 2 == 0 else -1.0
        kept = 0
        for k in range(count):
            j = (k + 1) % count
            here = sign * ((x[k] if side < 2 else y[k]) - limit)
            there = sign * ((x[j] if side < 2 else y[j]) - limit)
            if here >= 0:
                fresh_x[kept], fresh_y[kept] = x[k], y[k]
                kept += 1
            if (here >= 0) != (there >= 0):
                t = here / (here - there)
                fresh_x[kept], fresh_y[kept] = x[k] + t * (x[j] - x[k]), y[k] + t * (y[j] - y[k])
                kept += 1
        count = kept
        for k in range(count):
            x[k], y[k] = fresh_x[k], fresh_y[k]
        if count < 3:
            return 0.0
    twice = 0.0
    for k in range(count):
        j = (k + 1) % count
        twice += x[k] * y[j] - x[j] * y[k]
    return abs(twice) / 2
