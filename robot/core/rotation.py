"""Rotations, batched: the leading axes (…) of every argument are free and broadcast.

Quaternions `q` are (…, 4) in the order w, x, y, z and unit length; q and -q are the same rotation. Matrices are (…, 3, 3) and
rotate column vectors. A rotation called `q_wb` or `R_wb` maps vectors of the body frame `b` to the world frame `w`. Rotation
vectors (…, 3) and angles are in radians; axes are x forward, y left, z up. Other orders (ROS, PyBullet: x, y, z, w) are
converted at the edge by `from_xyzw` and `to_xyzw` alone.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def from_xyzw(q: ArrayLike) -> Array:
    return np.roll(_array(q), 1, axis=-1)


def to_xyzw(q: ArrayLike) -> Array:
    return np.roll(_array(q), -1, axis=-1)


def normalize(q: ArrayLike) -> Array:
    """Unit quaternion with w >= 0, so that one rotation has one array (but for half turns)."""
    values = _array(q)
    unit: Array = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return np.where(unit[..., :1] < 0, -unit, unit)


def multiply(a: ArrayLike, b: ArrayLike) -> Array:
    """Hamilton product: first b, then a."""
    aw, ax, ay, az = np.moveaxis(_array(a), -1, 0)
    bw, bx, by, bz = np.moveaxis(_array(b), -1, 0)
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        axis=-1,
    )


def inverse(q: ArrayLike) -> Array:
    return _array(q) * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: ArrayLike, v: ArrayLike) -> Array:
    """Vectors v (…, 3) turned by q: v + 2 w (u × v) + 2 u × (u × v), with u the vector part of q."""
    values, vector = _array(q), _array(v)
    u = values[..., 1:]
    t = 2.0 * np.cross(u, vector)
    return vector + values[..., :1] * t + np.cross(u, t)


def to_matrix(q: ArrayLike) -> Array:
    w, x, y, z = np.moveaxis(_array(q), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def from_matrix(matrix: ArrayLike) -> Array:
    """The quaternion with w >= 0; stable for every rotation, since its largest element is found first.

    The matrix 4 q qᵀ is linear in R; its row with the largest diagonal element is q times a number of at least 1.
    """
    m = _array(matrix)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2]
    outer = [
        [1 + xx + yy + zz, wx, wy, wz],
        [wx, 1 + xx - yy - zz, xy, xz],
        [wy, xy, 1 - xx + yy - zz, yz],
        [wz, xz, yz, 1 - xx - yy + zz],
    ]
    stacked = np.stack([np.stack(row, axis=-1) for row in outer], axis=-2)
    best = np.diagonal(stacked, axis1=-2, axis2=-1).argmax(axis=-1)
    return normalize(np.take_along_axis(stacked, best[..., None, None], axis=-2)[..., 0, :])


def from_rotvec(vector: ArrayLike) -> Array:
    """Quaternion of the rotation by |vector| about its direction."""
    values = _array(vector)
    half = 0.5 * np.linalg.norm(values, axis=-1, keepdims=True)
    return np.concatenate([np.cos(half), 0.5 * values * np.sinc(half / np.pi)], axis=-1)


def to_rotvec(q: ArrayLike) -> Array:
    """The shortest rotation vector, length at most pi."""
    unit = normalize(q)
    sine = np.linalg.norm(unit[..., 1:], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(sine, unit[..., :1])
    # angle / sine -> 2 as sine -> 0; below 1e-8 the next term is beyond double precision
    return unit[..., 1:] * np.where(sine < 1e-8, 2.0, angle / np.maximum(sine, 1e-8))


def from_yaw(yaw: ArrayLike) -> Array:
    """Rotation about z, counter-clockwise seen from above."""
    half = 0.5 * _array(yaw)
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)


def to_yaw(q: ArrayLike) -> Array:
    """Heading of the turned x axis in the x-y plane, in [-pi, pi]; meaningless where it points straight up or down."""
    w, x, y, z = np.moveaxis(_array(q), -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def wrap(angle: ArrayLike) -> Array:
    """The same angle in [-pi, pi)."""
    return (_array(angle) + np.pi) % (2 * np.pi) - np.pi


def distance(a: ArrayLike, b: ArrayLike) -> Array:
    """Angle of the rotation between two quaternions, in [0, pi]."""
    return np.linalg.norm(to_rotvec(multiply(inverse(a), b)), axis=-1)


def _array(value: ArrayLike) -> Array:
    return np.asarray(value, dtype=np.float64)
