"""Where to go without a goal: the place in known free space that promises most unknown space for the way there."""

import math

import numpy as np
from numba import njit

from policies.nn import gridmap, search

WINDOW = 1.0
"""Half side of the square in which unknown space is counted [m]."""
MIN_WAY = 0.8
"""Places nearer than this are no target [m]."""
ARRIVED = 0.6
"""A target nearer than this is reached, and what is still unknown around it cannot be seen [m]."""


@njit(cache=True, nogil=True)
def _unknown_sums(evidence, box):
    """Integral image (ny + 1, nx + 1) of unknown cells inside a box."""
    x0, y0, x1, y1 = box
    total = np.zeros((y1 - y0 + 1, x1 - x0 + 1), np.int32)
    for v in range(y1 - y0):
        row = 0
        for u in range(x1 - x0):
            row += evidence[v + y0, u + x0] == 0
            total[v + 1, u + 1] = total[v, u + 1] + row
    return total


@njit(cache=True, nogil=True)
def _count(total, u, v, half):
    y0, y1 = max(v - half, 0), min(v + half + 1, total.shape[0] - 1)
    x0, x1 = max(u - half, 0), min(u + half + 1, total.shape[1] - 1)
    return total[y1, x1] - total[y0, x1] - total[y1, x0] + total[y0, x0]


@njit(cache=True, nogil=True)
def reachable(evidence, clear, box, start, body, margin, weight, escape):
    """Cost [cells] (ny, nx) of the way from start to every cell of the box through known free space, inf where none."""
    ny, nx = clear.shape
    cost = np.full((ny, nx), np.inf, np.float32)
    closed = np.zeros((ny, nx), np.bool_)
    keys = np.empty(ny * nx * 8 + 8, np.float32)
    items = np.empty(keys.size, np.int64)
    cost[start[1], start[0]] = 0.0
    search.push(keys, items, 0, 0.0, start[1] * nx + start[0])
    size = 1
    while size > 0:
        item = items[0]
        size -= 1
        search.sink(keys, items, size)
        v, u = item // nx, item % nx
        if closed[v, u]:
            continue
        closed[v, u] = True
        for k in range(4):
            x, y = u + search.DU[k], v + search.DV[k]
            if x < 0 or y < 0 or x >= nx or y >= ny or closed[y, x]:
                continue
            close = math.hypot(x - start[0], y - start[1]) <= escape
            if (evidence[y + box[1], x + box[0]] >= 0 or clear[y, x] < body) and (not close or clear[y, x] <= 0.0):
                continue
            value = cost[v, u] + search.slowness(clear[y, x], body, margin, weight)
            if value < cost[y, x]:
                cost[y, x] = value
                search.push(keys, items, size, value, y * nx + x)
                size += 1
    return cost


@njit(cache=True, nogil=True)
def choose(evidence, cost, box, start, yaw, cell, gain, out) -> bool:
    """Write the best target [m, frame map] to out (2,); False where no reachable place promises anything.

    A place is worth `gain` metres of way for each square metre of unknown space around it; looking back costs as much as
    a metre a radian.
    """
    total = _unknown_sums(evidence, box)
    half = int(WINDOW / cell)
    best = 0.0
    for v in range(0, cost.shape[0], 2):
        for u in range(0, cost.shape[1], 2):
            way = cost[v, u] * cell
            if not MIN_WAY <= way < 1e6:
                continue
            unknown = _count(total, u, v, half) * cell * cell
            if unknown < 0.3:
                continue
            bearing = math.atan2(v - start[1], u - start[0]) - yaw
            bearing -= 2 * math.pi * math.floor((bearing + math.pi) / (2 * math.pi))
            score = 100.0 + gain * unknown - way - abs(bearing)
            if score > best:
                best = score
                out[0], out[1] = (u + box[0] + 0.5) * cell, (v + box[1] + 0.5) * cell
    return best > 0.0


@njit(cache=True, nogil=True)
def settle(evidence, target, cell) -> None:
    """Count what is still unknown around a reached target as free, so that it attracts no more."""
    half = int(WINDOW / cell) + 2
    u, v = int(target[0] / cell), int(target[1] / cell)
    for y in range(max(v - half, 0), min(v + half + 1, evidence.shape[0])):
        for x in range(max(u - half, 0), min(u + half + 1, evidence.shape[1])):
            if evidence[y, x] == 0:
                evidence[y, x] = -1


@njit(cache=True, nogil=True)
def wanted(evidence, pose, target, cell) -> bool:
    """Whether a target (x, y, chosen) is still worth going to; one that is reached is settled."""
    if target[2] < 0.5:
        return False
    if math.hypot(target[0] - pose[0], target[1] - pose[1]) < ARRIVED:
        settle(evidence, target, cell)
        return False
    u, v, half = int(target[0] / cell), int(target[1] / cell), int(WINDOW / cell)
    unknown = 0
    for y in range(max(v - half, 0), min(v + half + 1, evidence.shape[0])):
        for x in range(max(u - half, 0), min(u + half + 1, evidence.shape[1])):
            unknown += evidence[y, x] == 0
    return unknown * cell * cell > 0.3


@njit(cache=True, nogil=True)
def explore(evidence, hits, pose, radius, rule, gain, target) -> None:
    """Keep or replace the target (x, y, chosen) of one world [m, frame map]; chosen is 0 where there is none.

    Args:
        evidence: int8 (G, G), see `gridmap`; what is unknown around a reached target is settled in place.
        rule: cell, margin, weight, escape as the planner has them.
        gain: metres of way that a square metre of unknown space is worth.
    """
    cell, body = rule[0], radius / rule[0]
    if wanted(evidence, pose, target, cell):
        return
    side = evidence.shape[0]
    u = min(max(int(pose[0] / cell), 0), side - 1)
    v = min(max(int(pose[1] / cell), 0), side - 1)
    reach = int(7.0 / cell)
    box = (max(u - reach, 0), max(v - reach, 0), min(u + reach + 1, side), min(v + reach + 1, side))
    clear = gridmap.distance(evidence, hits, box, float(math.ceil((radius + rule[1]) / cell) + 1))
    start = (u - box[0], v - box[1])
    cost = reachable(evidence, clear, box, start, body, rule[1] / cell, rule[2], rule[3] / cell)
    target[2] = 1.0 if choose(evidence, cost, box, start, pose[2], cell, gain, target) else 0.0
