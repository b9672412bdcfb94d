"""Navigation with real wheels: the episodes of `navigation`, driven by a differential-drive base in MuJoCo.

Scenes, starts, goals, tracker and command delay are those of `navigation`, drawn from the same numbers. What differs is
what the kinematic world idealises: motors lag and saturate, wheels slip, contact is contact of bodies, and odometry
counts wheel turns.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch
from torch import Tensor

from robot.core import tracking
from robot.core.errors import ConfigError
from sim.envs.navigation import Navigation, NavigationConfig
from sim.navigation import motion
from sim.navigation.scene import CELL, Scene
from sim.physics.rays import RayCaster
from sim.physics.wheeled import WheeledBase, WheeledConfig, body_size


class DepthSource(Enum):
    caster = "caster"
    mujoco = "mujoco"


@dataclass
class NavigationMujocoConfig(NavigationConfig):
    physics: WheeledConfig
    """The nominal robot."""
    physics_spread: float
    """Relative range in which friction and motor lag are drawn for each episode, 0 for none; 0.3 means ±30 %."""
    payload_range: float
    """A load between physics.payload and so much more is drawn for each episode [kg]."""
    wheel_odometry: bool
    """Odometry counts wheel turns, so that slip misleads it; false measures the true motion."""
    depth: DepthSource
    """Who makes the depth images: the compiled caster, or MuJoCo's rays (about ten times slower, fully independent)."""


class NavigationMujoco(Navigation):
    """See the module. `params` friction [1], motor_lag [s] and payload [kg] hold from an episode's start, each (B,)."""

    def __init__(self, config: NavigationMujocoConfig) -> None:
        _check(config)
        super().__init__(config)
        self.config: NavigationMujocoConfig = config
        self.bases: list[WheeledBase | None] = [None] * config.num_envs
        self._scenes: list[Scene | None] = [None] * config.num_envs
        self._touching = np.zeros(config.num_envs, np.bool_)
        nominal = config.physics
        for name in ("friction", "motor_lag", "payload"):
            self.params[name] = torch.full((config.num_envs,), getattr(nominal, name), dtype=torch.float64)
        workers = config.threads or os.cpu_count() or 1
        self._shares = [s for s in np.array_split(np.arange(config.num_envs), workers) if len(s)]
        self._threads = ThreadPoolExecutor(len(self._shares), thread_name_prefix="physics")
        if config.depth is DepthSource.mujoco:
            self.caster = RayCaster(self.base, config.num_envs, config.depth_height, config.depth_width, config.max_range)

    def base(self, world: int) -> WheeledBase:
        """The robot of one world; there is one from the first reset on."""
        base = self.bases[world]
        if base is None:
            raise ConfigError("the environment has no robots yet: call reset() first")
        return base

    def close_extras(self, **_: object) -> None:
        self._threads.shutdown(wait=True)

    def _reset(self, ids: Tensor) -> None:
        for i in ids.tolist():
            draw = self.rng(i).spawn(1)[0]
            self._vary(i, draw.uniform(-1, 1, 2), draw.uniform())
        super()._reset(ids)

    def _vary(self, i: int, spread: np.ndarray, load: float) -> None:
        config, nominal = self.config, self.config.physics
        if config.physics_spread:
            self.params["friction"][i] = nominal.friction * (1.0 + config.physics_spread * spread[0])
            self.params["motor_lag"][i] = nominal.motor_lag * (1.0 + config.physics_spread * spread[1])
        if config.payload_range:
            self.params["payload"][i] = nominal.payload + config.payload_range * load

    def _load(self, i: int, scene: Scene) -> None:
        super()._load(i, scene)
        self._scenes[i] = scene

    def _place(self, world: int) -> None:
        body = WheeledConfig(*(float(self.params[name][world]) for name in ("friction", "motor_lag", "payload")))
        scene = self._scenes[world]
        if scene is None:
            raise ConfigError(f"world {world} has no scene to stand in: call reset() first")
        discs = None if self.config.crowd == "none" else self.crowd.discs[world]
        base = WheeledBase(scene, body, discs)
        base.reset(*(float(value) for value in self.pose[world]))
        self.bases[world] = base
        self._touching[world] = False

    def _drive(self, command: np.ndarray, limits: np.ndarray, dt: float) -> None:
        """Hold the commands (B, 2) for `dt` [s]; limits are the tracker's business and those of the motors."""
        before = self.pose.copy()
        turned = np.zeros((self.num_envs, 2))
        for done in [self._threads.submit(self._advance, share, command, dt, turned) for share in self._shares]:
            done.result()
        self.travelled += np.hypot(*(self.pose - before)[:, :2].T)
        arcs = tracking.predict(np.zeros_like(before), turned, 1.0)
        self._believe(arcs if self.config.wheel_odometry else motion.to_frame(self.pose, before))

    def _believe(self, step: np.ndarray) -> None:
        """Advance odometry by measured steps (B, 3) in the robots' own frames, and by the drift of the episode."""
        length = np.hypot(step[:, 0], step[:, 1])
        dx, dy = step[:, :2].T * (1.0 + self.drift[:, 1])
        c, s = np.cos(self.odometry[:, 2]), np.sin(self.odometry[:, 2])
        self.odometry[:, 0] += c * dx - s * dy
        self.odometry[:, 1] += s * dx + c * dy
        self.odometry[:, 2] = motion.wrap(self.odometry[:, 2] + step[:, 2] + self.drift[:, 0] * length)

    def _advance(self, worlds: np.ndarray, command: np.ndarray, dt: float, turned: np.ndarray) -> None:
        """Step some worlds; `turned` (B, 2) receives the forward motion [m] and turn [rad] that their encoders report."""
        for i in worlds:
            base = self.base(i)
            if self.config.crowd != "none":
                base.move(self.crowd.discs[i])
            encoders = base.wheel_angles
            base.step(float(command[i, 0]), float(command[i, 1]), dt)
            turned[i] = base.odometry(encoders)
            self.pose[i], self.velocity[i] = base.pose, base.velocity
            self._touching[i] = base.contact

    def _contact(self) -> np.ndarray:
        """Touched something since the last command, or left the scene, which has no walls outdoors."""
        x, y = self.pose[:, 0], self.pose[:, 1]
        radius = self.robot[:, 0]
        height, width = (CELL * self.shape).T
        outside = (x < radius) | (y < radius) | (x > width - radius) | (y > height - radius)
        return self._touching | outside


def _check(config: NavigationMujocoConfig) -> None:
    if config.randomize:
        raise ConfigError(f"env.randomize: {config.randomize}; this body is built of metal, set 0 and vary env.physics_spread")
    if config.depth is DepthSource.mujoco and config.rgb:
        raise ConfigError("env.depth: mujoco has no colour; set env.rgb=false or env.depth=caster")
    if not 0 <= config.physics_spread < 1 or config.payload_range < 0:
        raise ConfigError(f"env.physics_spread: {config.physics_spread} must be in [0, 1), env.payload_range not negative")
    radius, height = body_size()
    for name in config.robots:
        robot = config.embodiments.get(name)
        if robot is not None and max(abs(robot.radius - radius), abs(robot.height - height)) > 1e-3:
            raise ConfigError(
                f"env.robots: '{name}' has radius {robot.radius} m and height {robot.height} m, but only the wheeled base of "
                f"{radius} m and {height} m exists in MuJoCo; set env.robots=[wheeled]"
            )
