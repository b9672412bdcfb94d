"""The demonstrator of PushT: it tries straight pushes on tables of its own and takes one of the best."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot.core.errors import ConfigError
from sim.envs.pusht import Pusht
from sim.experts.navigation import Decision
from sim.pusht.planner import LONGEST, Planner

EDGES = 8


@dataclass
class PushtExpertConfig:
    spacing: float
    """Distance between points of the T's outline that are tried [px]."""
    edges: list[int]
    """Edges of the T that are pushed, 0 the bar's long one, then in order around; empty for all. Two demonstrators with other
    edges have other styles."""
    step_cost: float
    """Price of a control period, in pixels of mean distance of the T's corners from the goal."""
    temperature: float
    """Of the choice among pushes [px]; 0 takes the best. Above 0, equal starts give different ways."""
    near: float
    """The same where the best push ends within 15 px of the goal."""


class PushtExpert:
    """Reads the state of the env it was built with; what is left of its push is its memory."""

    def __init__(self, config: PushtExpertConfig, env: Pusht) -> None:
        if not isinstance(env, Pusht):
            raise ConfigError("policy=pusht_expert demonstrates env=pusht only")
        if config.spacing <= 0 or min(config.temperature, config.near) < 0 or not set(config.edges) <= set(range(EDGES)):
            raise ConfigError(
                f"policy: spacing={config.spacing} must be positive, temperatures not negative, edges {config.edges} among 0 to 7"
            )
        self.config, self.env, self.interface = config, env, env.interface
        self.planner = Planner(config.spacing, config.edges, config.step_cost, env.config.threshold)

    def initial_memory(self, batch: int) -> dict[str, Tensor]:
        return {"targets": torch.zeros(batch, LONGEST, 2), "used": torch.zeros(batch), "count": torch.zeros(batch)}

    def noise_shape(self) -> tuple[int, ...]:
        return (1,)

    def plan(self, observation: Any, memory: dict[str, Tensor], noise: Tensor | None = None) -> Decision:
        """The next target (B, 1, 2) of the push that goes on, or of a new one; `noise` (B, 1) chooses among pushes."""
        after = {name: value.clone() for name, value in memory.items()}
        draws = torch.zeros(len(after["used"]), 1) if noise is None else noise
        for i in torch.nonzero(after["used"] >= after["count"]).flatten().tolist():
            targets, count = self._decide(i, float(draws[i, 0]))
            after["targets"][i], after["count"][i], after["used"][i] = torch.from_numpy(targets).float(), count, 0
        rows = torch.arange(len(draws))
        actions = after["targets"][rows, after["used"].long()]
        after["used"] = after["used"] + 1
        return Decision(actions[:, None], after)

    def act(self, observation: Any, memory: dict[str, Tensor], noise: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        decision = self.plan(observation, memory, noise)
        return decision.actions, decision.memory

    def _decide(self, world: int, draw: float) -> tuple[np.ndarray, int]:
        state, goal = self.env.tables.state[world].copy(), self.env.params["goal"][world].numpy()
        targets, counts, costs = self.planner.tried(state, goal)
        best = int(costs.argmin())
        if not math.isfinite(costs[best]):  # nothing is in reach of a push: go to where the table is free
            return np.broadcast_to(np.array([256.0, 256.0]), (LONGEST, 2)).copy(), 5
        temperature = self.config.near if costs[best] < 15 else self.config.temperature
        if temperature > 0:
            weights = np.exp(-(costs - costs[best]) / temperature)
            share = 0.5 * (1 + math.erf(draw / math.sqrt(2)))
            best = min(int(np.searchsorted(np.cumsum(weights), share * weights.sum())), len(costs) - 1)
        return targets[best], int(counts[best])
