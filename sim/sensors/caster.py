"""Depth and flat-shaded RGB images of layered scenes: one walk over the floor grid for a whole column of pixels.

See sim.sensors.lens for which pixels form a column, sim.sensors.walk for how a column is cast. This module holds the camera
of each world and runs batches of images on threads; every image is computed alone, so that neither the batch nor the
number of threads changes a bit of it.
"""

import functools
import itertools
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
from numba import njit

from robot.core.errors import ObservationError, SceneError
from sim.navigation.pool import ScenePool
from sim.navigation.scene import PALETTE
from sim.sensors import lens
from sim.sensors.discs import approach, stand
from sim.sensors.lens import SIGHT
from sim.sensors.walk import SKY, Column, coat, resolve, walk

SHADE = np.array([0.8, 0.65, 1.0, 0.5])
"""Brightness of faces across x, across y, of tops and of undersides."""
STEEPEST = math.radians(85)
"""A camera may not look closer to the vertical than this, in any pixel [rad from the horizon]."""
CHUNKS = 4
"""Parts of a batch for each thread, so that all end at about the same time."""


def paints() -> np.ndarray:
    """RGB uint8 (69, 3) of every paint: solids by colour and face, then FLOOR, CEILING, SKY, CLOTH, SKIN."""
    solids = (PALETTE[:, None] * SHADE[None, :, None]).reshape(-1, 3)
    others = [(120, 112, 100), (225, 225, 225), (150, 185, 220), (70, 80, 125), (205, 150, 120)]
    return np.concatenate([solids, others]).astype(np.uint8)


PAINTS = paints()


class DepthCaster:
    """Cameras of many worlds; each has its own height, pitch and field of view, square pixels and no roll."""

    def __init__(self, pool: ScenePool, num: int, height: int, width: int, max_range: float = 5.0, threads: int = 0) -> None:
        """
        Args:
            pool: the scenes; camera i looks at slot i.
            num: cameras.
            height: image rows [px].
            width: image columns [px].
            max_range: z-depth beyond this reads 0 [m].
            threads: that share a batch; 0 for all that numba may use.
        """
        self.pool, self.size, self.max_range = pool, (height, width), float(max_range)
        self.threads = threads or numba.config.NUMBA_NUM_THREADS
        self.lenses = lens.unmounted(num, height, width)

    def set_camera(self, ids: np.ndarray, camera_height: np.ndarray, pitch: np.ndarray, hfov: np.ndarray) -> None:
        """Mount the cameras of the worlds `ids` (K,): height [m], pitch [rad, negative looks down], horizontal view [rad]."""
        for i, h, p, f in zip(ids, camera_height, pitch, hfov, strict=True):
            if not (np.isfinite([h, p, f]).all() and 0 < f < math.pi and h > 0):
                raise ObservationError(
                    f"camera of world {i}: height {h}, pitch {p}, view {f}; they must be finite, 0 < view < pi, 0 < height"
                )
            if abs(p) + math.atan(math.tan(0.5 * f) * self.size[0] / self.size[1]) > STEEPEST:
                raise ObservationError(
                    f"camera of world {i}: pitch {p:.2f} rad with this view looks within 5 degrees of the vertical"
                )
            lens.mount(self.lenses, int(i), float(h), float(p), float(f), self.size, self.max_range)

    def cast(
        self, slots: np.ndarray, poses: np.ndarray, discs: np.ndarray, out: np.ndarray, rgb: np.ndarray | None = None
    ) -> None:
        """Render.

        Args:
            slots: int (B,), the scene, and the camera, of each image.
            poses: (B, 3) x, y [m], yaw [rad] of the cameras in frame w.
            discs: float32 (B, M, 4) upright cylinders x, y, radius, height [m]; radius 0 is absent.
            out: float32 (B, H, W), z-depth [m]; 0 where nothing is within range.
            rgb: uint8 (B, H, W, 3), or None. Colours reach lens.SIGHT times as far as depth.

        Raises:
            SceneError: a slot that does not exist, or whose camera was never mounted.
            ObservationError: a pose that is not finite, or an array of the wrong shape or type.
        """
        slots = np.asarray(slots, np.int64)
        self._check(slots, poses, discs, out, rgb)
        pool = self.pool
        colours = pool.colours.view(np.uint32)[..., 0]
        scenes = (pool.cells, colours, pool.skip, pool.shape, pool.ceiling, np.minimum(pool.top, pool.ceiling))
        poses, discs = np.ascontiguousarray(poses, np.float64), np.ascontiguousarray(discs, np.float32)
        flat = out.reshape(len(out), -1)
        picture = np.zeros((0, 0, 3), np.uint8) if rgb is None else rgb.reshape(len(rgb), -1, 3)
        threads = min(self.threads, len(slots))
        if threads <= 1:
            _cast(scenes, self.lenses, slots, poses, discs, self.max_range, flat, picture)
            return
        edges = np.linspace(0, len(slots), min(CHUNKS * threads, len(slots)) + 1).astype(int)
        parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
        jobs = [
            _workers(threads).submit(
                _cast, scenes, self.lenses, slots[p], poses[p], discs[p], self.max_range, flat[p], picture[p]
            )
            for p in parts
        ]
        for job in jobs:
            job.result()

    def _check(self, slots: np.ndarray, poses: np.ndarray, discs: np.ndarray, out: np.ndarray, rgb: np.ndarray | None) -> None:
        count, most = len(slots), min(len(self.lenses.height), len(self.pool.cells))
        if count and (slots.min() < 0 or slots.max() >= most):
            raise SceneError(f"slots must be within 0 and {most - 1}, got {slots.min()} to {slots.max()}")
        if np.isnan(self.lenses.height[slots]).any():
            raise SceneError("a camera was never mounted; call set_camera first")
        if np.shape(poses) != (count, 3) or not np.isfinite(poses).all():
            raise ObservationError(f"camera poses must be ({count}, 3) and finite, got {np.shape(poses)}")
        if discs.ndim != 3 or discs.shape[::2] != (count, 4) or not np.isfinite(discs).all():
            raise ObservationError(f"discs must be ({count}, M, 4) and finite, got {discs.shape}")
        for name, array, shape, kind in (("out", out, self.size, np.float32), ("rgb", rgb, (*self.size, 3), np.uint8)):
            if array is not None and not (array.shape == (count, *shape) and array.dtype == kind and array.flags.c_contiguous):
                raise ObservationError(
                    f"{name} must be contiguous {np.dtype(kind)} {(count, *shape)}, got {array.dtype} {array.shape}"
                )


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="caster")


