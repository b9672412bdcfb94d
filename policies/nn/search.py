"""Paths over clearance grids: A* with a cost that grows near solids, shortcuts that may take any angle, resampling.

Everything here is in cells: a cell (u, v) has its centre at (u + 0.5, v + 0.5). The cost of a step is its length times
1 + weight * lack², where lack rises from 0 to 1 as the clearance falls from body + margin to body.
"""

import math

import numpy as np
from numba import njit

RING = 6
"""Distance from the start at which the direction that a path takes is measured [cells]."""
ESCAPE = 40.0
"""Cost factor of cells too close to solids, passable only near the start."""
DU = np.array([1, -1, 0, 0, 1, 1, -1, -1])
DV = np.array([0, 0, 1, -1, 1, -1, 1, -1])
_STEP = np.array([1.0, 1.0, 1.0, 1.0, 1.41421356, 1.41421356, 1.41421356, 1.41421356])


@njit(cache=True, nogil=True)
def slowness(clear, body, margin, weight):
    """Cost per cell at a clearance; ESCAPE and more where the body does not fit."""
    if clear >= body + margin:
        return 1.0
    if clear < body:
        return ESCAPE * (1.0 + body - clear)
    lack = (body + margin - clear) / margin
    return 1.0 + weight * lack * lack


@njit(cache=True, nogil=True)
def push(keys, items, size, key, item):
    i = size
    while i > 0:
        parent = (i - 1) >> 1
        if keys[parent] <= key:
            break
        keys[i] = keys[parent]
        items[i] = items[parent]
        i = parent
    keys[i] = key
    items[i] = item


@njit(cache=True, nogil=True)
def sink(keys, items, size):
    """Close the gap at the root with the last of `size` + 1 entries."""
    key, item = keys[size], items[size]
    i = 0
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[i] = keys[child]
        items[i] = items[child]
        i = child
    keys[i] = key
    items[i] = item


@njit(cache=True, nogil=True)
def _octile(u, v, gu, gv):
    a, b = abs(u - gu), abs(v - gv)
    return max(a, b) + 0.41421356 * min(a, b)


@njit(cache=True, nogil=True)
def nearest_free(clear, u, v, body, reach):
    """The cell within `reach` of (u, v) nearest to it where the body fits, or (-1, -1)."""
    ny, nx = clear.shape
    best, bu, bv = reach * reach + 1.0, -1, -1
    for y in range(max(v - reach, 0), min(v + reach + 1, ny)):
        for x in range(max(u - reach, 0), min(u + reach + 1, nx)):
            d = (x - u) * (x - u) + (y - v) * (y - v)
            if clear[y, x] >= body and d < best:
                best, bu, bv = d, x, y
    return bu, bv


@njit(cache=True, nogil=True)
def astar(clear, start, goal, body, margin, weight, escape, yaw, turn):
    """Cells from start to goal on an 8-connected grid.

    Args:
        clear: clearance (ny, nx) [cells].
        start, goal: (u, v).
        body, margin, weight: see the module.
        escape: distance from the start up to which cells with less clearance than `body` may be crossed [cells].
        yaw: heading at the start [rad].
        turn: cost of setting out in another direction [cells/rad]; it keeps the robot from wavering between two ways.

    Returns:
        int32 (n, 2) from start to goal; n = 0 where there is no path.
    """
    ny, nx = clear.shape
    cost = np.full((ny, nx), np.inf, np.float32)
    came = np.full((ny, nx), -1, np.int8)
    closed = np.zeros((ny, nx), np.bool_)
    keys = np.empty(4 * (ny + nx) + 64, np.float32)
    items = np.empty(keys.size, np.int64)
    cost[start[1], start[0]] = 0.0
    push(keys, items, 0, 0.0, start[1] * nx + start[0])
    size = 1
    while size > 0:
        item = items[0]
        size -= 1
        sink(keys, items, size)
        v, u = item // nx, item % nx
        if closed[v, u]:
            continue
        closed[v, u] = True
        if u == goal[0] and v == goal[1]:
            break
        for k in range(8):
            x, y = u + DU[k], v + DV[k]
            if x < 0 or y < 0 or x >= nx or y >= ny or closed[y, x]:
                continue
            away = (x - start[0]) * (x - start[0]) + (y - start[1]) * (y - start[1])
            if clear[y, x] < body and (clear[y, x] <= 0.0 or away > escape * escape):
                continue
            value = cost[v, u] + _STEP[k] * slowness(clear[y, x], body, margin, weight)
            if away > RING * RING and (u - start[0]) ** 2 + (v - start[1]) ** 2 <= RING * RING:
                value += turn * _angle(x - start[0], y - start[1], yaw)
            if value < cost[y, x] - 1e-6:
                cost[y, x] = value
                came[y, x] = k
                if size + 1 >= keys.size:
                    keys = np.concatenate((keys, np.empty_like(keys)))
                    items = np.concatenate((items, np.empty_like(items)))
                push(keys, items, size, value + _octile(x, y, goal[0], goal[1]), y * nx + x)
                size += 1
    return _trace(came, closed, goal)


