"""Transitions of whole chunks for policies that learn from rewards: recorded ones, and the policy's own trials.

A batch holds the prepared inputs of a decision; `action` (B, execute, A), what was executed; `reward` (B,), the discounted
sum over the chunk; `discount` (B,), of what follows, 0 after a success or failure; `next_…`, the prepared inputs then; where
episodes are recorded also `return` (B,), the discounted sum to their end, a lower bound of what can be achieved.
"""

import os
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot.core.errors import ConfigError
from robot.learn.execution import Execution
from robot.learn.sources import Batch, Episodes, EpisodesConfig
from sim.env import Env


class Offline(Episodes):
    """Transitions of recorded episodes, from every frame."""

    ALSO = ("action", "reward", "terminated")

    def __init__(self, config: EpisodesConfig, env: Env) -> None:
        super().__init__(config, env)

    def batch(self, step: int, policy: Any) -> Batch:
        if not self.columns:
            frames, last = self._prepare(policy)
            self.table = transitions(frames, last, policy.execute, policy.config.discount)
            self.columns, self.last = frames, last
            if hasattr(policy, "study"):  # what a policy keeps of the whole data set, such as whom to find near
                policy.study(self.table)
        rng = np.random.default_rng([self.seed, step, 1])
        return pick(self.table, rng.integers(len(self.last), size=self.config.batch_size))


def transitions(frames: dict[str, np.ndarray], last: np.ndarray, execute: int, discount: float) -> dict[str, np.ndarray]:
    """Columns (F, …) of a batch, for each frame of episodes laid end to end; `last` (F,) is the last frame of each one's episode.

    An episode that ran out of time says nothing of what would have followed its last action, so its last frame is where its
    transitions end.
    """
    count = len(last)
    rows = np.arange(count)[:, None] + np.arange(execute + 1)
    over = frames["terminated"][last] > 0.5
    known = rows[:, :-1] <= (last - ~over)[:, None]
    powers = discount ** np.arange(execute)
    inside = np.minimum(rows, last[:, None])
    length = known.sum(1)
    finished = over & (np.arange(count) + execute > last)
    table = {name: value for name, value in frames.items() if name not in ("action", "reward", "terminated")}
    after = np.where(finished, np.arange(count), inside[np.arange(count), length])
    following = {f"next_{name}": value[after] for name, value in table.items()}
    goes_on = np.where(finished, 0.0, discount**length).astype(np.float32)
    reward = (frames["reward"][inside[:, :-1]] * powers * known).sum(1).astype(np.float32)
    returns = np.zeros(count, np.float32)
    total = 0.0
    for k in range(count - 1, -1, -1):
        total = frames["reward"][k] + (0.0 if k == last[k] else discount * total)
        returns[k] = total
    return {
        **table, **following, "action": frames["action"][inside[:, :-1]], "reward": reward, "discount": goes_on, "return": returns
    }  # fmt: skip


def pick(table: dict[str, np.ndarray], rows: np.ndarray) -> Batch:
    """Rows of columns as tensors."""
    return {name: torch.from_numpy(values[rows].astype(np.float32)) for name, values in table.items()}


@dataclass
class ReplayConfig:
    batch_size: int
    """Samples in a batch."""
    updates: int
    """Updates of the trainer between two steps of all worlds."""
    warmup: int
    """Steps of all worlds before the first update; the policy acts, explores not yet."""
    demonstrations: str | None
    """Recorded episodes that are mixed in, or null."""
    share: float
    """Share of a batch that comes from them."""


