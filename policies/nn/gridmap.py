"""Occupancy grids from depth images: hits, free space along the rays, and the distance to what is occupied.

A grid is evidence int8 (G, G), row = y, column = x: positive counts observations of something solid, negative ones of free
space, 0 is unknown. Beside it lies level uint8 (G, G), the height of the last hit in steps of LEVEL: only a ray that passes
at that height may clear the cell, so that looking under a table does not erase its top.
"""

import math

import numpy as np
from numba import njit

LEVEL = 0.02
"""Height step of `level` [m]."""
NOTHING, SOLID, OPEN = 0, 1, 2
_HIT, _GUARD, _CARVED = 1, 2, 3


@njit(cache=True, nogil=True)
def _hits(points, kind, band, pose, cell, reach, mark, height, corner) -> None:
    """Mark the cells of the window in which this image shows something solid, and guard their neighbours from carving."""
    size = mark.shape[0]
    c, s = math.cos(pose[2]), math.sin(pose[2])
    for r in range(points.shape[0]):
        for k in range(points.shape[1]):
            x, y, z = points[r, k, 0], points[r, k, 1], points[r, k, 2]
            if kind[r, k] != SOLID or z < band[0] or z > band[1] or x * x + y * y > reach * reach:
                continue
            u = math.floor((pose[0] + c * x - s * y) / cell) - corner[0]
            v = math.floor((pose[1] + s * x + c * y) / cell) - corner[1]
            if u < 1 or v < 1 or u >= size - 1 or v >= size - 1:
                continue
            for dv in range(-1, 2):
                for du in range(-1, 2):
                    if mark[v + dv, u + du] == 0:
                        mark[v + dv, u + du] = _GUARD
            mark[v, u] = _HIT
            height[v, u] = min(int(z / LEVEL), 255)


@njit(cache=True, nogil=True)
def _interval(z0, z1, band, length, backoff):
    """Part [t0, t1] of a ray from height z0 to z1 that runs inside the height band, ending `backoff` [m] before its end."""
    t0, t1 = 0.0, max(1.0 - backoff / max(length, 1e-6), 0.0)
    rise = z1 - z0
    if abs(rise) > 1e-6:
        a, b = (band[0] - z0) / rise, (band[1] - z0) / rise
        t0, t1 = max(t0, min(a, b)), min(t1, max(a, b))
    elif z0 < band[0] or z0 > band[1]:
        t1 = -1.0
    return t0, t1


@njit(cache=True, nogil=True)
def _carve_ray(evidence, level, mark, corner, start, end, span, cell, tolerance, free_cap) -> None:
    """Lower the evidence along the part span = [t0, t1] of the ray start -> end (x, y, z in frame map)."""
    size = mark.shape[0]
    dx, dy, dz = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    steps = int(math.hypot(dx, dy) * (span[1] - span[0]) / cell)
    for k in range(steps + 1):
        t = span[0] + (span[1] - span[0]) * k / max(steps, 1)
        x, y = start[0] + t * dx, start[1] + t * dy
        u, v = math.floor(x / cell), math.floor(y / cell)
        i, j = u - corner[0], v - corner[1]
        if i < 0 or j < 0 or i >= size or j >= size or mark[j, i] != 0:
            continue
        if u < 0 or v < 0 or u >= evidence.shape[1] or v >= evidence.shape[0]:
            continue
        if evidence[v, u] > 0 and abs(start[2] + t * dz - level[v, u] * LEVEL) > tolerance:
            continue
        mark[j, i] = _CARVED
        evidence[v, u] = max(evidence[v, u] - 1, -free_cap)


@njit(cache=True, nogil=True)
def _carve(evidence, level, points, kind, band, pose, camera, cell, reach, mark, corner, rule) -> None:
    """Carve along every ray of an image, up to `reach`."""
    rows, columns = kind.shape
    c, s = math.cos(pose[2]), math.sin(pose[2])
    start = np.array([pose[0], pose[1], camera])
    end = np.empty(3)
    span = np.empty(2)
    for r in range(rows):
        for k in range(columns):
            if kind[r, k] == NOTHING:
                continue
            x, y, z = points[r, k, 0], points[r, k, 1], points[r, k, 2]
            length = math.sqrt(x * x + y * y + (z - camera) ** 2)
            scale = min(1.0, reach / max(length, 1e-6))
            backoff = 0.0 if scale < 1.0 or kind[r, k] == OPEN else cell + 0.02 * length
            end[0] = pose[0] + scale * (c * x - s * y)
            end[1] = pose[1] + scale * (s * x + c * y)
            end[2] = camera + scale * (z - camera)
            span[0], span[1] = _interval(camera, end[2], band, scale * length, backoff)
            if span[1] > span[0]:
                _carve_ray(evidence, level, mark, corner, start, end, span, cell, rule[0], int(rule[1]))


@njit(cache=True, nogil=True)
def _raise(evidence, level, mark, height, corner, pose, cell, near, cap) -> None:
    """Count one observation of each cell hit, two where it is near enough for noise not to matter."""
    for j in range(mark.shape[0]):
        for i in range(mark.shape[1]):
            v, u = j + corner[1], i + corner[0]
            if mark[j, i] != _HIT or u < 0 or v < 0 or u >= evidence.shape[1] or v >= evidence.shape[0]:
                continue
            dx, dy = (u + 0.5) * cell - pose[0], (v + 0.5) * cell - pose[1]
            count = 2 if dx * dx + dy * dy < near * near else 1
            evidence[v, u] = min(max(evidence[v, u], 0) + count, cap)
            level[v, u] = height[j, i]


