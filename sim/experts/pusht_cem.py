"""Another demonstrator of PushT, of another style: it refines whole ways of its target by the cross-entropy method."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot.core.errors import ConfigError
from sim.envs.pusht import Pusht
from sim.experts.navigation import Decision
from sim.pusht.cem import Cem


@dataclass
class PushtCemConfig:
    population: int
    """Ways tried in a round."""
    elites: int
    """The best of them that the next round is drawn around."""
    rounds: int
    """Rounds in a decision."""
    knots: int
    """Of a way."""
    stride: int
    """Control periods from knot to knot."""
    execute: int
    """Control periods before the next decision, a multiple of `stride`."""
    spread: float
    """Standard deviation of the first round's ways, from knot to knot [px]."""
    step_cost: float
    """Price of a control period, in pixels of mean distance of the T's corners from the goal."""


class PushtCem:
    """Reads the state of the env it was built with; its memory is the way it is on."""

    def __init__(self, config: PushtCemConfig, env: Pusht) -> None:
        if not isinstance(env, Pusht):
            raise ConfigError("policy=pusht_cem demonstrates env=pusht only")
        horizon = config.knots * config.stride
        if not 1 <= config.elites <= config.population or min(config.rounds, config.knots, config.stride) < 1:
            raise ConfigError(
                f"policy: elites={config.elites} must be in 1 to population={config.population}; rounds, knots, stride at least 1"
            )
        if not 1 <= config.execute <= horizon or config.execute % config.stride:
            raise ConfigError(f"policy: execute={config.execute} must be a multiple of stride={config.stride}, at most {horizon}")
        self.config, self.env, self.interface = config, env, env.interface
        c = config
        self.cem = Cem(c.population, c.elites, c.rounds, c.knots, c.stride, c.step_cost, env.config.threshold)

    def initial_memory(self, batch: int) -> dict[str, Tensor]:
        c = self.config
        return {
            "targets": torch.zeros(batch, c.execute, 2), "used": torch.full((batch,), float(c.execute)),
            "guess": torch.full((batch, c.knots, 2), math.nan),
        }  # fmt: skip

    def noise_shape(self) -> tuple[int, ...]:
        return (2,)

    def plan(self, observation: Any, memory: dict[str, Tensor], noise: Tensor | None = None) -> Decision:
        """The next target (B, 1, 2) of the way that goes on, or of a new one; `noise` (B, 2) decides what is tried."""
        after = {name: value.clone() for name, value in memory.items()}
        draws = torch.zeros(len(after["used"]), 2) if noise is None else noise
        for i in torch.nonzero(after["used"] >= self.config.execute).flatten().tolist():
            state, goal = self.env.tables.state[i].copy(), self.env.params["goal"][i].numpy()
            guess = after["guess"][i].double().numpy()
            rng = np.random.default_rng(np.abs(draws[i].numpy() * 2**20).astype(np.int64))
            known = None if np.isnan(guess).any() else guess
            knots, targets = self.cem.best(state, goal, known, self.config.spread, rng)
            gone = self.config.execute // self.config.stride
            rest = np.concatenate([knots[gone:], np.repeat(knots[-1:], gone, axis=0)])
            after["targets"][i], after["guess"][i] = torch.from_numpy(targets[: self.config.execute]), torch.from_numpy(rest)
            after["used"][i] = 0
        actions = after["targets"][torch.arange(len(draws)), after["used"].long()]
        after["used"] = after["used"] + 1
        return Decision(actions[:, None], after)

    def act(self, observation: Any, memory: dict[str, Tensor], noise: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        decision = self.plan(observation, memory, noise)
        return decision.actions, decision.memory
