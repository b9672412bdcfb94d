"""Depth and flat-shaded RGB images of layered scenes: one walk over the floor grid for a whole column of pixels.

Every azimuth of an image is one 2-D walk from the camera outwards (Amanatides and Woo, 1987), with jumps over empty space.
The pixels of that azimuth are sorted by elevation; at each solid cell the faces of its intervals claim the pixels they
cover, nearest first. A claimed pixel takes its depth from the face's plane and its own direction, so depth is exact; only
for a pitched camera, whose columns are not of one azimuth, is the silhouette off by up to half a walk.
"""

import math

import numpy as np
from numba import get_num_threads, njit, prange, set_num_threads

from robot.core.errors import ObservationError, SceneError
from sim.navigation.pool import ScenePool
from sim.navigation.scene import CELL, LAYERS, PALETTE, Z_STEP

FLOOR, CEILING, SKIN = np.array([(120, 112, 100), (225, 225, 225), (205, 140, 110)], np.uint8)
SHADE = np.array([0.8, 0.65, 1.0, 0.5], np.float32)
"""Brightness of faces across x, across y, of tops and of undersides."""
ACROSS_X, ACROSS_Y, TOP, UNDER = range(4)


class DepthCaster:
    """Cameras of many worlds; each has its own height, pitch and field of view, square pixels and no roll."""

    def __init__(self, pool: ScenePool, num: int, height: int, width: int, max_range: float = 5.0, threads: int = 0) -> None:
        self.pool, self.size, self.max_range, self.threads = pool, (height, width), float(max_range), threads
        self.walks = 2 * width
        pixels = height * width
        self.camera_height = np.full(num, np.nan, np.float32)
        self.count = np.zeros(num, np.int32)
        self.azimuth = np.zeros((num, self.walks), np.float64)
        self.first = np.zeros((num, self.walks + 1), np.int32)
        self.index = np.zeros((num, pixels), np.int32)
        self.tangent = np.zeros((num, pixels), np.float32)
        self.ray = np.zeros((num, pixels, 3), np.float32)

    def set_camera(self, ids: np.ndarray, camera_height: np.ndarray, pitch: np.ndarray, hfov: np.ndarray) -> None:
        """Mount the cameras of the worlds `ids` (K,): height [m], pitch [rad, negative looks down], horizontal view [rad]."""
        for i, h, p, f in zip(ids, camera_height, pitch, hfov, strict=True):
            if not (np.isfinite([h, p, f]).all() and 0 < f < math.pi and h > 0):
                raise ObservationError(
                    f"camera of world {i}: height {h}, pitch {p}, view {f}; they must be finite, 0 < view < pi"
                )
            rows = math.atan(math.tan(0.5 * f) * self.size[0] / self.size[1])
            if abs(p) + rows > math.radians(85):
                raise ObservationError(
                    f"camera of world {i}: pitch {p:.2f} rad with this view looks within 5 degrees of the vertical"
                )
            self.camera_height[i] = h
            self.count[i] = _sort_pixels(
                p, f, *self.size, self.azimuth[i], self.first[i], self.index[i], self.tangent[i], self.ray[i]
            )

    def cast(
        self, slots: np.ndarray, poses: np.ndarray, discs: np.ndarray, out: np.ndarray, rgb: np.ndarray | None = None
    ) -> None:
        """Render.

        Args:
            slots: int (B,), the scene, and the camera, of each image.
            poses: (B, 3) x, y [m], yaw [rad] of the cameras in frame w.
            discs: float32 (B, M, 4) upright cylinders x, y, radius, height [m]; radius 0 is absent.
            out: float32 (B, H, W), z-depth [m]; 0 where nothing is within range.
            rgb: uint8 (B, H, W, 3), or None.
        """
        slots = np.asarray(slots, np.int64)
        if len(slots) and (slots.min() < 0 or slots.max() >= len(self.count)):
            raise SceneError(f"slots must be within 0 and {len(self.count) - 1}, got {slots.min()} to {slots.max()}")
        if not np.isfinite(poses).all():
            raise ObservationError("camera poses must be finite")
        if np.isnan(self.camera_height[slots]).any():
            raise SceneError("a camera was never mounted; call set_camera first")
        picture = np.zeros((1, 1, 1, 3), np.uint8) if rgb is None else rgb
        before = get_num_threads()
        set_num_threads(min(self.threads or before, before))
        _cast_all(
            self.pool.cells, self.pool.colours, self.pool.skip, self.pool.ceiling, self.pool.shape, slots,
            np.ascontiguousarray(poses, np.float64), np.ascontiguousarray(discs, np.float32), self.camera_height, self.count,
            self.azimuth, self.first, self.index, self.tangent, self.ray, self.max_range, out, picture, rgb is not None,
        )  # fmt: skip
        set_num_threads(before)


