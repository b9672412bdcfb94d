"""Depth images by MuJoCo's own ray casts, with the calls of sim.sensors.caster.DepthCaster: slow, and independent of it."""

from collections.abc import Callable

import mujoco
import numpy as np
from numpy.typing import NDArray

from robot.core.errors import NotSupportedError
from sim.physics.wheeled import SCENE_GROUPS, WheeledBase


class RayCaster:
    """One pinhole camera a world, above the middle of the robot; the robot does not see itself."""

    def __init__(self, base: Callable[[int], WheeledBase], num: int, height: int, width: int, max_range: float) -> None:
        """
        Args:
            base: gives the physics of a world.
            num: worlds.
            height: image rows [px].
            width: image columns [px].
            max_range: z-depth beyond this reads 0 [m].
        """
        self._base = base
        self._shape = height, width
        self._max_range = max_range
        self._height = np.zeros(num)
        self._rays = np.zeros((num, height * width, 3))

    def set_camera(self, ids: NDArray, camera_height: NDArray, pitch: NDArray, hfov: NDArray) -> None:
        """Heights [m], pitches [rad, negative looks down] and horizontal fields of view [rad], (K,) each, of the worlds `ids`."""
        for i, z, angle, view in zip(ids, camera_height, pitch, hfov, strict=True):
            self._height[i] = z
            self._rays[i] = _pinhole(*self._shape, float(angle), float(view))

    def cast(self, slots: NDArray, poses: NDArray, discs: NDArray, out: NDArray, rgb: NDArray | None = None) -> None:
        """z-depth [m] (K, H, W) of the worlds `slots` (K,) seen from `poses` (K, 3) x, y, yaw in frame w; 0 = nothing in range.

        `discs` (K, M, 4) x, y, radius, height: the cylinders of the world are put there; an empty list hides them all.
        """
        if rgb is not None:
            raise NotSupportedError("the MuJoCo depth sensor has no colour; set env.rgb=false or env.depth=caster")
        for k, world in enumerate(slots):
            out[k] = self._look(int(world), poses[k], discs[k])

    def _look(self, world: int, pose: NDArray, discs: NDArray) -> NDArray[np.float32]:
        base = self._base(world)
        data = base.synchronise(discs)
        c, s = np.cos(pose[2]), np.sin(pose[2])
        x, y, z = self._rays[world].T
        rays_w = np.stack([c * x - s * y, s * x + c * y, z], axis=-1)
        eye = np.array([pose[0], pose[1], self._height[world]])
        count = len(rays_w)
        hit, depth = np.empty(count, np.int32), np.empty(count)
        mujoco.mj_multiRay(
            base.model, data, eye, rays_w.ravel(), SCENE_GROUPS, 1, -1, hit, depth, None, count, 2.0 * self._max_range
        )
        seen = (hit >= 0) & (depth <= self._max_range)
        return np.where(seen, depth, 0.0).astype(np.float32).reshape(self._shape)


def _pinhole(height: int, width: int, pitch: float, hfov: float) -> NDArray[np.float64]:
    """Rays (H * W, 3) in frame b of unit length along the optical axis, so that distances along them are z-depths."""
    focal = 0.5 * width / np.tan(0.5 * hfov)
    left = (0.5 * width - np.arange(width) - 0.5) / focal
    up = (0.5 * height - np.arange(height) - 0.5) / focal
    up, left = np.meshgrid(up, left, indexing="ij")
    c, s = np.cos(pitch), np.sin(pitch)
    return np.stack([c - s * up, left, s + c * up], axis=-1).reshape(-1, 3)