@njit(cache=True, nogil=True)
def _stand(evidence, pose, radius, cell) -> None:
    """Where the robot stands nothing else is."""
    reach = 0.8 * radius
    for v in range(math.floor((pose[1] - reach) / cell), math.floor((pose[1] + reach) / cell) + 1):
        for u in range(math.floor((pose[0] - reach) / cell), math.floor((pose[0] + reach) / cell) + 1):
            away = math.hypot((u + 0.5) * cell - pose[0], (v + 0.5) * cell - pose[1])
            if away < reach and 0 <= u < evidence.shape[1] and 0 <= v < evidence.shape[0]:
                evidence[v, u] = min(evidence[v, u], -1)


@njit(cache=True, nogil=True)
def integrate(evidence, level, points, kind, band, pose, body, cell, reach, near, rule) -> None:
    """Add one depth image to a grid, in place.

    Args:
        evidence, level: int8 and uint8 (G, G), see the module.
        points: (H, W, 3) ends of the rays in frame b [m].
        kind: uint8 (H, W), what is at a ray's end: NOTHING known, something SOLID, or OPEN space.
        band: (2,) heights between which things are obstacles [m].
        pose: (3,) robot x, y [m], yaw [rad] in frame map, whose origin is the grid's corner.
        body: (2,) radius of the robot's footprint and height of its camera [m].
        cell: edge of a cell [m].
        reach: range of hits and of carving [m].
        near: a hit within this range counts twice [m].
        rule: (3,) height tolerance of clearing [m], largest evidence of free space, largest evidence of solids.
    """
    half = int(reach / cell) + 2
    corner = np.empty(2, np.int64)
    corner[0] = math.floor(pose[0] / cell) - half
    corner[1] = math.floor(pose[1] / cell) - half
    mark = np.zeros((2 * half + 1, 2 * half + 1), np.uint8)
    height = np.zeros_like(mark)
    _hits(points, kind, band, pose, cell, reach, mark, height, corner)
    _carve(evidence, level, points, kind, band, pose, body[1], cell, reach, mark, corner, rule)
    _raise(evidence, level, mark, height, corner, pose, cell, near, int(rule[2]))
    _stand(evidence, pose, body[0], cell)


@njit(cache=True, nogil=True)
def bounds(evidence, threshold):
    """Box (x0, y0, x1, y1), ends excluded, around cells with at least `threshold` evidence; empty where there are none."""
    size = evidence.shape[0]
    x0, y0, x1, y1 = size, size, 0, 0
    for v in range(size):
        most = evidence[v, 0]
        for u in range(size):
            most = max(most, evidence[v, u])
        if most < threshold:
            continue
        y0, y1 = min(y0, v), v + 1
        for u in range(size):
            if evidence[v, u] >= threshold:
                x0, x1 = min(x0, u), max(x1, u + 1)
    return x0, y0, x1, y1


@njit(cache=True, nogil=True)
def _columns(evidence, threshold, box, cap):
    """Distance [cells] of each cell of the box to the nearest solid cell in its own column, at most `cap`."""
    x0, y0, x1, y1 = box
    out = np.empty((y1 - y0, x1 - x0), np.float32)
    for u in range(x1 - x0):
        d = cap
        for v in range(y1 - y0):
            d = np.float32(0.0) if evidence[v + y0, u + x0] >= threshold else min(d + np.float32(1.0), cap)
            out[v, u] = d
    for u in range(x1 - x0):
        d = cap
        for v in range(y1 - y0 - 1, -1, -1):
            d = np.float32(0.0) if out[v, u] == 0.0 else min(d + np.float32(1.0), cap)
            out[v, u] = min(out[v, u], d)
    return out


@njit(cache=True, nogil=True)
def distance(evidence, threshold, box, cap):
    """Euclidean distance [cells] from the cells of a box to the edge of the nearest solid one, 0 inside, at most `cap`.

    Felzenszwalb and Huttenlocher (2012); rows far from everything are skipped.
    """
    column = _columns(evidence, threshold, box, np.float32(cap))
    ny, nx = column.shape
    out = np.full((ny, nx), np.float32(cap))
    hull = np.empty(nx, np.int64)
    start = np.empty(nx + 1, np.float64)
    for y in range(ny):
        k = -1
        for q in range(nx):
            if column[y, q] >= cap:
                continue
            fq = column[y, q] * column[y, q] + q * q
            s = -1e20
            while k >= 0:
                p = hull[k]
                s = (fq - (column[y, p] * column[y, p] + p * p)) / (2.0 * (q - p))
                if s > start[k]:
                    break
                k -= 1
            k += 1
            hull[k] = q
            start[k] = s if k > 0 else -1e20
            start[k + 1] = 1e20
        if k < 0:
            continue
        k = 0
        for q in range(nx):
            while start[k + 1] < q:
                k += 1
            p = hull[k]
            d = math.sqrt((q - p) * (q - p) + column[y, p] * column[y, p])
            out[y, q] = min(max(d - 0.5, 0.0), cap)
    return out
