"""Distillation of specialists into one student that flies every vehicle (meta-imitation learning, RAPTOR section 3).

First teachers learn, a specialist for each vehicle of a fleet, as many at once as there is room for; each must pass an
acceptance flight, or learn again, or be left out. Then the student flies their vehicles and every state that it comes to is
labelled with what the vehicle's own teacher, who has watched the whole flight, would have commanded.
"""

import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.ensemble import Ensemble, push
from policies.fleet import Fleet
from policies.raptor import Raptor
from robot.core.config import build
from robot.core.errors import CheckpointError, ConfigError
from robot.data.files import replacing, write_json
from robot.learn.backprop import Backprop, BackpropConfig
from robot.learn.flight import Tape
from robot.learn.flight_cost import IMITATION
from robot.learn.sources import Batch
from robot.learn.trainer import seed_weights
from sim.envs.quadrotor import Quadrotor

LOG = logging.getLogger(__name__)


@dataclass
class AcceptanceConfig:
    lost: float
    """Largest share of flights, from calm starts, that end more than a metre off."""
    error: float
    """Largest median distance at the end of the others [m]."""


@dataclass
class SchoolConfig:
    policy: dict[str, Any]
    """A config node of specialists side by side, but for their number."""
    data: dict[str, Any]
    """What they learn from."""
    trainer: dict[str, Any]
    """How they learn."""
    worlds: int
    """Worlds of each while it learns."""
    acceptance: AcceptanceConfig
    """What each must do before it may teach."""
    retries: int
    """Times that those who failed may learn again, from other weights."""


@dataclass
class DistillConfig(BackpropConfig):
    school: SchoolConfig
    """How teachers come to be."""
    wean: int
    """Updates in which the weight of imitation falls to nothing; then the student flies any vehicles. 0: it stays."""
    teachers: str | None
    """A run folder whose teachers, of as many vehicles or more, are used instead of new ones."""