os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not survive a fork


@njit(cache=True, nogil=True, error_model="numpy")
def _cast(scenes, lenses, slots, poses, discs, max_range, out, picture):
    """Images (B, H * W) of a part of a batch; picture is empty where no colour is wanted."""
    cells, colours, skip, shape, ceiling, highest = scenes
    most = out.shape[1]
    gaps, runs, planes = np.empty((most, 2), np.int32), np.empty((most, 3), np.int32), np.empty((most, 2))
    depth, paint = np.empty(most, np.float32), np.empty(most, np.uint8)
    used, near = np.empty(2, np.int64), np.empty((discs.shape[1], 6))
    colour = int(picture.size > 0)
    for b in range(slots.size):
        s = slots[b]
        ny, nx = shape[s, 0], shape[s, 1]
        scene = (cells[s, :ny, :nx], colours[s, :ny, :nx], skip[s, :, :ny, :nx], float(highest[s]))
        x, y, yaw = poses[b, 0], poses[b, 1], poses[b, 2]
        cosine, sine, camera, last = math.cos(yaw), math.sin(yaw), lenses.height[s], lenses.count[s] - 1
        people = approach(discs[b], poses[b], lenses.reach[s, : last + 1, colour].max(), near)
        for w in range(last + 1):
            i, j = lenses.first[s, w], lenses.first[s, w + 1]
            if i == j:
                continue
            rays = (lenses.ahead[s, i:j], lenses.left[s, i:j], lenses.inverse_rise[s, i:j])
            column = Column(lenses.tangent[s, i:j], gaps, runs, planes, used)
            c, d = lenses.heading[s, w, 0], lenses.heading[s, w, 1]
            walk(column, scene, camera, x, y, cosine * c - sine * d, sine * c + cosine * d, lenses.reach[s, w, colour])
            resolve(column, rays, camera, ceiling[s], cosine, sine, depth)
            if colour:
                coat(column, rays[2], ceiling[s], paint)
            if people:
                before = lenses.azimuth[s, w - 1] if w > 0 else np.inf
                after = lenses.azimuth[s, w + 1] if w < last else -np.inf
                stand(near[:people], camera, before, after, column.tangent, rays, depth, paint)
            index = lenses.index[s, i:j]
            for k in range(index.size):
                out[b, index[k]] = depth[k] if 0.0 < depth[k] <= max_range else 0.0
            if colour:
                _expose(index, depth, paint, max_range * SIGHT, picture[b])


@njit(cache=True, nogil=True, error_model="numpy")
def _expose(index, depth, paint, sight, picture):
    """Write the colours of a column; what is out of sight is sky."""
    for k in range(index.size):
        seen = paint[k] if depth[k] <= sight else SKY
        for c in range(3):
            picture[index[k], c] = PAINTS[seen, c]
