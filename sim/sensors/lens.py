"""Which pixels of a camera look along which azimuth: the tables that the column caster walks through.

Pixels are grouped into walks by their azimuth and sorted by elevation inside a walk. A level camera has one walk a column,
and every pixel lies on its walk. The columns of a pitched one are of no single azimuth: there the walks are a third denser
than the columns on the horizon, and spread out logarithmically towards the sides, where only steep pixels look.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

DENSITY = 4 / 3
"""Walks for each image column on the horizon of a pitched camera."""
SIGHT = 4.0
"""How much further than depth colours are seen [1]."""


class Lenses(NamedTuple):
    """Tables of `num` cameras; a ray is one metre long along the optical axis, so that distances along it are z-depths.

    Pixels of walk w are [first[w], first[w + 1]) of the last six, in ascending order of tangent.
    """

    height: np.ndarray
    """float64 (num,), above the floor [m]; nan is not mounted."""
    count: np.ndarray
    """int32 (num,), walks."""
    azimuth: np.ndarray
    """float64 (num, walks), of the walks from left to right [rad]."""
    heading: np.ndarray
    """float64 (num, walks, 2), cosine and sine of the azimuth."""
    reach: np.ndarray
    """float64 (num, walks, 2), horizontal distance beyond which no pixel of a walk sees anything, for depth and colour [m]."""
    first: np.ndarray
    """int32 (num, walks + 1)."""
    index: np.ndarray
    """uint32 (num, pixels), row * width + column."""
    tangent: np.ndarray
    """float32 (num, pixels), of the elevation."""
    ahead: np.ndarray
    """float32 (num, pixels), of the ray, along the heading [m]."""
    left: np.ndarray
    """float32 (num, pixels), of the ray [m]."""
    inverse_rise: np.ndarray
    """float32 (num, pixels), of the ray, upwards [1/m]; never infinite."""


def unmounted(num: int, height: int, width: int) -> Lenses:
    """Room for `num` cameras of height x width pixels."""
    walks, pixels = 5 * width, height * width
    return Lenses(
        height=np.full(num, np.nan),
        count=np.zeros(num, np.int32),
        azimuth=np.zeros((num, walks)),
        heading=np.zeros((num, walks, 2)),
        reach=np.zeros((num, walks, 2)),
        first=np.zeros((num, walks + 1), np.int32),
        index=np.zeros((num, pixels), np.uint32),
        tangent=np.zeros((num, pixels), np.float32),
        ahead=np.zeros((num, pixels), np.float32),
        left=np.zeros((num, pixels), np.float32),
        inverse_rise=np.zeros((num, pixels), np.float32),
    )


def mount(
    lenses: Lenses, i: int, camera_height: float, pitch: float, hfov: float, size: tuple[int, int], max_range: float
) -> None:
    """Fill the tables of camera i: height [m], pitch [rad, negative looks down], horizontal view [rad], range of depth [m]."""
    rows, cols = size
    slope = 2.0 * math.tan(0.5 * hfov) / cols
    up = -(np.arange(rows) + 0.5 - 0.5 * rows) * slope
    left = -(np.arange(cols) + 0.5 - 0.5 * cols) * slope
    ahead, rise = math.cos(pitch) - math.sin(pitch) * up, math.sin(pitch) + math.cos(pitch) * up
    rise[np.abs(rise) < 1e-9] = 1e-9
    horizon = ahead[np.argmin(np.abs(rise))]
    inner, outer = 0.5 * cols * slope / horizon, 0.5 * cols * slope / ahead.min()
    level = outer / inner < 1.0 + 1e-6
    middle = cols if level else math.ceil(DENSITY * cols)
    side = 0 if level else math.ceil(0.4 * cols * math.log(outer / inner))
    side = min(side, (lenses.azimuth.shape[1] - middle) // 2)
    u = left[None, :] / ahead[:, None]
    walk = _walk_of(u, inner, outer, middle, side)
    lenses.height[i], lenses.count[i] = camera_height, middle + 2 * side
    azimuth = np.arctan(_centres(inner, outer, middle, side))
    lenses.azimuth[i, : len(azimuth)] = azimuth
    lenses.heading[i, : len(azimuth)] = np.stack([np.cos(azimuth), np.sin(azimuth)], axis=1)
    tangent = rise[:, None] / np.hypot(ahead[:, None], left[None, :])
    _sort(walk, tangent, lenses.first[i], lenses.index[i])
    order = lenses.index[i]
    row, col = order // cols, order % cols
    lenses.tangent[i] = tangent.ravel()[order]
    lenses.ahead[i], lenses.left[i], lenses.inverse_rise[i] = ahead[row], left[col], 1.0 / rise[row]
    _measure_reach(lenses.first[i], lenses.tangent[i], lenses.inverse_rise[i], camera_height, max_range, lenses.reach[i])


def _walk_of(u: np.ndarray, inner: float, outer: float, middle: int, side: int) -> np.ndarray:
    """Walks (H, W), numbered from the left, of the tangents of azimuth `u`: evenly spaced within `inner`, then in ratios."""
    within = side + np.floor((inner - u) * (0.5 * middle / inner))
    if side == 0:
        return np.clip(within, 0, middle - 1).astype(np.int32)
    steps = np.log(np.maximum(np.abs(u) / inner, 1.0)) * (side / math.log(outer / inner))
    beyond = np.minimum(np.floor(steps), side - 1)
    sides = np.where(u > 0, side - 1 - beyond, side + middle + beyond)
    return np.where(np.abs(u) < inner, within, sides).astype(np.int32)


def _centres(inner: float, outer: float, middle: int, side: int) -> np.ndarray:
    """Tangents of azimuth of the walks from left to right, the inverse of _walk_of."""
    within = inner - (np.arange(middle) + 0.5) * (2.0 * inner / middle)
    beyond = inner * (outer / inner) ** ((np.arange(side) + 0.5) / max(side, 1))
    return np.concatenate([beyond[::-1], within, -beyond])


@njit(cache=True, nogil=True)
def _sort(walk, tangent, first, index):
    """Sort pixels by walk, then by tangent: rows from below come almost in order."""
    rows, cols = walk.shape
    first[:] = 0
    for row in range(rows):
        for col in range(cols):
            first[walk[row, col] + 1] += 1
    for k in range(first.size - 1):
        first[k + 1] += first[k]
    end = first.copy()
    flat = tangent.ravel()
    for row in range(rows - 1, -1, -1):
        for col in range(cols):
            w = walk[row, col]
            place = end[w]
            end[w] += 1
            while place > first[w] and flat[index[place - 1]] > tangent[row, col]:
                index[place] = index[place - 1]
                place -= 1
            index[place] = row * cols + col


@njit(cache=True, nogil=True)
def _measure_reach(first, tangent, inverse_rise, camera_height, max_range, reach):
    """The floor ends what looks down, the range limit ends the rest."""
    for w in range(first.size - 1):
        reach[w] = 0.0
        for k in range(first[w], first[w + 1]):
            depth_per_metre = inverse_rise[k] * tangent[k]
            floor = camera_height / -tangent[k] if tangent[k] < 0.0 else np.inf
            for colour in range(2):
                limit = max_range * (SIGHT if colour else 1.0) / depth_per_metre
                reach[w, colour] = max(reach[w, colour], min(limit, floor))
