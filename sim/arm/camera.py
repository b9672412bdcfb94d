"""A fixed camera by MuJoCo's ray casts: depth for policies, shaded pictures for films. No OpenGL, so it works anywhere."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.arm.model import mujoco

Array = NDArray[np.float64]
EYE = (1.15, -0.5, 0.68)
"""Where the camera stands, frame w [m]: in front of the arm, to its right, above."""
AIM = (0.37, 0.0, 0.17)
"""What it looks at, frame w [m]."""
FIELD = 0.76
"""Angle that a picture is wide and high [rad]."""
FAR = 3.0
"""Depth beyond this reads 0 [m]."""
SUN = (0.35, -0.45, 0.82)
"""Direction towards the light, frame w."""
SKY = (0.93, 0.95, 0.98)


class Camera:
    """Square images of `side` pixels."""

    def __init__(self, side: int) -> None:
        self.side = side
        ahead = _unit(np.subtract(AIM, EYE))
        right = _unit(np.cross(ahead, (0.0, 0.0, 1.0)))
        across = np.tan(FIELD / 2) * ((np.arange(side) + 0.5) * 2 / side - 1)
        columns, rows = np.meshgrid(across, -across, indexing="xy")
        self.rays = (ahead + columns[..., None] * right + rows[..., None] * np.cross(right, ahead)).reshape(-1, 3)

    def depth(self, model: Any, data: Any) -> NDArray[np.float32]:
        """Distance along the optical axis (side, side) [m], 0 where nothing is within FAR."""
        _, distance, _ = _cast(model, data, np.array(EYE), self.rays)
        return np.where((distance >= 0) & (distance <= FAR), distance, 0.0).astype(np.float32).reshape(self.side, self.side)

    def picture(self, model: Any, data: Any, marks: Array) -> NDArray[np.uint8]:
        """A shaded picture (side, side, 3) with shadows; what lies within 1 cm of `marks` (K, 3), frame w [m], is green."""
        eye = np.array(EYE)
        hit, distance, normal = _cast(model, data, eye, self.rays)
        seen = hit >= 0
        points = eye + self.rays * distance[:, None]
        colour = np.where(seen[:, None], model.geom_rgba[hit, :3], SKY)
        for mark in marks:
            near = seen & (np.linalg.norm(points - mark, axis=1) < 0.01)
            colour[near] = (0.2, 0.75, 0.35)
        light = np.where(self._shaded(model, data, points, normal, seen), 0.0, np.clip(normal @ _unit(SUN), 0.0, 1.0))
        colour = np.where(seen[:, None], colour * (0.45 + 0.55 * light)[:, None], colour)
        return (255 * colour.clip(0.0, 1.0)).astype(np.uint8).reshape(self.side, self.side, 3)

    def _shaded(self, model: Any, data: Any, points: Array, normal: Array, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Points (N, 3) between which and the light something stands: rays from a far light that end before them."""
        sun = np.array(AIM) + 5.0 * _unit(SUN)
        toward = points + 0.002 * normal - sun
        toward[~seen] = -np.array(SUN)
        _, reached, _ = _cast(model, data, sun, toward)
        return seen & (reached >= 0) & (reached < 1.0 - 1e-4)


def _cast(model: Any, data: Any, start: Array, rays: Array) -> tuple[NDArray[np.int32], Array, Array]:
    """Geom that each ray (N, 3) meets, -1 for none; how many of its own lengths away; the surface's normal (N, 3)."""
    count = len(rays)
    hit, distance, normal = np.empty(count, np.int32), np.empty(count), np.empty((count, 3))
    lengths = np.linalg.norm(rays, axis=1)
    unit = np.ascontiguousarray(rays / lengths[:, None])
    flat = normal.reshape(-1)
    mujoco.mj_multiRay(model, data, start, unit.ravel(), None, 1, -1, hit, distance, flat, count, 10.0)
    return hit, np.where(hit >= 0, distance / lengths, -1.0), np.where((hit >= 0)[:, None], normal, 0.0)


def _unit(vector: Any) -> Array:
    values = np.asarray(vector, np.float64)
    return values / np.linalg.norm(values)
