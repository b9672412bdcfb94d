"""A simulated robot as a driver: any env of ours, one world, a step for every command."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.drivers.base import Array, Driver, Reading
from robot.core.config import build
from robot.core.errors import DriverError


@dataclass
class SimConfig:
    robot: str
    """Whose limits hold: a folder of hardware/robots."""
    env: dict[str, Any]
    """The env's node, with `_target_`; one world is made of it."""
    seed: int
    """Of its episodes."""
    measured: str | None
    """Observation field whose first elements are what the command's channels measure; null for the last command."""


class Sim(Driver):
    """Time passes in it only with commands: while none come, what was measured last is what is so now.

    An episode that ends begins anew; `episodes` keeps what became of each.
    """

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self.env = build({**config.env, "num_envs": 1}, "driver.env")
        interface = self.env.interface
        self.observation, self.command, self.dt = interface.observation, interface.action, interface.dt
        self.episodes: list[dict[str, float]] = []
        self.opened = False

    def open(self) -> None:
        if not self.opened:
            self.opened = True
            self.seen, _ = self.env.reset(seed=self.config.seed)
            self.write(np.zeros(int(np.prod(self.command.shape))))  # compiles
            self.seen, _ = self.env.reset(seed=self.config.seed)
            self.last, self.episodes, self.moved = np.zeros(int(np.prod(self.command.shape))), [], False

    def read(self) -> Reading | None:
        if not self.opened:
            raise DriverError("the simulated robot is not open; use it as a context manager")
        now = time.monotonic()
        if not self.fresh and now - self.stamp < 2 * self.dt:
            return None
        self.fresh, self.stamp = False, self.stamp if self.fresh and self.moved else now
        observation = {name: value[0].numpy() for name, value in self.seen.items()}
        measured = self.last
        if self.config.measured is not None:
            measured = np.asarray(observation[self.config.measured], np.float64).ravel()[: self.last.size]
        return Reading(observation, self.stamp, measured)

    def write(self, command: Array) -> Array:
        import torch

        action = torch.from_numpy(np.asarray(command, np.float32).reshape(1, *self.command.shape))
        self.seen, _, _, _, info = self.env.step(action)
        self.last, self.fresh, self.stamp = np.asarray(command, np.float64), True, time.monotonic()
        self.moved = True
        if bool(info["done"][0]):
            self.episodes.append({name: float(value[0]) for name, value in info["final_info"].items() if value.ndim == 1})
        return action[0].numpy().astype(np.float64).ravel()

    def stop(self) -> None:
        """Nothing moves in it by itself."""

    def will(self) -> Callable[[], None]:
        return lambda: None

    def report(self) -> list[str]:
        """Means over the episodes that ended."""
        if not self.episodes:
            return ["episodes          none ended"]
        means = {name: np.mean([episode[name] for episode in self.episodes]) for name in self.episodes[0]}
        return [f"episodes          {len(self.episodes)}", *(f"{name:<18}{value:.4g}" for name, value in means.items())]

    def close(self) -> None:
        self.opened = False
