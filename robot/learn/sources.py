"""Sources of training batches. A Source knows where data come from; the Trainer does not.

`Episodes` is a dataset on disk: behaviour cloning of whoever drove.
`Imitation` is DAgger (Ross et al., 2011; for navigation NavOL, arXiv 2605.11762): it runs the policy itself and lets an
expert label every state that it visits. Data come in rounds; a round depends on nothing but the seed, its number and the
policy's weights, and is kept on disk while it is in use, so that an interrupted run goes on with the same numbers.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from policies.policy import Memory, Policy
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.data.episodes import DatasetWriter, EpisodeDataset
from sim.env import Env

Batch = dict[str, Tensor]


class Source(Protocol):
    """What the Trainer asks for batches. One may be for certain policies only."""

    def open(self, folder: Path, seed: int) -> None: ...

    def batch(self, step: int, policy: Any) -> Batch: ...

    def loss(self, policy: Any, batch: Batch) -> dict[str, Tensor]: ...

    def resume(self, step: int) -> None: ...

    def saved(self, step: int) -> None: ...


@dataclass
class ImitationConfig:
    expert: dict[str, Any]
    """The labeller: a config node with `_target_`, built with the env."""
    batch_size: int
    """Samples in a batch."""
    round_plans: int
    """Control periods of the whole batch of worlds in a round."""
    round_updates: int
    """Updates of the trainer between two rounds."""
    rounds_kept: int
    """The newest rounds that batches are drawn from."""
    expert_rounds: int
    """First rounds, driven by the expert alone."""
    expert_share: float
    """Later, share of decisions replaced by the expert's."""
    random_share: float
    """Later, share of decisions replaced by the first, that is a random, candidate."""
    proposals: int
    """Own samples of the policy kept with each state, for its critic."""


