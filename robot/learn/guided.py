"""Pieces of recorded episodes for a trajectory model, and transitions that such a model imagines for whoever learns from them.

Policy-guided diffusion (Jackson et al., 2024): imagined episodes, bent towards what the policy would do now, stand beside
recorded ones in a batch; they are imagined anew as the policy changes.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.trajectory import Trajectory
from robot.core.errors import CheckpointError, ConfigError
from robot.learn.checkpoint import load_policy
from robot.learn.replay import Offline, pick, transitions
from robot.learn.sources import Batch, EpisodesConfig
from sim.env import Env


class Pieces(Offline):
    """Batches of pieces (B, chunk, …) of recorded episodes; past an episode's end its last frame is repeated and `valid` is 0."""

    def __init__(self, config: EpisodesConfig, env: Env) -> None:
        super().__init__(config, env)

    def batch(self, step: int, policy: Any) -> Batch:
        if not self.columns:
            self.columns, self.last = self._prepare(policy)
            policy.study(self.columns)
        rng = np.random.default_rng([self.seed, step, 1])
        first = rng.integers(len(self.last), size=self.config.batch_size)
        rows = first[:, None] + np.arange(policy.chunk)
        batch = pick(self.columns, np.minimum(rows, self.last[first, None]))
        return batch | {"valid": torch.from_numpy((rows <= self.last[first, None]).astype(np.float32))}


@dataclass
class GuidedConfig(EpisodesConfig):
    model: str
    """Run folder of the trajectory model: python -m robot.train policy=trajectory."""
    refresh: int
    """Updates after which episodes are imagined anew."""
    pieces: int
    """Episodes that are imagined at once."""
    share: float
    """Share of a batch that is imagined."""
    guidance: float
    """How far they are bent towards the policy; 0 leaves them as the model has them."""


class Guided(Offline):
    """Recorded transitions and imagined ones. What was imagined is kept beside the checkpoints, for a run that is resumed."""

    FILE = "imagined.npz"
    BATCH = 256

    def __init__(self, config: GuidedConfig, env: Env) -> None:
        super().__init__(config, env)
        if config.refresh < 1 or config.pieces < 1 or not 0 <= config.share < 1 or config.guidance < 0:
            raise ConfigError(
                f"data: refresh={config.refresh} and pieces={config.pieces} must be at least 1, share={config.share} in [0, 1), "
                f"guidance={config.guidance} not negative"
            )
        self.options = config
        self.model = load_policy(config.model)[0].requires_grad_(False)
        if not isinstance(self.model, Trajectory):
            raise ConfigError(f"data.model={config.model}: {type(self.model).__name__} imagines nothing; train policy=trajectory")
        differences = env.interface.compare(self.model.interface)
        if differences:
            raise ConfigError(f"data.model={config.model} is for another task: {'; '.join(differences[:3])}")
        self.imagined: dict[str, np.ndarray] | None = None

    def open(self, folder: Path, seed: int) -> None:
        self.folder = folder
        super().open(folder, seed)

    def batch(self, step: int, policy: Any) -> Batch:
        real = super().batch(step, policy)
        count = round(self.config.batch_size * self.options.share)
        if step % self.options.refresh == 0 or self.imagined is None:
            self.imagined = self._imagine(step, policy)
        rows = np.random.default_rng([self.seed, step, 4]).integers(len(self.imagined["reward"]), size=count)
        other = pick(self.imagined, rows)
        return {name: torch.cat([value[: self.config.batch_size - count], other[name]]) for name, value in real.items()}

    @torch.no_grad()
    def _imagine(self, step: int, policy: Any) -> dict[str, np.ndarray]:
        """A table of transitions; starts are those of recorded frames."""
        was = policy.training
        policy.eval()

        def would(condition: Tensor, anchor: Tensor) -> Tensor:
            scene = policy.encode({"condition": condition, "anchor": anchor})
            noise = torch.zeros(condition.shape[0], *policy.noise_shape())
            return policy.actions(policy.flow_to(noise, scene), scene)[:, 0]

        model, generator = self.model, torch.Generator().manual_seed((self.seed * 1_000_003 + step) % 2**63)
        assert isinstance(model, Trajectory)
        starts = torch.randint(len(self.last), (self.options.pieces,), generator=generator)
        noise = torch.randn(len(starts), *model.noise_shape(), generator=generator)
        begin = pick(self.columns, starts.numpy())
        parts = [
            model.imagine(begin["condition"][k : k + self.BATCH], begin["anchor"][k : k + self.BATCH], noise[k : k + self.BATCH],
                          would, self.options.guidance)
            for k in range(0, len(starts), self.BATCH)
        ]  # fmt: skip
        policy.train(was)
        frames = {name: torch.cat([getattr(part, name) for part in parts]).numpy() for name in vars(parts[0])}
        return self._table(frames, policy)

    def _table(self, frames: dict[str, np.ndarray], policy: Any) -> dict[str, np.ndarray]:
        """Transitions of imagined pieces, each ending where the model says that its episode did."""
        ended = frames["terminated"] > 0.5
        length = np.where(ended.any(1), ended.argmax(1) + 1, ended.shape[1])
        inside = np.arange(ended.shape[1]) < length[:, None]
        flat = {name: value[inside] for name, value in frames.items()}
        flat["action"] = flat["action"].reshape(-1, *self.env.interface.action.shape)
        table = transitions(flat, np.repeat(np.cumsum(length) - 1, length), policy.execute, policy.config.discount)
        whole = table["discount"] < 1  # of the last frame of a piece that goes on nothing is known
        return {name: value[whole] for name, value in table.items()}

    def saved(self, step: int) -> None:
        if self.imagined is None:
            return
        draft = self.folder / f"{self.FILE}.tmp"
        with draft.open("wb") as stream:
            np.savez(stream, **self.imagined)  # pyright: ignore[reportArgumentType]
        os.replace(draft, self.folder / self.FILE)

    def resume(self, step: int) -> None:
        file = self.folder / self.FILE
        if step == 0:
            file.unlink(missing_ok=True)
            return
        if not file.exists():
            raise CheckpointError(f"'{file}' is missing: what was imagined before step {step}; begin this run anew")
        with np.load(file) as kept:
            self.imagined = {name: kept[name] for name in kept.files}
