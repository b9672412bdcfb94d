"""The physics of one world: the arm, its servos, the object, and where the bin stands."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.arm.model import OPENING, Thing, mujoco

Array = NDArray[np.float64]
SEGMENTS = 5
"""Set points go to their targets in so many steps a control period, so that they are not jerked."""


class World:
    """One arm at its table, with a MjModel of its own so that the object can be another in each episode.

    Attributes:
        set_points: where the servos are told to be: the joints' angles [rad], then the opening of the gripper [m], (n + 1,).
        lost: the physics diverged; until the next reset the world stays as it was.
    """

    def __init__(self, model: Any, joints: int, thing: Thing) -> None:
        self.model, self.data, self.joints, self.nominal = model, mujoco.MjData(model), joints, thing
        self.thing = thing
        self.set_points = np.zeros(joints + 1)
        self.lost = False
        self._site = model.site("hand").id
        self._object = model.geom("object").id
        self._place = int(model.joint("object").qposadr[0])
        self._speed = int(model.joint("object").dofadr[0])
        self._fingers = model.geom("finger_left").id, model.geom("finger_right").id
        self._armed = model.geom_contype == 4
        self._contacts = np.zeros(3, np.bool_)

    def vary(self, mass: float, friction: float, scale: float) -> None:
        """Make the object one of this mass [kg] and friction, `scale` times as large as the nominal one; `reset` must follow."""
        nominal, model, body = self.nominal, self.model, self.model.body("object").id
        self.thing = Thing(nominal.shape, scale * nominal.width, scale * nominal.height)
        half = self.thing.half()
        model.geom_size[self._object] = half
        model.geom_rbound[self._object] = np.hypot(*half[:2]) if half[2] == 0 else np.linalg.norm(half)
        model.geom_aabb[self._object, 3:] = half if half[2] else half[[0, 0, 1]]
        model.geom_friction[self._object, 0] = friction
        model.body_mass[body] = mass
        model.body_inertia[body] = self.thing.inertia(mass)
        mujoco.mj_setConst(model, self.data)

    def reset(self, q: Array, opening: float, place: Array, yaw: float, target: Array) -> None:
        """Everything at rest: joints at q (n,) [rad], the object's centre at `place` (3,) [m], the bin at `target` (3,)."""
        data = self.data
        mujoco.mj_resetData(self.model, data)
        data.qpos[: self.joints] = q
        data.qpos[self.joints : self.joints + 2] = opening / 2
        data.qpos[self._place : self._place + 7] = *place, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)
        if self.model.nmocap:
            data.mocap_pos[0] = target
        self.set_points = np.append(q, opening)
        data.ctrl[:] = self.set_points
        self.lost = False
        mujoco.mj_forward(self.model, data)
        self._look()

    def step(self, targets: Array, count: int) -> None:
        """Lead the set points to `targets` (n + 1,) in `count` steps of the physics, a multiple of SEGMENTS."""
        if self.lost:
            return
        data, start = self.data, self.set_points
        for k in range(1, SEGMENTS + 1):
            data.ctrl[:] = start + (targets - start) * (k / SEGMENTS)
            mujoco.mj_step(self.model, data, count // SEGMENTS)
        self.set_points = targets.copy()
        self.lost = bool(data.warning.number[_BAD].any()) or not np.isfinite(data.qpos).all()
        mujoco.mj_kinematics(self.model, data)
        self._look()

    def _look(self) -> None:
        """Who touches the object: left finger, right finger, anything of the arm. Contacts are those of the last physics step."""
        pairs = self.data.contact.geom
        mine = pairs[(pairs == self._object).any(1)]
        others = np.where(mine[:, 0] == self._object, mine[:, 1], mine[:, 0])
        left, right = self._fingers
        self._contacts[:] = (others == left).any(), (others == right).any(), self._armed[others].any()

    @property
    def angles(self) -> Array:
        return self.data.qpos[: self.joints]

    @property
    def opening(self) -> float:
        """Distance of the pads [m]."""
        return float(self.data.qpos[self.joints : self.joints + 2].sum().clip(0.0, OPENING))

    @property
    def hand(self) -> tuple[Array, Array]:
        """Position (3,) [m] and rotation (3, 3) of the point between the pads, frame w."""
        return self.data.site_xpos[self._site], self.data.site_xmat[self._site].reshape(3, 3)

    @property
    def object(self) -> tuple[Array, Array]:
        """Position (3,) [m] of the object's centre and its rotation (3, 3), frame w."""
        return self.data.geom_xpos[self._object], self.data.geom_xmat[self._object].reshape(3, 3)

    @property
    def bottom(self) -> float:
        """Height of the object's lowest point above the table [m]."""
        position, rotation = self.object
        return float(position[2]) - self.thing.depth(rotation[2])

    @property
    def moving(self) -> float:
        """Speed of the object [m/s]: of its centre, or of its rim by turning where that is more."""
        velocity = self.data.qvel[self._speed : self._speed + 6]
        return float(max(np.linalg.norm(velocity[:3]), np.linalg.norm(velocity[3:]) * self.thing.width / 2))

    @property
    def held(self) -> bool:
        """Both fingers touch the object."""
        return bool(self._contacts[:2].all())

    @property
    def touched(self) -> bool:
        """Anything of the arm touches the object."""
        return bool(self._contacts[2])


_BAD = [
    int(kind) for kind in (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
]
"""Warnings of a diverged simulation, which MuJoCo answers with a reset of its own."""