@njit(cache=True, nogil=True)
def _sort_pixels(pitch, hfov, height, width, azimuth, first, index, tangent, ray):
    """Assign every pixel to the walk nearest to its azimuth, in order of elevation; returns the number of walks."""
    slope = 2.0 * math.tan(0.5 * hfov) / width
    c, s = math.cos(pitch), math.sin(pitch)
    s_low = 1e9
    for row in range(height):
        up = -(row + 0.5 - 0.5 * height) * slope
        s_low = min(s_low, c - s * up)
    widest = math.atan(0.5 * width * slope / s_low)
    level = abs(pitch) < 1e-6
    count = width if level else min(azimuth.size, int(math.ceil(2.0 * widest / (0.75 * hfov / width))))
    for k in range(count):
        if level:
            azimuth[k] = math.atan(-(k + 0.5 - 0.5 * width) * slope)
        else:
            azimuth[k] = widest - (k + 0.5) * 2.0 * widest / count
    first[:] = 0
    walk_of = np.empty(height * width, np.int32)
    for row in range(height):
        up = -(row + 0.5 - 0.5 * height) * slope
        for col in range(width):
            left = -(col + 0.5 - 0.5 * width) * slope
            angle = math.atan2(left, c - s * up)
            walk = col if level else min(max(int((widest - angle) * count / (2.0 * widest)), 0), count - 1)
            walk_of[row * width + col] = walk
            first[walk + 1] += 1
    for k in range(count):
        first[k + 1] += first[k]
    filled = np.zeros(count, np.int32)
    for row in range(height - 1, -1, -1):
        up = -(row + 0.5 - 0.5 * height) * slope
        for col in range(width):
            left = -(col + 0.5 - 0.5 * width) * slope
            ahead, rise = c - s * up, s + c * up
            value = rise / math.sqrt(ahead * ahead + left * left)
            walk = walk_of[row * width + col]
            place = first[walk] + filled[walk]
            filled[walk] += 1
            while place > first[walk] and tangent[place - 1] > value:
                tangent[place] = tangent[place - 1]
                index[place] = index[place - 1]
                ray[place] = ray[place - 1]
                place -= 1
            tangent[place] = value
            index[place] = row * width + col
            ray[place, 0], ray[place, 1], ray[place, 2] = ahead, left, rise
    return count


@njit(cache=True, nogil=True, inline="always")
def _lower(tangent, low, high, value):
    """First place in [low, high) whose tangent is not below `value`."""
    while low < high:
        middle = (low + high) >> 1
        if tangent[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True, nogil=True, inline="always")
def _claim(tangent, depth, paint, low, high, bottom, top, face, plane, near, ray, cosine, sine, colour):
    """Give the unclaimed pixels of tangent in [bottom, top) the depth of a face.

    `plane` is its signed distance [m]; a pixel beside the walk's azimuth that meets the plane far from where the walk did,
    at a grazing angle, keeps the walk's own distance `near`.
    """
    for k in range(_lower(tangent, low, high, bottom), high):
        if tangent[k] >= top:
            break
        if depth[k] == 0.0:
            if face >= TOP:
                depth[k] = plane / ray[k, 2]
            else:
                own = near / math.sqrt(ray[k, 0] ** 2 + ray[k, 1] ** 2)
                along = cosine * ray[k, 0] - sine * ray[k, 1] if face == ACROSS_X else sine * ray[k, 0] + cosine * ray[k, 1]
                value = plane / along if abs(along) > 1e-6 else own
                depth[k] = value if 0.75 * own < value < 1.35 * own else own
            paint[k] = 4 * colour + face


