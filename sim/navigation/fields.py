"""Distance and cost-to-go fields of a scene, and the paths that descend them: the privileged half of navigation.

`clearance` is a Euclidean distance transform (Felzenszwalb and Huttenlocher, 2012). `cost_to_go` solves the eikonal
equation |grad T| = slowness by fast marching (Sethian, 1996) with an untidy bucket queue (Yatziv et al., 2006), so one
field labels every pose of the scene with an optimal path. All lengths in metres, fields are float32 (ny, nx) over cells.
"""

import math

import numpy as np
from numba import njit, prange

from sim.navigation.scene import CELL, Z_STEP

FAR = np.float32(1e4)
"""Cost-to-go of cells from which the goal cannot be reached [m]."""
STEP_OVER = 0.04
"""Solids that end below this height are driven over [m]."""
_BUCKETS = 128


@njit(cache=True, nogil=True)
def occupied(solids: np.ndarray, height: float) -> np.ndarray:
    """Cells (ny, nx) that a body of `height` [m] cannot stand in: solid somewhere between STEP_OVER and `height`."""
    ny, nx, layers, _ = solids.shape
    blocked = np.zeros((ny, nx), np.bool_)
    for y in range(ny):
        for x in range(nx):
            for k in range(layers):
                top = solids[y, x, k, 1] * Z_STEP
                if top > STEP_OVER and solids[y, x, k, 0] * Z_STEP < height:
                    blocked[y, x] = True
    return blocked


@njit(cache=True, nogil=True)
def clearance(blocked: np.ndarray) -> np.ndarray:  # noqa: C901
    """Distance [m] from each cell's centre to the nearest blocked cell's edge (half a cell off its centre), 0 inside."""
    ny, nx = blocked.shape
    far = np.float32(ny + nx)
    column = np.empty((ny, nx), np.float32)
    for x in range(nx):
        d = far
        for y in range(ny):
            d = np.float32(0.0) if blocked[y, x] else d + np.float32(1.0)
            column[y, x] = d
        d = far
        for y in range(ny - 1, -1, -1):
            d = np.float32(0.0) if blocked[y, x] else d + np.float32(1.0)
            if d < column[y, x]:
                column[y, x] = d
    out = np.empty((ny, nx), np.float32)
    hull = np.empty(nx, np.int64)
    start = np.empty(nx + 1, np.float64)
    for y in range(ny):
        k = 0
        hull[0] = 0
        start[0] = -1e20
        start[1] = 1e20
        for q in range(1, nx):
            fq = column[y, q] * column[y, q] + q * q
            while True:
                p = hull[k]
                s = (fq - (column[y, p] * column[y, p] + p * p)) / (2.0 * (q - p))
                if s > start[k]:
                    break
                k -= 1
            k += 1
            hull[k] = q
            start[k] = s
            start[k + 1] = 1e20
        k = 0
        for q in range(nx):
            while start[k + 1] < q:
                k += 1
            p = hull[k]
            d = math.sqrt((q - p) * (q - p) + column[y, p] * column[y, p])
            out[y, q] = max(d - 0.5, 0.0) * CELL
    return out


@njit(cache=True, nogil=True)
def _eikonal(field, frozen, y, x, slowness):
    """The upwind solution at one cell from its frozen neighbours."""
    ny, nx = field.shape
    a = FAR
    b = FAR
    if x > 0 and frozen[y, x - 1]:
        a = field[y, x - 1]
    if x < nx - 1 and frozen[y, x + 1] and field[y, x + 1] < a:
        a = field[y, x + 1]
    if y > 0 and frozen[y - 1, x]:
        b = field[y - 1, x]
    if y < ny - 1 and frozen[y + 1, x] and field[y + 1, x] < b:
        b = field[y + 1, x]
    h = slowness * CELL
    if abs(a - b) >= h:
        return min(a, b) + h
    return 0.5 * (a + b + math.sqrt(2.0 * h * h - (a - b) * (a - b)))


@njit(cache=True, nogil=True)
def _march(field, frozen, slowness, head, after, cell, used, width):
    """Fast marching from the entries in the bucket queue; cells of slowness 0 are walls."""
    ny, nx = field.shape
    bucket = 0
    idle = 0
    while idle < _BUCKETS:
        slot = bucket % _BUCKETS
        entry = head[slot]
        if entry < 0:
            bucket += 1
            idle += 1
            continue
        idle = 0
        head[slot] = after[entry]
        y = cell[entry] // nx
        x = cell[entry] % nx
        if frozen[y, x]:
            continue
        frozen[y, x] = True
        for direction in range(4):
            v = y + (direction == 0) - (direction == 1)
            u = x + (direction == 2) - (direction == 3)
            if v < 0 or u < 0 or v >= ny or u >= nx or frozen[v, u] or slowness[v, u] == 0.0:
                continue
            value = _eikonal(field, frozen, v, u, slowness[v, u])
            if value < field[v, u] and used < cell.size:
                field[v, u] = value
                target = max(int(value / width), bucket) % _BUCKETS
                cell[used] = v * nx + u
                after[used] = head[target]
                head[target] = used
                used += 1
    return used