class Distill(Backprop):
    """A Source whose batches are windows of the student's flights with its teachers' labels."""

    def __init__(self, config: DistillConfig, env: Quadrotor) -> None:
        super().__init__(config, env)
        self.config: DistillConfig = config
        self.count, self.together = env.config.fleet, env.num_envs // config.school.worlds
        if not self.count or self.count % min(self.count, self.together) or env.num_envs % min(self.count, self.together):
            raise ConfigError(
                f"env.fleet={self.count}: there is a teacher a vehicle, and env.num_envs={env.num_envs} worlds hold "
                f"{self.together} at once; take a multiple of that, or a divisor"
            )
        self.together = min(self.count, self.together)
        self.imitation = float(self.rules.costs[IMITATION])

    def open(self, folder: Path, seed: int) -> None:
        """Have teachers: those of this run, those of another, or new ones.

        Raises:
            CheckpointError: another run's teachers know other vehicles.
            ConfigError: none passed its acceptance flight.
        """
        super().open(folder, seed)
        file = (Path(self.config.teachers) if self.config.teachers else folder) / "teachers.pt"
        if not file.exists():
            if self.config.teachers:
                raise CheckpointError(f"data.teachers: no '{file}'; give a run folder of a distillation, or leave it out")
            self._educate(folder, seed, file)
        kept = torch.load(file, weights_only=True)
        known, vehicles = kept["inertia"], self.env.vehicles()["inertia"]
        if len(known) < self.count or not torch.allclose(known[: self.count], vehicles):
            raise CheckpointError(
                f"'{file}' holds teachers of {len(known)} other vehicles: give env.fleet no more than that, and the same "
                "env.fleet_seed and env.vehicles that they learnt on"
            )
        self.faculty = self._specialists(self.count)
        self.faculty.load_state_dict({name: value[: self.count] for name, value in kept["weights"].items()})
        self.accepted = torch.nonzero(kept["accepted"][: self.count]).flatten()
        if not len(self.accepted):
            raise ConfigError(f"none of {self.count} teachers passed its acceptance flight; see '{file.with_suffix('.json')}'")

    def begin(self, number: int) -> None:
        """Other teachers and their vehicles each round."""
        if self.config.wean and number * self.config.round_updates >= self.config.wean:
            self.env.assign(None)
            self.teach = None
            return
        self.teach = self._labels
        count, rng = self.together, np.random.default_rng([self.seed, number, 5])
        order = torch.from_numpy(rng.permutation(len(self.accepted)))
        numbers = self.accepted[order.repeat(-(-count // len(order)))[:count]]
        self.staff = self.faculty.choose(numbers)
        self.env.assign(numbers.repeat_interleave(self.env.num_envs // count))
        self.watched = self.staff.initial_memory(self.env.num_envs)

    def batch(self, step: int, policy: Raptor | Fleet) -> Batch:
        given = super().batch(step, policy)
        if self.teach is not None:
            for value in self.watched.values():
                value[given["fresh"]] = 0
        if self.config.wean:
            self.rules.costs[IMITATION] = self.imitation * max(0.0, 1 - step / self.config.wean)
        return given

    @torch.no_grad()
    def _labels(self, tape: Tape) -> Tensor:
        commands, self.watched = self.staff.follow(tape.observations(), push(self.env), self.watched)
        return commands.clamp(-1, 1)

    def _specialists(self, count: int) -> Fleet | Ensemble:
        node = {**self.config.school.policy, "size": count}
        return build(node, "data.school.policy", interface=self.env.interface, env=self.env)

    def _educate(self, folder: Path, seed: int, file: Path) -> None:
        """Train and examine all teachers, and keep them."""
        numbers = torch.arange(self.count).split(self.together)
        faculty = self._specialists(self.count)
        lost, error = torch.ones(self.count), torch.full((self.count,), torch.inf)
        for turn in range(self.config.school.retries + 1):
            for k, group in enumerate(numbers):
                LOG.info("teachers: turn %d, group %d of %d, %d at once", turn + 1, k + 1, len(numbers), len(group))
                team = self._train(group, folder / "school" / f"{turn}-{k}", seed + 1000 * (turn * len(numbers) + k + 1))
                found = examine(self.env, team, group)
                better = (found[0] + found[1].clamp_max(1) < lost[group] + error[group].clamp_max(1)) | (turn == 0)
                for name, value in faculty.state_dict().items():
                    value[group[better]] = team.state_dict()[name][better]
                lost[group[better]], error[group[better]] = found[0][better], found[1][better]
            failed = torch.nonzero(~self._passed(lost, error)).flatten()
            if not len(failed):
                break
            size = 1 << (min(len(failed), self.together) - 1).bit_length()
            numbers = failed.repeat(-(-size // len(failed)))[: size * max(1, len(failed) // size)].split(size)
        accepted = self._passed(lost, error)
        columns = zip(accepted.tolist(), lost.tolist(), error.clamp_max(1e9).tolist(), strict=True)
        rows = [{"vehicle": k, "accepted": a, "lost": share, "error": e} for k, (a, share, e) in enumerate(columns)]
        write_json(file.with_suffix(".json"), rows)
        with replacing(file) as draft:
            kept = {"weights": faculty.state_dict(), "accepted": accepted, "inertia": self.env.vehicles()["inertia"]}
            torch.save(kept, draft)
        shutil.rmtree(folder / "school")
        LOG.info(
            "teachers: %d of %d accepted, lost %.1f %%, median error %.3f m; the others teach nothing (%s)",
            int(accepted.sum()), self.count, 100 * float(lost[accepted].mean()), float(error[accepted].median()),
            file.with_suffix(".json"),
        )  # fmt: skip

    def _passed(self, lost: Tensor, error: Tensor) -> Tensor:
        bar = self.config.school.acceptance
        return (lost <= bar.lost) & (error <= bar.error)

    def _train(self, group: Tensor, folder: Path, seed: int) -> Fleet | Ensemble:
        school = self.config.school
        self.env.assign(group.repeat_interleave(self.env.num_envs // len(group)))
        seed_weights(seed)
        team = self._specialists(len(group))
        source = build(school.data, "data.school.data", env=self.env)
        trainer = build(school.trainer, "data.school.trainer")
        return trainer.fit(team, source, folder, seed)


@torch.no_grad()
def examine(env: Quadrotor, team: Fleet | Ensemble, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """A flight from a calm start in every world: each one's share of lost ones, the others' median error [m], (n,) each."""
    env.assign(numbers.repeat_interleave(env.num_envs // len(numbers)))
    start, env.config.start = env.config.start, replace(env.config.start, wild=0.0)
    observation, _ = env.reset(seed=len(numbers) + int(numbers[0]))
    env.config.start = start
    memory = team.initial_memory(env.num_envs)
    for _ in range(env.max_steps - 1):
        plan = team.plan(observation, memory)
        memory = plan.memory
        observation, *_ = env.step(plan.actions[:, 0])
    error = env.errors(env.state, env.steps)[0].norm(dim=1).unflatten(0, (len(numbers), -1))
    lost = ~(error <= env.config.limits.lost)
    median = error.masked_fill(lost, torch.nan).nanmedian(dim=1).values
    return lost.float().mean(dim=1), median.nan_to_num(torch.inf, torch.inf)
