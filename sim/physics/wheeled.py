"""A differential-drive base in MuJoCo, alone in one scene: wheels that lag and slip, contacts that push back.

Body commands become wheel speeds by the inverse kinematics of two wheels at y = ±b: w_left = (v - w b) / r and
w_right = (v + w b) / r. The numbers of the robot stand in assets/wheeled/robot.xml and are derived in the README there.
"""

from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np
from mujoco.rollout import Rollout
from numpy.typing import NDArray

from robot.core.errors import ConfigError
from robot.core.paths import ASSETS
from sim.navigation.export import to_mjcf
from sim.navigation.scene import Scene

ROBOT = ASSETS / "wheeled" / "robot.xml"
SCENE_GROUPS = np.array([1, 1, 0, 0, 0, 0], np.uint8)
"""Geom groups of the scene and the moving obstacles (0) and of the ceiling (1); the robot's own are 2 to 4."""
_SETTLE = 0.3
_PARKED = (0.0, 0.0, -3.0)
_CONTROL = int(mujoco.mjtState.mjSTATE_CTRL) | int(mujoco.mjtState.mjSTATE_MOCAP_POS)
_PHYSICS = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)


@dataclass
class WheeledConfig:
    """What may differ from the nominal robot."""

    friction: float
    """Sliding friction of the driven wheels on the floor [1]; 0.8 rubber on dry tiles, 0.1 on ice."""
    motor_lag: float
    """Time constant of the wheel speed controllers [s]."""
    payload: float
    """Load in the tower, centre 0.36 m up [kg]."""


