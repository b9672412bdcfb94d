"""From plans of several actions to one action a control period: what rolling out and collecting have in common.

Every world replans when its plan is used up or its episode ends. The noise of a plan is drawn from the seed, the episode and
its step, so a world's actions do not depend on what happens in others.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.policy import Plan, Policy
from robot.learn.sources import reset_memory
from sim.env import Env, Observation

_NOISE_STREAM = 7
"""Keeps the policy's noise apart from the random numbers of the episode itself, which `Env.rng` draws."""


class Execution:
    """Drives the worlds of `env` by `policy`: a Policy, or an expert that acts like one.

    Attributes:
        plan: what was decided last in each world, (B, …).
        fresh: worlds whose plan is of this very step, (B,).
        inputs: what the policy prepared of the last observation, where it prepares.
        memory: the policy's, each (B, …).
    """

    plan: Plan
    inputs: dict[str, Tensor]
    memory: dict[str, Tensor]

    def __init__(self, policy: Any, env: Env, seed: int) -> None:
        self.policy, self.env, self.seed = policy, env, seed & 0xFFFFFFFF
        self._shape: tuple[int, ...] = tuple(getattr(policy, "noise_shape", tuple)())
        self.memory = policy.initial_memory(env.num_envs)
        self._used = torch.zeros(env.num_envs, dtype=torch.int64)
        self.fresh = torch.ones(env.num_envs, dtype=torch.bool)
        self._staged = isinstance(policy, Policy) and type(policy).plan is Policy.plan

    @torch.no_grad()
    def act(self, observation: Observation) -> Tensor:
        """The action (B, *action) of every world for this step."""
        due = self.fresh = self._due()
        if self._staged:
            self._decide(observation, due)
        elif bool(due.any()):
            self._plan(observation, due)
        return self._next()

    def end(self, worlds: Tensor) -> None:
        """Forget plan and memory in the worlds of the mask (B,), where new episodes begin."""
        if bool(worlds.any()):
            self._used[worlds.cpu()] = torch.iinfo(torch.int64).max - 1
            self.memory = reset_memory(self.policy, self.memory, worlds)

    @property
    def border(self) -> Tensor:
        """Worlds whose last action was the first of another plan, (B,)."""
        return self.fresh

    @property
    def spent(self) -> Tensor:
        """Worlds whose plan has been used up, (B,)."""
        return self._used >= self.plan.actions.shape[1]

    def _due(self) -> Tensor:
        if not hasattr(self, "plan"):
            return torch.ones(len(self._used), dtype=torch.bool)
        return self.spent

    def _next(self) -> Tensor:
        """The action (B, *action) that is due, from what has been planned."""
        action = self.plan.actions[torch.arange(len(self._used)), self._used]
        self._used += 1
        return action

    def _decide(self, observation: Observation, due: Tensor) -> None:
        """A policy that prepares sees every step, and decides only where a plan is due."""
        inputs, memory = self.policy.prepare(observation, self.memory)
        self.inputs, self.memory = inputs, memory
        if not bool(due.any()):
            return
        rows = torch.nonzero(due).flatten() if self.policy.alone else torch.arange(len(due))
        chosen = [{name: value[rows] for name, value in given.items()} for given in (inputs, memory)]
        self._keep(self._decided(chosen[0], chosen[1], self._noise(due, rows), rows), rows, due)

    def _decided(self, inputs: dict[str, Tensor], memory: dict[str, Tensor], noise: Tensor | None, rows: Tensor) -> Plan:
        """The plan of the worlds `rows`, from what was prepared for them."""
        return self.policy.decide(inputs, memory, noise)

    def _plan(self, observation: Observation, due: Tensor) -> None:
        rows = torch.nonzero(due).flatten() if getattr(self.policy, "alone", False) else torch.arange(len(due))
        chosen = [{name: value[rows] for name, value in given.items()} for given in (observation, self.memory)]
        noise = self._noise(due, rows)
        planned = hasattr(self.policy, "plan")
        plan = self.policy.plan(*chosen, noise) if planned else Plan(*self.policy.act(*chosen, noise))
        self._keep(plan, rows, due)

    def _keep(self, plan: Any, rows: Tensor, due: Tensor) -> None:
        """Put a plan of the worlds `rows` in its place, where one is due."""
        self._used[due] = 0
        if len(rows) == len(due) and bool(due.all()):
            self.plan, self.memory = plan, plan.memory
            return
        wanted = due[rows]
        rows = rows[wanted]
        old = self.plan

        def put(into: Tensor, new: Tensor) -> Tensor:
            return into.index_copy(0, rows, new[wanted])

        self.memory = {name: put(self.memory[name], value) for name, value in plan.memory.items()}
        aside = {name: put(old.aside[name], value) for name, value in getattr(plan, "aside", {}).items()}
        candidates, values = (
            None if a is None or b is None else put(a, b)
            for a, b in ((old.candidates, plan.candidates), (old.values, plan.values))
        )
        self.plan = Plan(put(old.actions, plan.actions), self.memory, candidates, values, aside)

    def _noise(self, due: Tensor, rows: Tensor) -> Tensor | None:
        """Standard normal (len(rows), *noise_shape), zeros where no plan is due; None for who needs none."""
        if not self._shape:
            return None
        noise = np.zeros((len(rows), *self._shape), np.float32)
        for k, world in enumerate(rows.tolist()):
            if due[world]:
                key = [self.seed, int(self.env.episode[world]), int(self.env.steps[world]), _NOISE_STREAM]
                noise[k] = np.random.default_rng(key).standard_normal(self._shape, np.float32)
        return torch.from_numpy(noise).to(self.env.device)
