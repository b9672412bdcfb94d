"""The one optimisation loop. It knows nothing of what it trains: a Source gives batches and what to make small of them."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from policies.policy import Policy
from robot.core.errors import ConfigError, DivergedError
from robot.learn import checkpoint
from robot.learn.log import RunLog
from robot.learn.sources import Source

Evaluate = Callable[[Policy], dict[str, float]]


@dataclass
class TrainerConfig:
    steps: int
    """Updates in all."""
    learning_rate: float
    """Peak learning rate of AdamW."""
    weight_decay: float
    """AdamW's decoupled weight decay."""
    warmup: int
    """Updates of linear warm-up; a cosine to a twentieth of the peak follows."""
    clip: float
    """Largest norm of the gradient."""
    average: float
    """Decay of the exponential moving average of the weights, which is what is evaluated and exported."""
    log_every: int
    """Updates between two rows of the log."""
    checkpoint_every: int
    """Updates between two checkpoints."""
    evaluate_every: int
    """Updates between two short evaluations for the success curve, 0 for none."""
    evaluate_episodes: int
    """Episodes of such an evaluation."""
    threads: int
    """Torch threads, 0 for all cores."""


def seed_weights(seed: int) -> None:
    """Make the initial weights of the policy that is built next depend on `seed` alone."""
    torch.manual_seed(seed)


class Trainer:
    """`fit` minimises the loss of a Source's batches; interrupted and resumed, it gives the same numbers."""

    def __init__(self, config: TrainerConfig) -> None:
        if config.steps < 1 or config.learning_rate <= 0:
            raise ConfigError(f"trainer: steps={config.steps} must be at least 1, learning_rate={config.learning_rate} positive")
        if config.checkpoint_every % config.log_every:
            raise ConfigError(
                f"trainer: checkpoint_every={config.checkpoint_every} must be a multiple of log_every={config.log_every}, "
                "so that a resumed run writes the same log"
            )
        self.config = config
        self._sums: dict[str, float] = {}

    def fit(
        self, policy: Policy, source: Source, run: Path, seed: int, evaluate: Evaluate | None = None, quiet: bool = False
    ) -> Policy:
        """Train in the folder `run`, from its newest checkpoint if it has one; returns the policy with averaged weights."""
        config = self.config
        if config.threads:
            torch.set_num_threads(config.threads)
        optimizer = torch.optim.AdamW(
            [p for p in policy.parameters() if p.requires_grad], config.learning_rate, weight_decay=config.weight_decay
        )
        average = {name: value.clone() for name, value in policy.state_dict().items()}
        actor = copy.deepcopy(policy)
        source.open(run, seed)
        log = RunLog(run)
        start = self._resume(policy, average, optimizer, source, run, log)
        bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]:.3f}"), disable=quiet,
        )  # fmt: skip
        with log, bar:
            task = bar.add_task("train", total=config.steps, completed=start, loss=math.nan)
            for step in range(start, config.steps):
                actor.load_state_dict(average)
                batch = source.batch(step, actor.eval())
                losses = self._update(policy, source, optimizer, batch, step, seed)
                _average(average, policy, config.average, step)
                self._report(losses, log, step + 1)
                bar.update(task, advance=1, loss=float(losses["loss"]))
                if evaluate and config.evaluate_every and (step + 1) % config.evaluate_every == 0:
                    actor.load_state_dict(average)
                    log.write(step + 1, evaluate(actor.eval()))
                if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
                    checkpoint.save(run, step + 1, policy, average, optimizer)
                    source.saved(step + 1)
        policy.load_state_dict(average)
        return policy.eval()

    def _resume(self, policy: Policy, average: dict[str, Tensor], optimizer, source: Source, run: Path, log: RunLog) -> int:
        folder = checkpoint.newest(run)
        if folder is None:
            log.truncate(0)
            source.resume(0)
            return 0
        step = checkpoint.restore(folder, policy, average, optimizer)
        log.truncate(step)
        source.resume(step)
        return step

    def _update(
        self, policy: Policy, source: Source, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], step: int, seed: int
    ) -> dict[str, Tensor]:
        config = self.config
        torch.manual_seed((seed * 1_000_003 + step) % 2**63)
        ramp = min(1.0, (step + 1) / max(config.warmup, 1))
        done = max(0.0, (step - config.warmup) / max(config.steps - config.warmup, 1))
        rate = config.learning_rate * ramp * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(done, 1.0))))
        for group in optimizer.param_groups:
            group["lr"] = rate
        policy.train()
        losses = source.loss(policy, batch)
        if not bool(torch.isfinite(losses["loss"])):
            parts = {name: round(float(value.detach()), 4) for name, value in losses.items()}
            raise DivergedError(f"the loss is not finite at step {step}: {parts}; lower trainer.learning_rate and resume")
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        losses["gradient"] = torch.nn.utils.clip_grad_norm_(policy.parameters(), config.clip)
        optimizer.step()
        return {name: value.detach() for name, value in losses.items()}

    def _report(self, losses: dict[str, Tensor], log: RunLog, step: int) -> None:
        sums = self._sums
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        if step % self.config.log_every == 0:
            log.write(step, {name: total / self.config.log_every for name, total in sums.items()})
            sums.clear()


@torch.no_grad()
def _average(average: dict[str, Tensor], policy: Policy, decay: float, step: int) -> None:
    """One step of the moving average, with a shorter memory at the start so that it is never far behind."""
    weight = min(decay, (1 + step) / (10 + step))
    for name, value in policy.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].lerp_(value, 1 - weight)
        else:
            average[name].copy_(value)