class WheeledBase:
    """One robot in one scene. Frame `w` is the scene's, frame `b` sits on the axle's middle at floor height, x forward."""

    def __init__(self, scene: Scene, config: WheeledConfig, discs: NDArray[np.float32] | None = None) -> None:
        """
        Args:
            scene: the static world.
            config: the robot's variation.
            discs: (M, 4) x, y, radius, height of upright cylinders that `move` puts somewhere each step; radius 0 = none.
        """
        _check(config)
        self.model = _compile(scene, config, discs)
        self.data = mujoco.MjData(self.model)
        self.radius, self.track = _geometry(self.model)
        self.contact = False
        """Whether the robot touched anything but the floor during the last step."""
        self.restarts = 0
        """How often the physics diverged and was put back to its last finite state, at rest."""
        self._rollout = Rollout(nthread=0)
        self._state = np.empty((1, mujoco.mj_stateSize(self.model, _PHYSICS)))
        self._nq, self._nv = self.model.nq, self.model.nv
        self._mocap = self._places(np.empty((0, 4), np.float32) if discs is None else discs)
        self.reset(0.5 * scene.size[0], 0.5 * scene.size[1], 0.0)

    def reset(self, x: float, y: float, yaw: float) -> None:
        """Put the robot at rest at (x, y) [m] and yaw [rad] in frame w, standing on its wheels."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:3] = x, y, 0.0
        self.data.qpos[3:7] = np.cos(0.5 * yaw), 0.0, 0.0, np.sin(0.5 * yaw)
        mujoco.mj_getState(self.model, self.data, self._state[0], _PHYSICS)
        self._warmstart = np.zeros((1, self._nv))
        self.step(0.0, 0.0, _SETTLE)
        self.restarts = 0

    def move(self, discs: NDArray[np.float32]) -> None:
        """Put the moving cylinders (M, 4) x, y, radius, height where they are now."""
        self._mocap = self._places(discs)

    def step(self, v: float, w: float, duration: float) -> None:
        """Drive with the set points v [m/s] and w [rad/s], held for `duration` [s], a multiple of the time step."""
        count = max(1, round(duration / self.model.opt.timestep))
        control = np.empty((1, count, 2 + self._mocap.size))
        control[..., 0] = (v - w * self.track) / self.radius
        control[..., 1] = (v + w * self.track) / self.radius
        control[..., 2:] = self._mocap.ravel()
        states = np.empty((1, count, self._state.shape[1]))
        sensed = np.empty((1, count, self.model.nsensordata))
        self._rollout.rollout(
            [self.model], [self.data], self._state, control, control_spec=_CONTROL, skip_checks=True, nstep=count,
            initial_warmstart=self._warmstart, state=states, sensordata=sensed,
        )  # fmt: skip
        self.contact = bool(sensed[..., 0].any())
        if np.isfinite(states[0, -1]).all() and not _diverged(self.data):
            self._state[0] = states[0, -1]
            self._warmstart[0] = self.data.qacc_warmstart
        else:
            self._restart()

    @property
    def pose(self) -> tuple[float, float, float]:
        """x, y [m] and yaw [rad, -pi to pi] in frame w."""
        x, y, _, qw, qx, qy, qz = self._state[0, 1:8]
        return float(x), float(y), float(np.arctan2(2 * (qw * qz + qx * qy), 1 - 2 * (qy * qy + qz * qz)))

    @property
    def velocity(self) -> tuple[float, float]:
        """Forward speed [m/s] and yaw rate [rad/s] of the body."""
        yaw = self.pose[2]
        speed = self._state[0, 1 + self._nq :]
        return float(np.cos(yaw) * speed[0] + np.sin(yaw) * speed[1]), float(speed[5])

    @property
    def wheel_angles(self) -> tuple[float, float]:
        """Left and right encoder [rad], which also count the turns of a wheel that slips."""
        return float(self._state[0, 8]), float(self._state[0, 9])

    @property
    def state(self) -> NDArray[np.float64]:
        """Time, positions, velocities and motor states, as MuJoCo's mjSTATE_FULLPHYSICS orders them."""
        return self._state[0].copy()

    def odometry(self, before: tuple[float, float]) -> tuple[float, float]:
        """Forward motion [m] and turn [rad] that the encoders report since they read `before` [rad, left and right]."""
        left, right = (now - then for now, then in zip(self.wheel_angles, before, strict=True))
        return 0.5 * self.radius * (left + right), 0.5 * self.radius * (right - left) / self.track

    def synchronise(self, discs: NDArray[np.float32] | None = None) -> mujoco.MjData:
        """`data` with every geometry where the robot and the cylinders (or others, `discs`) are now, for rays and renderers."""
        mujoco.mj_setState(self.model, self.data, self._state[0], _PHYSICS)
        self.data.mocap_pos[:] = self._mocap if discs is None else self._places(discs)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        return self.data

    def _places(self, discs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Centres (nmocap, 3) of the cylinders; those that are absent are parked below the floor."""
        places = np.tile(np.array(_PARKED), (self.model.nmocap, 1))
        present = np.nonzero(discs[:, 2] > 0)[0]
        places[present, :2] = discs[present, :2]
        places[present, 2] = 0.5 * discs[present, 3]
        return places

    def _restart(self) -> None:
        self.contact = True
        self._state[0, 1 + self._nq :] = 0.0
        self._warmstart[:] = 0.0
        mujoco.mj_resetData(self.model, self.data)
        self.restarts += 1


def _diverged(data: mujoco.MjData) -> bool:
    bad = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
    return any(data.warning[int(kind)].number > 0 for kind in bad)


def _check(config: WheeledConfig) -> None:
    if config.friction <= 0 or config.motor_lag <= 0 or config.payload < 0:
        raise ConfigError(f"wheeled: friction and motor_lag must be positive and payload not negative, got {config}")


def _compile(scene: Scene, config: WheeledConfig, discs: NDArray[np.float32] | None) -> mujoco.MjModel:
    """The robot's spec is the parent, so that its time step, integrator and solver hold."""
    spec = mujoco.MjSpec.from_file(str(ROBOT))
    for name in ("left", "right"):
        spec.geom(f"tread_{name}").friction[0] = config.friction
        spec.actuator(name).dynprm[0] = config.motor_lag
    spec.geom("payload").mass = config.payload
    world = mujoco.MjSpec.from_string(to_mjcf(scene))
    for geom in world.geoms:
        if geom.type == mujoco.mjtGeom.mjGEOM_PLANE:
            geom.contype = geom.conaffinity = 2
        if geom.name == "ceiling":
            geom.group = 1
    spec.attach(world, prefix="scene/", frame=spec.worldbody.add_frame())
    for k, (_, _, radius, height) in enumerate(() if discs is None else discs):
        body = spec.worldbody.add_body(name=f"disc{k}", mocap=True, pos=_PARKED)
        size = [max(radius, 0.01), max(0.5 * height, 0.01), 0.0]
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=size, rgba=[0.75, 0.35, 0.25, 1])
    return spec.compile()


def _geometry(model: mujoco.MjModel) -> tuple[float, float]:
    """Radius of the wheels and half the distance between them [m]."""
    return float(model.geom("tread_left").size[2]), float(model.body("wheel_left").pos[1])


@cache
def body_size() -> tuple[float, float]:
    """Radius and height [m] of what can touch the world."""
    envelope = mujoco.MjSpec.from_file(str(ROBOT)).geom("envelope")
    return float(envelope.size[0]), float(envelope.pos[2] + envelope.size[1])
