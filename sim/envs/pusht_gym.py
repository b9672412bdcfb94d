"""The original `gym-pusht` package as an env of ours, so that one policy plays the same episodes in both."""

import logging
from typing import Any, cast

import numpy as np

from robot.core.errors import ConfigError
from robot.core.optional import require
from sim.envs.pusht import Pusht, PushtConfig
from sim.pusht.geometry import Array
from sim.pusht.physics import STATE


class GymTables:
    """Environments of the package behind the face of `sim.pusht.physics.Tables`."""

    def __init__(self, count: int) -> None:
        original = require("gym_pusht.envs.pusht", extra="peers")
        logging.getLogger("pygame").setLevel(logging.WARNING)
        self.envs: list[Any] = [original.PushTEnv() for _ in range(count)]
        self.state, self.coverage = np.zeros((count, STATE)), np.zeros(count)

    def place(self, i: int, agent: Array, pose: Array, turn_last: bool, friction: float) -> None:
        if not turn_last or friction:
            raise ConfigError("env=pusht_gym: the package knows standard=true and friction 0 only")
        self.envs[i].reset(options={"reset_to_state": [*agent, *pose]})
        self._read(i, self.envs[i]._get_coverage())

    def step(self, targets: Array) -> Array:
        for i, env in enumerate(self.envs):
            *_, info = env.step(targets[i])
            self._read(i, info["coverage"])
        return self.state

    def _read(self, i: int, coverage: float) -> None:
        env = self.envs[i]
        self.state[i] = *env.agent.position, *env.agent.velocity, *env.block.position, env.block.angle
        self.coverage[i] = coverage


class PushtGym(Pusht):
    """`pusht` with physics and coverage of the package."""

    def __init__(self, config: PushtConfig) -> None:
        if any(config.goal_range) or max(config.friction) > 0:
            raise ConfigError("env=pusht_gym: the package has one goal and no friction")
        super().__init__(config)

    def _tables(self) -> Any:
        return GymTables(self.num_envs)

    def _measure(self) -> None:
        self.coverage = cast(GymTables, self.tables).coverage.copy()
