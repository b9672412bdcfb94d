"""One azimuth of an image: a 2-D walk over the floor grid that finds the surface behind every pixel of the column.

The walk (Amanatides and Woo, 1987) goes from the camera outwards and jumps over empty space. A column's pixels are sorted by
elevation; what no surface has claimed yet is kept as gaps, at each solid cell the faces of its intervals claim runs of
them, nearest first. Claims are resolved to depths afterwards, a run at a time, from the plane of the face and each
pixel's own direction: depth is exact, and only silhouettes of a pitched camera are off, by up to half a walk.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from sim.navigation.scene import CELL, LAYERS, Z_STEP

ACROSS_X, ACROSS_Y, TOP, UNDER = range(4)
"""Faces; a solid pixel is painted 4 * colour + face."""
FLOOR, CEILING, SKY, CLOTH, SKIN = range(64, 69)
"""Other paints."""
TOUCHING = 0.01
"""Nearest distance of a face, so that slopes stay finite [m]."""
GRAZING = np.float32(0.75), np.float32(1.35)
"""A pixel beside the walk's azimuth that meets a vertical face outside these multiples of the walk's own distance keeps that."""


class Column(NamedTuple):
    """What a walk works on, room for n pixels."""

    tangent: np.ndarray
    """float32 (n,), of the pixels' elevations, ascending."""
    gaps: np.ndarray
    """int32 (n, 2), pixels [begin, end) without a surface, ascending."""
    runs: np.ndarray
    """int32 (n, 3), pixels [begin, end) with a surface, and its paint."""
    planes: np.ndarray
    """float64 (n, 2), of each run: signed distance of the surface's plane, horizontal distance at the walk [m]."""
    used: np.ndarray
    """int64 (2,), gaps and runs in use."""


@njit(cache=True, nogil=True, error_model="numpy")
def _lower(tangent, low, high, value):
    """First place in [low, high) whose tangent is not below `value`."""
    while low < high:
        middle = (low + high) >> 1
        if tangent[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True, error_model="numpy")
def _claim(column, bottom, top, paint, plane, near):
    """Give the pixels of tangent in [bottom, top) that are still without a surface to a face."""
    tangent, gaps, runs, planes, used = column
    j = 0
    while j < used[0]:
        begin, end = gaps[j, 0], gaps[j, 1]
        if tangent[begin] >= top:
            return
        if tangent[end - 1] < bottom:
            j += 1
            continue
        a = begin if tangent[begin] >= bottom else _lower(tangent, begin, end, bottom)
        b = end if tangent[end - 1] < top else _lower(tangent, a, end, top)
        if a < b:
            run = used[1]
            runs[run, 0], runs[run, 1], runs[run, 2] = a, b, paint
            planes[run, 0], planes[run, 1] = plane, near
            used[1] = run + 1
            j -= _cut(gaps, used, j, a, b)
        j += 1


@njit(cache=True, nogil=True, error_model="numpy")
def _cut(gaps, used, j, a, b):
    """Take [a, b) out of gap j; returns 1 if nothing is left of it."""
    begin, end = gaps[j, 0], gaps[j, 1]
    if a > begin and b < end:
        for k in range(used[0], j + 1, -1):
            gaps[k, 0], gaps[k, 1] = gaps[k - 1, 0], gaps[k - 1, 1]
        used[0] += 1
        gaps[j, 1] = a
        gaps[j + 1, 0], gaps[j + 1, 1] = b, end
    elif a > begin:
        gaps[j, 1] = a
    elif b < end:
        gaps[j, 0] = b
    else:
        used[0] -= 1
        for k in range(j, used[0]):
            gaps[k, 0], gaps[k, 1] = gaps[k + 1, 0], gaps[k + 1, 1]
        return 1
    return 0


@njit(cache=True, nogil=True, error_model="numpy")
def _horizon(column, camera, highest):
    """Horizontal distance [m] beyond which no gap sees a solid: the floor or the height of the scene ends the view."""
    reach = 0.0
    for j in range(column.used[0]):
        low, high = column.tangent[column.gaps[j, 0]], column.tangent[column.gaps[j, 1] - 1]
        if high < 0.0:
            reach = max(reach, -camera / high)
        elif low > 0.0:
            reach = max(reach, (highest - camera) / low)
        else:
            return np.inf
    return reach


@njit(cache=True, nogil=True, error_model="numpy")
def _fronts(column, word, coats, camera, highest, face, plane, near):
    """The faces of a cell's intervals that look at the camera."""
    steep = 1.0 / near
    for k in range(LAYERS):
        if word == 0:
            return
        z0 = (word & np.uint64(255)) * Z_STEP - camera
        z1 = min(((word >> np.uint64(8)) & np.uint64(255)) * Z_STEP, highest) - camera
        paint = 4 * ((coats >> np.uint32(8 * k)) & np.uint32(255)) + face
        if z1 > z0:
            _claim(column, z0 * steep, z1 * steep, paint, plane, near)
        word >>= np.uint64(16)


@njit(cache=True, nogil=True, error_model="numpy")
def _levels(column, word, coats, camera, highest, near, far):
    """Tops below the camera and undersides above it, of equal cells from `near` to `far` [m]."""
    near = max(near, TOUCHING)
    steep, flat = 1.0 / near, 1.0 / max(far, near)
    for k in range(LAYERS):
        if word == 0:
            return
        z0 = (word & np.uint64(255)) * Z_STEP - camera
        z1 = min(((word >> np.uint64(8)) & np.uint64(255)) * Z_STEP, highest) - camera
        paint = 4 * ((coats >> np.uint32(8 * k)) & np.uint32(255))
        if z1 < 0.0:
            _claim(column, z1 * steep, z1 * flat, paint + TOP, z1, near)
        elif z0 > 0.0 and z1 > z0:
            _claim(column, z0 * flat, z0 * steep, paint + UNDER, z0, near)
        word >>= np.uint64(16)