@njit(cache=True, nogil=True)
def _walk(  # noqa: C901
    cells, colours, skip, ceiling, ny, nx, x, y, camera, angle, cosine, sine, tangent, ray, max_range, depth, paint
):  # fmt: skip
    """Claim the pixels of one azimuth; depth and paint (n,) come zeroed."""
    n = tangent.size
    dx, dy = math.cos(angle), math.sin(angle)
    dx = dx if abs(dx) > 1e-9 else 1e-9
    dy = dy if abs(dy) > 1e-9 else 1e-9
    px, py = x / CELL, y / CELL
    ix, iy = int(math.floor(px)), int(math.floor(py))
    step_x, step_y = (1 if dx > 0 else -1), (1 if dy > 0 else -1)
    widest = 0.0
    for k in (0, n - 1):
        widest = max(widest, math.sqrt(ray[k, 0] ** 2 + ray[k, 1] ** 2))
    middle = ray[n // 2]
    widest = max(widest, math.sqrt(middle[0] ** 2 + middle[1] ** 2))
    limit = max_range * widest / CELL
    low, high = 0, n
    enter = 0.0
    next_x = (ix + (step_x > 0) - px) / dx
    next_y = (iy + (step_y > 0) - py) / dy
    side = ACROSS_X
    while enter < limit:
        if ix < 0 or iy < 0 or ix >= nx or iy >= ny:
            break
        word = cells[iy, ix]
        if word == 0:
            jump = skip[iy, ix]
            if jump > 2:
                far_x = (ix + (jump if step_x > 0 else 1 - jump) - px) / dx
                far_y = (iy + (jump if step_y > 0 else 1 - jump) - py) / dy
                if far_x < far_y:
                    enter = far_x
                    ix += step_x * jump
                    iy = int(math.floor(py + dy * enter))
                    side = ACROSS_X
                else:
                    enter = far_y
                    iy += step_y * jump
                    ix = int(math.floor(px + dx * enter))
                    side = ACROSS_Y
                next_x = (ix + (step_x > 0) - px) / dx
                next_y = (iy + (step_y > 0) - py) / dy
                continue
        leave = min(next_x, next_y)
        if word != 0:
            near = max(enter, 0.01) * CELL
            while low < high and (depth[low] != 0.0 or -camera > tangent[low] * near):
                low += 1
            while high > low and (depth[high - 1] != 0.0 or ceiling - camera < tangent[high - 1] * near):
                high -= 1
            if low >= high:
                break
            plane = (ix + (step_x < 0)) * CELL - x if side == ACROSS_X else (iy + (step_y < 0)) * CELL - y
            if enter <= 0.0:
                plane = 0.0
            _cell(
                word,
                colours[iy, ix],
                ceiling,
                camera,
                near,
                leave * CELL,
                side,
                plane,
                tangent,
                ray,
                cosine,
                sine,
                low,
                high,
                depth,
                paint,
            )
        if next_x < next_y:
            enter = next_x
            ix += step_x
            next_x = (ix + (step_x > 0) - px) / dx
            side = ACROSS_X
        else:
            enter = next_y
            iy += step_y
            next_y = (iy + (step_y > 0) - py) / dy
            side = ACROSS_Y


@njit(cache=True, nogil=True, inline="always")
def _cell(word, colour, ceiling, camera, near, far, side, plane, tangent, ray, cosine, sine, low, high, depth, paint):
    """The faces of one cell's intervals: fronts first, then tops and undersides."""
    for k in range(LAYERS):
        z0 = ((word >> np.uint64(16 * k)) & np.uint64(255)) * Z_STEP - camera
        z1 = min(((word >> np.uint64(16 * k + 8)) & np.uint64(255)) * Z_STEP, ceiling) - camera
        if z1 <= z0:
            continue
        if plane != 0.0:
            _claim(tangent, depth, paint, low, high, z0 / near, z1 / near, side, plane, near, ray, cosine, sine, colour[k])
    for k in range(LAYERS):
        z0 = ((word >> np.uint64(16 * k)) & np.uint64(255)) * Z_STEP - camera
        z1 = min(((word >> np.uint64(16 * k + 8)) & np.uint64(255)) * Z_STEP, ceiling) - camera
        if z1 <= z0:
            continue
        if z1 < 0.0:
            _claim(tangent, depth, paint, low, high, z1 / near, z1 / far, TOP, z1, near, ray, cosine, sine, colour[k])
        elif z0 > 0.0:
            _claim(tangent, depth, paint, low, high, z0 / far, z0 / near, UNDER, z0, near, ray, cosine, sine, colour[k])


@njit(cache=True, nogil=True)
def _discs(discs, x, y, camera, angle, tangent, ray, depth, paint):
    """Upright cylinders in front of what is already there; paint 255 marks them."""
    dx, dy = math.cos(angle), math.sin(angle)
    for m in range(discs.shape[0]):
        radius = discs[m, 2]
        if radius <= 0.0:
            continue
        ox, oy = discs[m, 0] - x, discs[m, 1] - y
        along = ox * dx + oy * dy
        aside = ox * dy - oy * dx
        if abs(aside) >= radius or along < -radius:
            continue
        half = math.sqrt(radius * radius - aside * aside)
        near, far = max(along - half, 1e-3), along + half
        if far <= 0.0:
            continue
        rise = discs[m, 3] - camera
        bottom, front = -camera / near, rise / near
        top = max(front, rise / far) if rise < 0.0 else front
        for k in range(_lower(tangent, 0, tangent.size, bottom), tangent.size):
            if tangent[k] >= top:
                break
            across = math.sqrt(ray[k, 0] ** 2 + ray[k, 1] ** 2)
            value = near / across if tangent[k] < front else rise / ray[k, 2]
            if depth[k] == 0.0 or value < depth[k]:
                depth[k] = value
                paint[k] = 255


@njit(cache=True, nogil=True)
def _finish(index, ray, camera, ceiling, max_range, depth, paint, out, picture, colour):  # noqa: C901
    """Floor and ceiling for what no solid claimed, the range limit, and the colours."""
    width = out.shape[1]
    for k in range(index.size):
        row, col = index[k] // width, index[k] % width
        surface = 0
        value = depth[k]
        if value == 0.0 and ray[k, 2] < 0.0:
            value = -camera / ray[k, 2]
            surface = 1
        elif value == 0.0 and ray[k, 2] > 0.0:
            value = (ceiling - camera) / ray[k, 2]
            surface = 2
        if not value <= max_range:
            value = 0.0
            surface = 3
        out[row, col] = value
        if colour:
            for c in range(3):
                if surface == 1:
                    picture[row, col, c] = FLOOR[c]
                elif surface == 2:
                    picture[row, col, c] = CEILING[c]
                elif surface == 3:
                    picture[row, col, c] = 60
                elif paint[k] == 255:
                    picture[row, col, c] = SKIN[c]
                else:
                    picture[row, col, c] = np.uint8(PALETTE[paint[k] >> 2, c] * SHADE[paint[k] & 3])


@njit(cache=True, nogil=True, parallel=True)
def _cast_all(
    cells, colours, skip, ceiling, shape, slots, poses, discs, camera, count, azimuth, first, index, tangent, ray, max_range, out,
    picture, colour,
):  # fmt: skip
    for b in prange(slots.size):
        s = slots[b]
        ny, nx = shape[s, 0], shape[s, 1]
        cosine, sine = math.cos(poses[b, 2]), math.sin(poses[b, 2])
        x, y, z = poses[b, 0], poses[b, 1], camera[s]
        depth = np.empty(index.shape[1], np.float32)
        paint = np.empty(index.shape[1], np.uint8)
        for w in range(count[s]):
            i, j = first[s, w], first[s, w + 1]
            if i == j:
                continue
            depth[i:j] = 0.0
            angle = poses[b, 2] + azimuth[s, w]
            _walk(
                cells[s], colours[s], skip[s], ceiling[s], ny, nx, x, y, z, angle, cosine, sine, tangent[s, i:j], ray[s, i:j],
                max_range, depth[i:j], paint[i:j],
            )  # fmt: skip
            for m in range(depth[i:j].size):
                value = depth[i + m]
                # a pixel that the floor or the ceiling stops before the solid behind it
                if value != 0.0 and ray[s, i + m, 2] < 0.0 and -z / ray[s, i + m, 2] < value - 1e-4:
                    depth[i + m] = 0.0
            _discs(discs[b], x, y, z, angle, tangent[s, i:j], ray[s, i:j], depth[i:j], paint[i:j])
            _finish(
                index[s, i:j],
                ray[s, i:j],
                z,
                ceiling[s],
                max_range,
                depth[i:j],
                paint[i:j],
                out[b],
                picture[np.int64(b) * colour],
                colour,
            )