@njit(cache=True, nogil=True)
def cost_to_go(free: np.ndarray, radius: float, goal_x: float, goal_y: float, margin: float, weight: float) -> np.ndarray:
    """Cost [m] of the best path to the goal from every cell, for a disc of `radius`.

    Slowness is 1 in the open and grows quadratically to 1 + weight where clearance falls from radius + margin to radius;
    cells with less clearance than the radius carry the cost of getting out of them, and no path leads through them.

    Args:
        free: clearance (ny, nx) [m].
        radius: of the robot's disc [m].
        goal_x, goal_y: goal in the world frame [m].
        margin: width of the band that costs extra [m].
        weight: extra cost at its inner edge.

    Returns:
        float32 (ny, nx), FAR where there is no path.
    """
    ny, nx = free.shape
    field = np.full((ny, nx), FAR, np.float32)
    slowness = np.zeros((ny, nx), np.float32)
    for y in range(ny):
        for x in range(nx):
            if free[y, x] >= radius:
                lack = max(0.0, (radius + margin - free[y, x]) / margin)
                slowness[y, x] = 1.0 + weight * lack * lack
    frozen = np.zeros((ny, nx), np.bool_)
    head = np.full(_BUCKETS, -1, np.int64)
    after = np.empty(ny * nx * 5, np.int64)
    cell = np.empty(ny * nx * 5, np.int64)
    width = CELL * (1.0 + weight) * 4.0 / _BUCKETS
    gx = min(max(int(goal_x / CELL), 0), nx - 1)
    gy = min(max(int(goal_y / CELL), 0), ny - 1)
    field[gy, gx] = 0.0
    cell[0] = gy * nx + gx
    after[0] = -1
    head[0] = 0
    if slowness[gy, gx] == 0.0:
        return field
    _march(field, frozen, slowness, head, after, cell, 1, width)
    _spill(field, frozen, free, radius)
    return field


@njit(cache=True, nogil=True)
def _spill(field, frozen, free, radius):  # noqa: C901
    """Carry the field into the cells too close to solids, so that it leads out of them from wherever the robot is."""
    ny, nx = field.shape
    reach = int(radius / CELL) + 3
    for _ in range(reach):
        changed = False
        for y in range(ny):
            for x in range(nx):
                if frozen[y, x] or free[y, x] >= radius:
                    continue
                best = FAR
                for v in range(max(y - 1, 0), min(y + 2, ny)):
                    for u in range(max(x - 1, 0), min(x + 2, nx)):
                        if frozen[v, u] and field[v, u] < FAR:
                            step = CELL * math.sqrt((v - y) * (v - y) + (u - x) * (u - x))
                            value = field[v, u] + step * 8.0
                            if value < best:
                                best = value
                if best < FAR:
                    field[y, x] = min(field[y, x], best)
                    changed = True
        if not changed:
            break
        for y in range(ny):
            for x in range(nx):
                if field[y, x] < FAR:
                    frozen[y, x] = True


@njit(cache=True, nogil=True)
def sample(field: np.ndarray, x: float, y: float) -> float:
    """Bilinear value at a world point [m]; points outside take the border's value."""
    ny, nx = field.shape
    u = min(max(x / CELL - 0.5, 0.0), nx - 1.001)
    v = min(max(y / CELL - 0.5, 0.0), ny - 1.001)
    i = int(u)
    j = int(v)
    a = u - i
    b = v - j
    top = field[j, i] * (1 - a) + field[j, i + 1] * a
    low = field[j + 1, i] * (1 - a) + field[j + 1, i + 1] * a
    return top * (1 - b) + low * b


@njit(cache=True, nogil=True)
def _descend(field, x, y, reach):
    """The point at distance `reach` around (x, y) with the lowest cost, by 32 directions and one refinement."""
    best = 1e9
    angle = 0.0
    for k in range(32):
        trial = k * (2 * math.pi / 32)
        value = sample(field, x + reach * math.cos(trial), y + reach * math.sin(trial))
        if value < best:
            best = value
            angle = trial
    delta = math.pi / 32
    for _ in range(3):
        left = sample(field, x + reach * math.cos(angle - delta), y + reach * math.sin(angle - delta))
        right = sample(field, x + reach * math.cos(angle + delta), y + reach * math.sin(angle + delta))
        if left < best and left <= right:
            best = left
            angle -= delta
        elif right < best:
            best = right
            angle += delta
        delta *= 0.5
    return angle