@njit(cache=True, nogil=True, error_model="numpy")
def walk(column, scene, camera, x, y, dx, dy, reach):
    """Claim the pixels of one azimuth, from `camera` [m] above x, y [m] along the unit vector dx, dy in frame w, to `reach` [m].

    Neighbouring equal cells are one body: only its first face is a front, and its tops and undersides are claimed at once
    when the walk leaves it. `scene` is cells uint64 (ny, nx), their colours uint32, skip uint8 (4, ny, nx), highest solid [m].
    """
    cells, colours, skips, highest = scene
    ny, nx = cells.shape
    column.used[0], column.used[1] = 1, 0
    column.gaps[0, 0], column.gaps[0, 1] = 0, column.tangent.size
    dx, dy = dx if abs(dx) > 1e-9 else 1e-9, dy if abs(dy) > 1e-9 else 1e-9
    skip = skips[(1 if dx < 0 else 0) + (2 if dy < 0 else 0)]
    slow_x, slow_y = 1.0 / dx, 1.0 / dy
    px, py = x / CELL, y / CELL
    ix, iy = int(math.floor(px)), int(math.floor(py))
    step_x, step_y = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    edge_x, edge_y = (1 if dx > 0 else 0), (1 if dy > 0 else 0)
    enter, start, limit = 0.0, 0.0, reach / CELL
    body, coats, face = np.uint64(0), np.uint32(0), ACROSS_X
    while enter < limit and 0 <= ix < nx and 0 <= iy < ny:
        row, col = np.uint64(iy), np.uint64(ix)  # unsigned: numba need not look for negative ones
        free = np.int64(skip[row, col])
        word = cells[row, col] if free == 0 else np.uint64(0)
        if word != body or (free == 0 and colours[row, col] != coats):
            found = column.used[1]
            if body != 0:
                _levels(column, body, coats, camera, highest, start * CELL, enter * CELL)
            body, coats, start = word, colours[row, col], enter
            if body != 0 and enter > 0.0:
                plane = (ix + 1 - edge_x) * CELL - x if face == ACROSS_X else (iy + 1 - edge_y) * CELL - y
                _fronts(column, body, coats, camera, highest, face, plane, max(enter * CELL, TOUCHING))
            if column.used[1] != found:
                limit = min(limit, _horizon(column, camera, highest) / CELL)
        # the far side of the square of `free` cells ahead, all empty but this one
        free = max(free, 1)
        far_x = (ix + step_x * (free - 1) + edge_x - px) * slow_x
        far_y = (iy + step_y * (free - 1) + edge_y - py) * slow_y
        if far_x < far_y:
            enter, face = far_x, ACROSS_X
            ix += step_x * free
            iy = iy if free == 1 else int(math.floor(py + dy * enter))
        else:
            enter, face = far_y, ACROSS_Y
            iy += step_y * free
            ix = ix if free == 1 else int(math.floor(px + dx * enter))
    _levels(column, body, coats, camera, highest, start * CELL, enter * CELL)


@njit(cache=True, nogil=True, error_model="numpy")
def resolve(column, rays, camera, ceiling, cosine, sine, depth):
    """Depths (n,) of a column: floor and ceiling, then the claimed runs, in front of them.

    `rays` is ahead, left, inverse_rise of the column's pixels (see sim.sensors.lens); cosine and sine of the camera's yaw.
    """
    ahead, left, inverse_rise = rays
    down, roof = np.float32(-camera), np.float32(ceiling - camera)
    for k in range(inverse_rise.size):
        depth[k] = (down if inverse_rise[k] < 0 else roof) * inverse_rise[k]
    for j in range(column.used[1]):
        a, b = column.runs[j, 0], column.runs[j, 1]
        face = column.runs[j, 2] & 3
        plane, near = column.planes[j, 0], np.float32(column.planes[j, 1])
        part, steep, slope = depth[a:b], inverse_rise[a:b], column.tangent[a:b]
        if face >= TOP:
            height = np.float32(plane)
            for k in range(part.size):
                part[k] = height * steep[k]
            continue
        f = np.float32((cosine if face == ACROSS_X else sine) / plane)
        g = np.float32((-sine if face == ACROSS_X else cosine) / plane)
        forward, aside = ahead[a:b], left[a:b]
        for k in range(part.size):
            own = near * slope[k] * steep[k]
            value = np.float32(1.0) / (f * forward[k] + g * aside[k])
            value = value if (value > GRAZING[0] * own) & (value < GRAZING[1] * own) else own
            part[k] = min(value, part[k])


@njit(cache=True, nogil=True, error_model="numpy")
def coat(column, inverse_rise, ceiling, paint):
    """Paints (n,) of a column: floor, ceiling or sky, then the claimed runs."""
    above = CEILING if ceiling < np.inf else SKY
    for k in range(inverse_rise.size):
        paint[k] = FLOOR if inverse_rise[k] < 0 else above
    for j in range(column.used[1]):
        paint[column.runs[j, 0] : column.runs[j, 1]] = column.runs[j, 2]