@njit(cache=True, nogil=True)
def _angle(dx, dy, yaw):
    """Angle between a direction and a heading [rad], 0 to pi."""
    angle = math.atan2(dy, dx) - yaw
    return abs(angle - 2 * math.pi * math.floor((angle + math.pi) / (2 * math.pi)))


@njit(cache=True, nogil=True)
def _trace(came, closed, goal):
    """The cells that led to the goal, first to last."""
    u, v = goal[0], goal[1]
    if not closed[v, u]:
        return np.empty((0, 2), np.int32)
    count = 1
    while came[v, u] >= 0:
        k = came[v, u]
        u, v = u - DU[k], v - DV[k]
        count += 1
    cells = np.empty((count, 2), np.int32)
    u, v = goal[0], goal[1]
    for i in range(count - 1, -1, -1):
        cells[i, 0], cells[i, 1] = u, v
        k = came[v, u]
        if k >= 0:
            u, v = u - DU[k], v - DV[k]
    return cells


@njit(cache=True, nogil=True)
def _costs(clear, cells, count, body, margin, weight):
    """Cost from the first to each of the first `count` cells of a path."""
    out = np.zeros(count)
    for i in range(1, count):
        step = math.hypot(cells[i, 0] - cells[i - 1, 0], cells[i, 1] - cells[i - 1, 1])
        out[i] = out[i - 1] + step * slowness(clear[cells[i, 1], cells[i, 0]], body, margin, weight)
    return out


@njit(cache=True, nogil=True)
def _line_cost(clear, ax, ay, bx, by, body, margin, weight):
    """Cost of the straight line between two points, sampled every half cell."""
    length = math.hypot(bx - ax, by - ay)
    steps = int(2.0 * length) + 1
    total = 0.0
    for k in range(steps):
        t = (k + 0.5) / steps
        total += slowness(clear[int(ay + t * (by - ay)), int(ax + t * (bx - ax))], body, margin, weight)
    return total * length / steps


@njit(cache=True, nogil=True)
def shortcut(clear, cells, limit, body, margin, weight, out):
    """Straighten a path: from each kept point to the furthest one that a line reaches at no more cost.

    Looks at the first `limit` cells only. Writes points (n, 2) in cells to out and returns n.
    """
    last = min(len(cells), limit) - 1
    costs = _costs(clear, cells, last + 1, body, margin, weight)
    out[0, 0], out[0, 1] = cells[0, 0] + 0.5, cells[0, 1] + 0.5
    count, i = 1, 0
    while i < last:
        j = last
        while j > i + 1:
            ax, ay, bx, by = cells[i, 0] + 0.5, cells[i, 1] + 0.5, cells[j, 0] + 0.5, cells[j, 1] + 0.5
            if _line_cost(clear, ax, ay, bx, by, body, margin, weight) <= costs[j] - costs[i] + 0.02:
                break
            j -= 1
        i = j
        out[count, 0], out[count, 1] = cells[i, 0] + 0.5, cells[i, 1] + 0.5
        count += 1
    return count


@njit(cache=True, nogil=True)
def resample(points: np.ndarray, count: int, spacing: float, out: np.ndarray) -> None:
    """Points `spacing` apart along a polyline: points[:count] (n, 2), written to out (T, 2), held at the last one."""
    segment = 0
    used = 0.0
    for k in range(out.shape[0]):
        left = spacing
        while segment < count - 1:
            length = math.hypot(points[segment + 1, 0] - points[segment, 0], points[segment + 1, 1] - points[segment, 1])
            if used + left <= length:
                used += left
                break
            left -= length - used
            used = 0.0
            segment += 1
        if segment >= count - 1:
            out[k, 0], out[k, 1] = points[count - 1, 0], points[count - 1, 1]
            continue
        length = math.hypot(points[segment + 1, 0] - points[segment, 0], points[segment + 1, 1] - points[segment, 1])
        t = used / length
        out[k, 0] = points[segment, 0] + t * (points[segment + 1, 0] - points[segment, 0])
        out[k, 1] = points[segment, 1] + t * (points[segment + 1, 1] - points[segment, 1])


@njit(cache=True, nogil=True)
def smooth(points: np.ndarray, passes: int) -> None:
    """Three-point means over points (T, 2) that start at the origin, in place; the last point stays."""
    for _ in range(passes):
        x, y = 0.0, 0.0
        for k in range(points.shape[0] - 1):
            here_x, here_y = points[k, 0], points[k, 1]
            points[k, 0] = 0.25 * x + 0.5 * here_x + 0.25 * points[k + 1, 0]
            points[k, 1] = 0.25 * y + 0.5 * here_y + 0.25 * points[k + 1, 1]
            x, y = here_x, here_y
