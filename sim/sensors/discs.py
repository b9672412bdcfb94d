"""Moving obstacles as upright cylinders, in front of a column that is already cast; exact for every pixel."""

import math

from numba import njit

from sim.sensors.walk import CLOTH, SKIN

HEAD = 0.85
"""Share of a cylinder's height that is cloth, from below; the rest is skin."""


@njit(cache=True, nogil=True, error_model="numpy")
def approach(discs, pose, reach, near):
    """The cylinders (M, 4) that an image can show, into the rows of `near`; returns how many.

    `reach` is the horizontal distance beyond which nothing is in range [m]. A row is x, y in the frame of the camera's
    heading, radius, height [m] and the lowest and highest azimuth [rad]. A cylinder that holds the camera is not seen.
    """
    c, s = math.cos(pose[2]), math.sin(pose[2])
    count = 0
    for m in range(discs.shape[0]):
        radius = discs[m, 2]
        dx, dy = discs[m, 0] - pose[0], discs[m, 1] - pose[1]
        ahead, left = c * dx + s * dy, c * dy - s * dx
        distance = math.sqrt(ahead * ahead + left * left)
        if radius <= 0.0 or distance <= radius or ahead + radius <= 0.0 or distance - radius > reach:
            continue
        middle, half = math.atan2(left, ahead), math.asin(radius / distance)
        near[count, 0], near[count, 1], near[count, 2], near[count, 3] = ahead, left, radius, discs[m, 3]
        near[count, 4], near[count, 5] = middle - half, middle + half
        count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def stand(near, camera, before, after, tangent, rays, depth, paint):
    """Put the cylinders into a column; `before` and `after` are the azimuths of the walks beside it [rad]."""
    ahead, left, inverse_rise = rays
    for m in range(near.shape[0]):
        if before < near[m, 4] or after > near[m, 5]:
            continue
        x, y, radius, height = near[m, 0], near[m, 1], near[m, 2], near[m, 3]
        distance = math.sqrt(x * x + y * y)
        rise = height - camera
        bottom = -camera / (distance - radius)
        top = rise / (distance - radius) if rise > 0.0 else rise / (distance + radius)
        outside = x * x + y * y - radius * radius
        for k in range(tangent.size):
            if bottom <= tangent[k] <= top:
                value = _meet(x, y, outside, radius, rise, ahead[k], left[k], inverse_rise[k])
                if 0.0 < value < depth[k]:
                    depth[k] = value
                    paint[k] = CLOTH if camera + value / inverse_rise[k] < HEAD * height else SKIN


@njit(cache=True, nogil=True, error_model="numpy")
def _meet(x, y, outside, radius, rise, ahead, left, inverse_rise):
    """Depth at which a ray meets a cylinder at (x, y) whose top is `rise` above the camera; 0 if it does not."""
    square = ahead * ahead + left * left
    toward = ahead * x + left * y
    root = toward * toward - square * outside
    if root <= 0.0 or toward <= 0.0:
        return 0.0
    value = (toward - math.sqrt(root)) / square
    top = rise * inverse_rise
    if inverse_rise > 0.0:
        return value if value <= top else 0.0
    if value >= top:
        return value
    return top if (top * ahead - x) ** 2 + (top * left - y) ** 2 <= radius * radius else 0.0
