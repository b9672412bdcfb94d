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
from robot.learn.execution import Execution
from sim.env import Env, Observation


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
        execution = Execution(self.expert, self.env, seed)
        observation = self._start(first, seed)
        with self._bar(first, episodes) as advance:
            while len(writer) < episodes:
                action = execution.act(observation)
                following, reward, terminated, truncated, info = self.env.step(action)
                tape.record(observation, action, reward, terminated)
                done = terminated | truncated
                for world in torch.nonzero(done).flatten().tolist():
                    number = int(info["episode"][world])
                    arrays = tape.cut(world)
                    if number < episodes:
                        waiting[number] = Episode(arrays, self._header(world, number, seed, info))
                execution.end(done)
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