class Imitation:
    """On-policy imitation; see the module."""

    def __init__(self, config: ImitationConfig, env: Env) -> None:
        if config.round_plans < 1 or config.round_updates < 1 or config.rounds_kept < 1:
            raise ConfigError("data: round_plans, round_updates and rounds_kept must be at least 1")
        self.config, self.env = config, env
        self.expert = build(config.expert, "data.expert", env=env)
        self.rounds: dict[int, dict[str, np.ndarray]] = {}
        self.collected = 0.0

    def open(self, folder: Path, seed: int) -> None:
        """Use `folder`/rounds to keep rounds in, and `seed` for all randomness."""
        self.folder, self.seed = folder / "rounds", seed
        self.folder.mkdir(parents=True, exist_ok=True)

    def batch(self, step: int, policy: Policy) -> Batch:
        """The batch of an update; on the first update of a round the policy is run for it."""
        newest = step // self.config.round_updates
        for number in range(max(0, newest - self.config.rounds_kept + 1), newest + 1):
            if number not in self.rounds:
                self.rounds[number] = self._round(number, policy)
        for number in [n for n in self.rounds if n <= newest - self.config.rounds_kept]:
            del self.rounds[number]
        numbers = sorted(self.rounds)
        rng = np.random.default_rng([self.seed, step, 1])
        size = len(next(iter(self.rounds[numbers[0]].values())))
        chosen = rng.integers(size * len(numbers), size=self.config.batch_size)
        parts = [(self.rounds[number], chosen[chosen // size == k] % size) for k, number in enumerate(numbers)]
        names = self.rounds[numbers[0]]
        return {k: torch.from_numpy(np.concatenate([r[k][index] for r, index in parts]).astype(np.float32)) for k in names}

    def loss(self, policy: Policy, batch: Batch) -> dict[str, Tensor]:
        """The policy's own loss."""
        return policy.loss(batch)

    def resume(self, step: int) -> None:
        """Go on from `step`: rounds that began at it or later are dropped, as their weights may be lost."""
        for file in self.folder.glob("*.npz"):
            if int(file.stem) * self.config.round_updates >= step:
                file.unlink()

    def saved(self, step: int) -> None:
        """A checkpoint of `step` is safe: rounds that no batch from there on draws from are dropped."""
        for file in self.folder.glob("*.npz"):
            if int(file.stem) <= step // self.config.round_updates - self.config.rounds_kept:
                file.unlink()

    def _round(self, number: int, policy: Policy) -> dict[str, np.ndarray]:
        file = self.folder / f"{number:06d}.npz"
        if file.exists():
            with np.load(file) as arrays:
                return {name: arrays[name] for name in arrays.files}
        arrays = self.collect(number, policy)
        draft = file.with_suffix(".tmp")
        with draft.open("wb") as stream:
            np.savez(stream, **arrays)
        os.replace(draft, file)
        return arrays

    @torch.no_grad()
    def collect(self, number: int, policy: Policy, progress: Callable[[int], None] | None = None) -> dict[str, np.ndarray]:
        """Run the worlds for one round: prepared inputs, the expert's labels and the policy's proposals, (N, …) each."""
        env, config = self.env, self.config
        rng = np.random.default_rng([self.seed, number, 2])
        observation, _ = env.reset(seed=int(rng.integers(2**31)))
        memory = policy.initial_memory(env.num_envs)
        columns: dict[str, list[np.ndarray]] = {}
        for k in range(config.round_plans):
            noise = torch.from_numpy(rng.standard_normal((env.num_envs, *policy.noise_shape()), np.float32))
            inputs, memory = policy.prepare(observation, memory)
            noise = noise[:, : max(config.proposals, 1)] if noise.ndim > 1 else noise
            plan = policy.decide(inputs, memory, noise)
            memory = plan.memory
            labels = self.expert.labels()
            row = {**inputs, **labels}
            if plan.candidates is not None:
                row["proposals"] = plan.candidates[:, : config.proposals]
            for name, value in row.items():
                columns.setdefault(name, []).append(_compact(value))
            action = self._mix(number, labels["action"], plan.actions[:, 0], plan.candidates, rng)
            observation, _, _, _, info = env.step(action)
            memory = reset_memory(policy, memory, info["done"])
            if progress is not None:
                progress(k)
        return {name: np.concatenate(values) for name, values in columns.items()}

    def _mix(self, number: int, expert: Tensor, own: Tensor, candidates: Tensor | None, rng: np.random.Generator) -> Tensor:
        """What the worlds execute, (B, *action)."""
        draw = torch.from_numpy(rng.random(len(own)))
        if number < self.config.expert_rounds:
            return expert
        shape = (-1, *[1] * (own.ndim - 1))
        first = own if candidates is None else candidates[:, 0]
        action = torch.where((draw < self.config.random_share).reshape(shape), first, own)
        return torch.where((draw > 1 - self.config.expert_share).reshape(shape), expert, action)


@dataclass
class EpisodesConfig:
    root: str
    """Folder of the dataset; `python -m robot.collect` makes one."""
    episodes: int
    """Use the first so many episodes, 0 for all."""
    batch_size: int
    """Samples in a batch."""
    expert: dict[str, Any] | None
    """Who fills an empty `root` with `episodes` episodes before the first update: a config node with `_target_`, built with
    the env; null refuses an empty one."""


class Episodes:
    """Recorded episodes in memory; what the policy prepares of each frame, its memory included, is computed once.

    For a policy that draws chunks of actions, `action` (B, chunk, A) starts at the frame; past the end of its episode the last
    action is repeated and `valid` (B, chunk) is 0.
    """

    GROUP = 32
    """Episodes that are prepared side by side."""
    ALSO = ("action",)
    """Recorded columns that batches are made of, beside what is prepared."""

    def __init__(self, config: EpisodesConfig, env: Env) -> None:
        self.config, self.env = config, env
        self.columns: dict[str, np.ndarray] = {}
        if config.expert is None:
            self._load()

    def open(self, folder: Path, seed: int) -> None:
        """Use `seed` for the order of samples; the expert, if there is one, fills up the dataset first."""
        self.seed = seed
        if self.config.expert is not None:
            self._demonstrate(self.config.expert)
            self._load()

    def _load(self) -> None:
        self.dataset = EpisodeDataset(self.config.root)
        self.dataset.require(self.env.interface)
        self.count = self.config.episodes or len(self.dataset)
        if self.count > len(self.dataset):
            raise ConfigError(f"data.episodes={self.count}: '{self.config.root}' has {len(self.dataset)} episodes")

    def _demonstrate(self, expert: dict[str, Any]) -> None:
        from robot.learn.collector import Collector

        root, episodes = Path(self.config.root), self.config.episodes
        if episodes < 1:
            raise ConfigError("data.episodes: how many demonstrations the expert gives, at least 1")
        known = len(EpisodeDataset(root)) if (root / "meta" / "info.json").exists() else 0
        if known >= episodes:
            return
        actor = build(expert, "data.expert", env=self.env, interface=self.env.interface)
        header = {"task": type(self.env).__name__, "seed": 0, "policy": expert}
        with DatasetWriter(root, self.env.interface, header, 100, resume=known > 0) as writer:
            Collector(self.env, actor).run(writer, episodes, 0)

    def batch(self, step: int, policy: Policy) -> Batch:
        """Random frames: prepared inputs and `action`; on the first call the whole dataset is prepared."""
        if not self.columns:
            self.columns, self.last = self._prepare(policy)
        rng = np.random.default_rng([self.seed, step, 1])
        chosen = rng.integers(len(self.last), size=self.config.batch_size)
        batch = {name: values[chosen] for name, values in self.columns.items()}
        chunk = getattr(policy, "chunk", 0)
        if chunk:
            rows = chosen[:, None] + np.arange(chunk)
            batch["action"] = self.columns["action"][np.minimum(rows, self.last[chosen, None])]
            batch["valid"] = rows <= self.last[chosen, None]
        return {name: torch.from_numpy(values.astype(np.float32)) for name, values in batch.items()}

    def loss(self, policy: Policy, batch: Batch) -> dict[str, Tensor]:
        """The policy's own loss."""
        return policy.loss(batch)

    def resume(self, step: int) -> None:
        """Nothing to do: a batch depends on the seed and the step alone."""

    def saved(self, step: int) -> None:
        """Nothing to do."""

    @torch.no_grad()
    def _prepare(self, policy: Policy) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Columns (F, …) of all frames, episode after episode, and the last frame of each frame's episode (F,)."""
        lengths = self.dataset.lengths[: self.count]
        ends = np.cumsum(lengths)
        columns: dict[str, np.ndarray] = {}
        order = np.argsort(lengths, kind="stable")
        for first in range(0, len(order), self.GROUP):
            members = order[first : first + self.GROUP]
            group = [self.dataset.episode(int(i)) for i in members]
            starts = ends[members] - lengths[members]
            memory = policy.initial_memory(len(group))
            for t in range(max(len(episode) for episode in group)):
                rows = [min(t, len(episode) - 1) for episode in group]
                now = {
                    name: torch.from_numpy(np.stack([e.observation[name][k] for e, k in zip(group, rows, strict=True)]))
                    for name in policy.interface.names
                }
                inputs, memory = policy.prepare(now, memory)
                for name in self.ALSO:
                    inputs[name] = torch.from_numpy(np.stack([e.arrays[name][k] for e, k in zip(group, rows, strict=True)]))
                running = np.array([t < len(episode) for episode in group])
                for name, value in inputs.items():
                    rows_of = _compact(value)
                    if name not in columns:
                        columns[name] = np.empty((int(ends[-1]), *rows_of.shape[1:]), rows_of.dtype)
                    columns[name][starts[running] + t] = rows_of[running]
        return columns, np.repeat(ends - 1, lengths)


def reset_memory(policy: Policy, memory: Memory, done: Tensor) -> Memory:
    """Memory with the initial one where an episode ended, done (B,)."""
    if not memory or not bool(done.any()):
        return memory
    fresh = policy.initial_memory(len(done))
    return {name: torch.where(done.reshape(-1, *[1] * (value.ndim - 1)), fresh[name], value) for name, value in memory.items()}


def _compact(value: Tensor) -> np.ndarray:
    """Half precision for images and maps, full for the rest."""
    array = value.detach().cpu().numpy()
    return array.astype(np.float16) if array.ndim > 2 and array.shape[-1] > 8 else array.astype(np.float32)