class Replay:
    """The policy tries, in `env`, and what it tried is kept and learnt from again and again (off-policy).

    At every checkpoint all worlds begin new episodes, so that an interrupted run goes on with the same numbers. `steps` counts
    control periods of single worlds.
    """

    FILE = "replay.npz"

    def __init__(self, config: ReplayConfig, env: Env) -> None:
        if config.batch_size < 1 or config.updates < 1 or config.warmup < 1 or not 0 <= config.share < 1:
            raise ConfigError(
                f"data: batch_size={config.batch_size}, updates={config.updates} and warmup={config.warmup} must be at least 1, "
                f"share={config.share} in [0, 1)"
            )
        self.config, self.env = config, env
        self.table, self.size, self.steps = {}, 0, 0
        self.outcomes: list[float] = []
        self.recorded: Offline | None = None
        self.driver: _Driver | None = None

    table: dict[str, np.ndarray]
    """Columns (capacity, …) of which the first `size` rows count."""

    def open(self, folder: Path, seed: int) -> None:
        """Keep what was tried in `folder`."""
        self.folder, self.seed = folder, seed
        if self.config.demonstrations is not None and self.config.share:
            count = max(1, round(self.config.batch_size * self.config.share))
            self.recorded = Offline(EpisodesConfig(self.config.demonstrations, 0, count, None), self.env)
            self.recorded.open(folder, seed)

    def batch(self, step: int, policy: Any) -> Batch:
        """The batch of an update, after the worlds moved where it is their turn."""
        if step % self.config.updates == 0 or self.driver is None:
            if self.driver is None:
                self.driver = _Driver(policy, self.env, (self.seed * 1_000_003 + step + 1) % 2**31)
            for _ in range(1 if self.size else self.config.warmup):
                self._add(self.driver.move(policy))
                self.steps += self.env.num_envs
        rng = np.random.default_rng([self.seed, step, 3])
        own = pick(self.table, rng.integers(self.size, size=self.config.batch_size))
        if self.recorded is None:
            return own
        other = self.recorded.batch(step, policy)
        keep = self.config.batch_size - len(other["reward"])
        return {name: torch.cat([value[:keep], other[name]]) for name, value in own.items() if name in other}

    def loss(self, policy: Any, batch: Batch) -> dict[str, Tensor]:
        """The policy's own loss, and how the trials go."""
        losses = policy.loss(batch)
        trials = {"trial/steps": float(self.steps), "trial/success": float(np.mean(self.outcomes[-100:] or [0.0]))}
        return losses | {name: torch.tensor(value) for name, value in trials.items()}

    def resume(self, step: int) -> None:
        """Go on with the trials that the checkpoint of `step` had."""
        file = self.folder / self.FILE
        if step == 0:
            file.unlink(missing_ok=True)
            return
        with np.load(file) as kept:
            state = {name: kept[name] for name in kept.files}
        self.steps, self.outcomes = int(state.pop("steps")), state.pop("outcomes").tolist()
        self.table, self.size = state, len(state["reward"])

    def saved(self, step: int) -> None:
        """Keep the trials beside the checkpoint, and let all worlds begin anew."""
        draft = self.folder / f"{self.FILE}.tmp"
        with draft.open("wb") as stream:
            rows: dict[str, Any] = {name: value[: self.size] for name, value in self.table.items()}
            np.savez(stream, steps=self.steps, outcomes=np.array(self.outcomes[-100:]), **rows)
        os.replace(draft, self.folder / self.FILE)
        self.driver = None

    def _add(self, found: tuple[dict[str, np.ndarray], list[float]]) -> None:
        rows, outcomes = found
        self.outcomes += outcomes
        count = len(rows["reward"]) if rows else 0
        if not count:
            return
        for name, value in rows.items():
            old = self.table.get(name)
            if old is None or len(old) < self.size + count:
                grown = np.zeros((max(4096, 2 * (self.size + count)), *value.shape[1:]), np.float32)
                if old is not None:
                    grown[: self.size] = old[: self.size]
                self.table[name] = old = grown
            old[self.size : self.size + count] = value
        self.size += count


class _Driver:
    """Moves all worlds by one control period at a time and cuts what happens into transitions.

    Every frame begins one, not only those where a decision was due: what was executed from there on is a chunk like any other.
    Where a decision left something aside that is learnt from, such as its noise, only decisions begin one.
    """

    def __init__(self, policy: Any, env: Env, seed: int) -> None:
        self.env, self.discount = env, policy.config.discount
        self.execution = Execution(policy, env, seed)
        self.observation, _ = env.reset(seed=seed)
        self.recent: deque[dict[str, np.ndarray]] = deque(maxlen=policy.execute)
        self.age = np.zeros(env.num_envs, np.int64)

    @torch.no_grad()
    def move(self, policy: Any) -> tuple[dict[str, np.ndarray], list[float]]:
        """One control period: transitions (K, …) that ended in it, and the successes of episodes that did."""
        execution, env = self.execution, self.env
        execution.policy = policy
        policy.exploring = True
        action = execution.act(self.observation)
        policy.exploring = False
        aside = execution.plan.aside
        begins = execution.fresh.numpy() if aside else np.ones(env.num_envs, bool)
        frame = {name: value.numpy().astype(np.float32) for name, value in {**execution.inputs, **aside}.items()}
        self.observation, reward, terminated, _, info = env.step(action)
        self.recent.append({**frame, "action": action.numpy(), "reward": reward.numpy(), "begins": begins})
        self.age += 1
        done = info["done"].numpy()
        after, _ = policy.prepare(info.get("final_obs", self.observation), execution.memory)
        following = {f"next_{name}": value.numpy().astype(np.float32) for name, value in after.items()}
        found = [self._cut(k, following, terminated.numpy(), done) for k in range(len(self.recent)) if k == 0 or bool(done.any())]
        self.age[done] = 0
        execution.end(info["done"])
        outcomes = info["final_info"]["success"].numpy()[done].tolist() if "final_info" in info else []
        return {name: np.concatenate([part[name] for part in found]) for name in found[0]}, outcomes

    def _cut(self, k: int, following: dict[str, np.ndarray], terminated: np.ndarray, done: np.ndarray) -> dict[str, np.ndarray]:
        """Transitions from the k-th of the recent frames, of worlds that were there: those that are whole, or end here."""
        frames = list(self.recent)[k:]
        length, whole = len(frames), self.recent.maxlen
        assert whole is not None
        rows = np.nonzero((self.age >= length) & (done | (length == whole)) & frames[0]["begins"])[0]
        actions = [frame["action"][rows] for frame in frames] + [frames[-1]["action"][rows]] * (whole - length)
        found = {name: value[rows] for name, value in frames[0].items() if name not in ("action", "reward", "begins")}
        found |= {name: value[rows] for name, value in following.items()}
        found["action"] = np.stack(actions, axis=1).astype(np.float32)
        rewards = np.stack([frame["reward"][rows] for frame in frames])
        found["reward"] = (self.discount ** np.arange(length) @ rewards).astype(np.float32)
        found["discount"] = (self.discount**length * ~terminated[rows]).astype(np.float32)
        return found
