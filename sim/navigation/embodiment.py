"""What a robot is to navigation: a disc of some height with a camera on it, limits and an imperfect base."""

from dataclasses import dataclass, fields

import numpy as np


@dataclass
class Embodiment:
    """One robot. What is above `height` is no obstacle; frames are FLU, the camera looks along x."""

    radius: float
    """Radius of the footprint disc [m]."""
    height: float
    """Height of the body [m]."""
    camera_height: float
    """Camera above the floor [m]."""
    camera_pitch: float
    """Pitch of the optical axis [rad], negative looks down."""
    hfov: float
    """Horizontal field of view [rad]."""
    max_speed: float
    """Forward speed limit [m/s]."""
    max_yaw_rate: float
    """Yaw rate limit [rad/s]."""
    max_acceleration: float
    """Forward acceleration limit [m/s²]."""
    max_yaw_acceleration: float
    """Yaw acceleration limit [rad/s²]."""
    delay: float
    """Time from command to its effect [s]."""
    tracking_error: float
    """Standard deviation of the relative error of executed velocities, drawn per episode, [1]."""

    def as_array(self) -> np.ndarray:
        return np.array([getattr(self, f.name) for f in fields(self)], dtype=np.float64)