@njit(cache=True, nogil=True)
def descend(field: np.ndarray, x: float, y: float, goal_x: float, goal_y: float, spacing: float, out: np.ndarray) -> float:
    """The optimal path from (x, y), as points `spacing` apart written to `out` (n, 2), held at the goal once reached.

    Returns the length walked [m], which is the whole path's length when `out` is long enough.
    """
    length = 0.0
    substeps = max(1, int(math.ceil(spacing / 0.06)))
    reach = spacing / substeps
    px = x
    py = y
    arrived = False
    for k in range(out.shape[0]):
        for _ in range(substeps):
            if arrived:
                break
            left = math.hypot(goal_x - px, goal_y - py)
            if left <= 2.0 * reach or (left < 0.12 and sample(field, px, py) < 0.3):
                length += left
                px = goal_x
                py = goal_y
                arrived = True
                break
            angle = _descend(field, px, py, reach)
            px += reach * math.cos(angle)
            py += reach * math.sin(angle)
            length += reach
        out[k, 0] = px
        out[k, 1] = py
    return length


@njit(cache=True, nogil=True)
def _smooth(points, x, y):
    """Two passes of a three-point mean over an open polyline that starts at (x, y); the last point stays."""
    for _ in range(2):
        px = x
        py = y
        for k in range(points.shape[0] - 1):
            cx = points[k, 0]
            cy = points[k, 1]
            points[k, 0] = 0.25 * px + 0.5 * cx + 0.25 * points[k + 1, 0]
            points[k, 1] = 0.25 * py + 0.5 * cy + 0.25 * points[k + 1, 1]
            px = cx
            py = cy


@njit(cache=True, nogil=True)
def as_action(points: np.ndarray, pose: np.ndarray, out: np.ndarray) -> None:
    """World points (T, 2) to an action (T, 3): deltas (dx, dy, dtheta) in the robot frame of `pose` (x, y, yaw)."""
    c = math.cos(pose[2])
    s = math.sin(pose[2])
    px = pose[0]
    py = pose[1]
    heading = 0.0
    for k in range(points.shape[0]):
        dx = points[k, 0] - px
        dy = points[k, 1] - py
        out[k, 0] = c * dx + s * dy
        out[k, 1] = -s * dx + c * dy
        out[k, 2] = 0.0
        if dx * dx + dy * dy > 1e-4:
            turn = math.atan2(out[k, 1], out[k, 0]) - heading
            turn -= 2 * math.pi * math.floor((turn + math.pi) / (2 * math.pi))
            out[k, 2] = turn
            heading += turn
        px = points[k, 0]
        py = points[k, 1]


@njit(cache=True, nogil=True, parallel=True)
def expert_actions(fields: np.ndarray, poses: np.ndarray, goals: np.ndarray, spacing: float, out: np.ndarray) -> None:
    """Optimal paths of many worlds: fields (B, ny, nx), poses (B, 3), goals (B, 2) to actions `out` (B, T, 3)."""
    for i in prange(poses.shape[0]):
        points = np.empty((out.shape[1], 2))
        descend(fields[i], poses[i, 0], poses[i, 1], goals[i, 0], goals[i, 1], spacing, points)
        _smooth(points, poses[i, 0], poses[i, 1])
        as_action(points, poses[i], out[i])


@njit(cache=True, nogil=True, parallel=True)
def local_maps(fields: np.ndarray, poses: np.ndarray, resolution: float, out: np.ndarray) -> None:
    """Robot-centred crops: out[i, r, c] samples fields[i] at x_b = (r - (n - 1) / 2) * resolution, y_b likewise from c."""
    n = out.shape[1]
    half = 0.5 * (n - 1)
    for i in prange(poses.shape[0]):
        c = math.cos(poses[i, 2])
        s = math.sin(poses[i, 2])
        for row in range(n):
            for col in range(n):
                x = (row - half) * resolution
                y = (col - half) * resolution
                out[i, row, col] = sample(fields[i], poses[i, 0] + c * x - s * y, poses[i, 1] + s * x + c * y)


@njit(cache=True, nogil=True)
def touches(blocked: np.ndarray, x: float, y: float, radius: float) -> bool:
    """Whether a disc overlaps a blocked cell, exactly; outside the map counts as blocked."""
    ny, nx = blocked.shape
    if x < radius or y < radius or x > nx * CELL - radius or y > ny * CELL - radius:
        return True
    for v in range(int((y - radius) / CELL), int((y + radius) / CELL) + 1):
        for u in range(int((x - radius) / CELL), int((x + radius) / CELL) + 1):
            if v < ny and u < nx and blocked[v, u]:
                dx = max(u * CELL - x, x - (u + 1) * CELL, 0.0)
                dy = max(v * CELL - y, y - (v + 1) * CELL, 0.0)
                if dx * dx + dy * dy < radius * radius:
                    return True
    return False
