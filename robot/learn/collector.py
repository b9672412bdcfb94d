"""The collection loop: an expert, or any policy, drives an env; its episodes become a dataset.

Episode e of the run `seed` is the same whatever the batch and wherever the run was interrupted (see sim/env.py), and the
dataset holds the episodes in the order of their numbers, so the files do not depend on the number of worlds either.
"""

import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robot.data.columns import ACTION, PREFIX
from robot.data.episodes import DatasetWriter, Episode, Header
from sim.env import Env, Observation

_NOISE_STREAM = 7
"""Keeps the policy's noise apart from the random numbers of the episode itself, which `Env.rng` draws."""


class Actor(Protocol):
    """What collects: a Policy, or an expert with the same two methods."""

    def initial_memory(self, batch: int) -> dict[str, Tensor]: ...

    def act(
        self, observation: Observation, memory: dict[str, Tensor], noise: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]: ...


class Collector:
    """Runs `expert` in `env` and appends whole episodes to a dataset."""

    def __init__(self, env: Env, expert: Actor, progress: bool | None = None) -> None:
        """`progress`: whether to show a bar; None shows one on a terminal."""
        self.env = env
        self.expert = expert
        self.progress = sys.stderr.isatty() if progress is None else progress

    def run(self, writer: DatasetWriter, episodes: int, seed: int) -> None:
        """Collect until the dataset holds the episodes 0 … episodes - 1 of the run `seed`; those it has are kept."""
        first = len(writer)
        if first >= episodes:
            return
        waiting: dict[int, Episode] = {}
        tape = _Tape(self.env.num_envs)
        plans = _Plans(self.expert, self.env, seed)
        observation = self._start(first, seed)
        with self._bar(first, episodes) as advance:
            while len(writer) < episodes:
                action = plans.act(observation)
                following, reward, terminated, truncated, info = self.env.step(action)
                tape.record(observation, action, reward, terminated)
                done = terminated | truncated
                for world in torch.nonzero(done).flatten().tolist():
                    number = int(info["episode"][world])
                    arrays = tape.cut(world)
                    if number < episodes:
                        waiting[number] = Episode(arrays, self._header(world, number, seed, info))
                plans.end(done)
                tape.forget(self.env.episode.cpu().numpy() < episodes)
                while len(writer) in waiting and len(writer) < episodes:
                    writer.append(waiting.pop(len(writer)))
                    advance()
                observation = following

    def _start(self, first: int, seed: int) -> Observation:
        """Begin with episode `first` in world 0, first + 1 in world 1, and so on."""
        observation, _ = self.env.reset(seed=seed)
        if first:
            count = self.env.num_envs
            self.env.episode[:] = torch.arange(first - count, first, device=self.env.device)
            observation, _ = self.env.reset(mask=torch.ones(count, dtype=torch.bool))
        return observation

    def _header(self, world: int, number: int, seed: int, info: Mapping[str, Any]) -> Header:
        """Seed, number and the env's metrics; a metric that is an index into `env.labels` becomes the name."""
        labels: Mapping[str, list[str]] = getattr(self.env, "labels", {})
        header: Header = {"seed": seed, "episode": number}
        for name, values in info.get("final_info", {}).items():
            value = values[world].item()
            header[name] = labels[name][int(value)] if name in labels else value
        return header

    def _bar(self, first: int, episodes: int) -> AbstractContextManager[Any]:
        return _progress(first, episodes) if self.progress else nullcontext(lambda: None)


class _Tape:
    """What every world saw and did, step by step, since the start of the oldest running episode."""

    def __init__(self, worlds: int) -> None:
        self._steps: list[dict[str, NDArray[Any]]] = []
        self._begun = np.zeros(worlds, np.int64)

    def record(self, observation: Observation, action: Tensor, reward: Tensor, terminated: Tensor) -> None:
        """Add one step of all worlds, each (B, …)."""
        step = {PREFIX + name: value for name, value in observation.items()}
        step |= {ACTION: action, "reward": reward, "terminated": terminated}
        self._steps.append({name: value.detach().cpu().numpy().copy() for name, value in step.items()})

    def cut(self, world: int) -> dict[str, NDArray[Any]]:
        """The arrays (T, …) of the episode of one world that ends here."""
        steps = self._steps[self._begun[world] :]
        self._begun[world] = len(self._steps)
        return {name: np.stack([step[name][world] for step in steps]) for name in steps[0]}

    def forget(self, wanted: NDArray[np.bool_]) -> None:
        """Drop the steps that no episode of the worlds `wanted` (B,) needs any more."""
        self._begun[~wanted] = len(self._steps)
        oldest = int(self._begun.min())
        del self._steps[:oldest]
        self._begun -= oldest


class _Plans:
    """Turns plans of Ta actions into one action a step; each world replans when its plan is used up or its episode ends.

    Noise of a plan is drawn from the seed, the episode and the step, so it does not depend on which other worlds replan;
    it is the noise that the evaluator draws.
    """

    def __init__(self, expert: Actor, env: Env, seed: int) -> None:
        self._expert = expert
        self._env = env
        self._seed = seed & 0xFFFFFFFF
        self._shape: tuple[int, ...] = tuple(getattr(expert, "noise_shape", tuple)())
        self._memory = expert.initial_memory(env.num_envs)
        self._actions: Tensor | None = None
        self._used = torch.zeros(env.num_envs, dtype=torch.int64)
        self._due = torch.ones(env.num_envs, dtype=torch.bool)

    def end(self, worlds: Tensor) -> None:
        """Forget plan and memory in the worlds of the mask (B,), where new episodes begin."""
        if bool(worlds.any()):
            self._due |= worlds.cpu()
            self._memory = _where(worlds, self._expert.initial_memory(len(worlds)), self._memory)

    def act(self, observation: Observation) -> Tensor:
        """The action (B, …) of every world for this step."""
        actions = self._actions
        if actions is None or bool(self._due.any()):
            new, memory = self._expert.act(observation, self._memory, self._noise())
            actions = new if actions is None else _where(self._due, {"": new}, {"": actions})[""]
            self._memory = _where(self._due, memory, self._memory)
            self._actions = actions
            self._used[self._due] = 0
        action = actions[torch.arange(len(self._used)), self._used]
        self._used += 1
        self._due = self._used >= actions.shape[1]
        return action

    def _noise(self) -> Tensor | None:
        """Standard normal (B, *noise_shape), drawn only in worlds that replan; None for a deterministic expert."""
        if not self._shape:
            return None
        noise = np.zeros((len(self._used), *self._shape), np.float32)
        for world in torch.nonzero(self._due).flatten().tolist():
            key = [self._seed, int(self._env.episode[world]), int(self._env.steps[world]), _NOISE_STREAM]
            noise[world] = np.random.default_rng(key).standard_normal(self._shape, np.float32)
        return torch.from_numpy(noise).to(self._env.device)


def _where(mask: Tensor, new: Mapping[str, Tensor], old: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rows of `new` where the mask (B,) is True, of `old` elsewhere."""
    return {
        name: torch.where(mask.to(value.device).view(-1, *[1] * (value.ndim - 1)), value, old[name])
        for name, value in new.items()
    }


class _progress(AbstractContextManager[Any]):
    """A bar on stderr; entering gives the function that advances it by one episode."""

    def __init__(self, first: int, episodes: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        parts = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*parts, console=Console(stderr=True))
        self._task = self._bar.add_task("", total=episodes, completed=first)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda: self._bar.advance(self._task)

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
