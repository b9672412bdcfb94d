"""Inverse kinematics of the point `hand` by damped least squares, with MuJoCo's Jacobian.

With J (6, n) of position and rotation and the error e (6,), in metres and radians, a step is

    dq = d0 + J^T (J J^T + DAMPING^2 I)^-1 (e - J d0),     d0 = POSTURE (q_rest - q)

(Nakamura and Hanafusa, 1986): what the hand does not need, the redundant joints use to come back to the posture at rest.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.arm.model import mujoco

Array = NDArray[np.float64]
DAMPING = 0.02
"""Singular values of J below this are given up: the arm does not rush through singular postures."""
POSTURE = 0.1
"""Share of the way back to the posture at rest that a step takes where the hand permits."""
STEP = 0.3
"""Longest step of a joint [rad]."""
CLOSE = 1e-4
"""An error of the hand below this, in metres and radians, ends the search."""


class Reach:
    """The arm without its surroundings, for one thread at a time."""

    def __init__(self, model: Any, joints: int, rest: Array) -> None:
        """`rest` (n,) is the posture that is preferred [rad]."""
        self.model, self.data, self.joints, self.rest = model, mujoco.MjData(model), joints, rest
        self.low, self.high = model.jnt_range[:joints].T
        self.site = model.site("hand").id
        self._jacobian = np.zeros((6, model.nv))
        self._damping = DAMPING**2 * np.eye(6)

    def forward(self, q: Array) -> tuple[Array, Array]:
        """Position (3,) [m] and rotation (3, 3) of the hand in frame w at the angles q (n,)."""
        self.data.qpos[: self.joints] = q
        mujoco.mj_kinematics(self.model, self.data)
        return self.data.site_xpos[self.site].copy(), self.data.site_xmat[self.site].reshape(3, 3).copy()

    def solve(self, q: Array, position: Array, yaw: float, steps: int) -> Array:
        """Angles (n,) that bring the hand, pointing down, to `position` (3,) [m] and heading `yaw` [rad], searched from `q`."""
        q, wanted = q.copy(), pointing_down(yaw)
        for _ in range(steps):
            at, rotation = self.forward(q)
            error = np.concatenate([position - at, _turn(rotation, wanted)])
            if abs(error).max() < CLOSE:
                break
            q = (q + self._step(q, error).clip(-STEP, STEP)).clip(self.low, self.high)
        return q

    def _step(self, q: Array, error: Array) -> Array:
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_jacSite(self.model, self.data, self._jacobian[:3], self._jacobian[3:], self.site)
        jacobian = self._jacobian[:, : self.joints]
        back = POSTURE * (self.rest - q)
        return back + jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + self._damping, error - jacobian @ back)


def pointing_down(yaw: float) -> Array:
    """Rotation (3, 3) of a hand that points down with its y axis, along which the pads close, turned by `yaw` from that of w."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[-c, -s, 0.0], [-s, c, 0.0], [0.0, 0.0, -1.0]])


def _turn(now: Array, wanted: Array) -> Array:
    """A vector (3,) about which to turn from one rotation to another: axis times the angle's sine, which grows up to 90 degrees.

    Beyond 90 degrees it is stretched to unit length, so that a half turn does not take forever.
    """
    e = wanted @ now.T
    vector = 0.5 * np.array([e[2, 1] - e[1, 2], e[0, 2] - e[2, 0], e[1, 0] - e[0, 1]])
    if np.trace(e) < 1.0:
        vector = vector / max(float(np.linalg.norm(vector)), 1e-6)
    return vector
