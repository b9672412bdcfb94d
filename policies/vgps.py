"""V-GPS (Nakamoto et al., 2024): a frozen generator proposes chunks, a critic learnt offline picks one.

Beyond the paper: an ensemble whose disagreement is held against a chunk, so that more candidates do not find the critic's errors,
and critics by implicit Q-learning (Kostrikov et al., 2022) or by calibrated conservative Q-learning (Nakamoto et al., 2023)
whose backup is the very choice that acts: the best of the generator's own samples.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from policies.critic import Critics, CriticsConfig, Ensemble
from policies.generator import Generator, Scene
from policies.held import hold
from policies.policy import Memory, Observation, Plan
from robot.core.errors import ConfigError
from robot.core.interface import Interface


class Method(Enum):
    iql = "iql"
    calql = "calql"


@dataclass
class VgpsConfig:
    base: Any
    """The generator: a run folder, a policy's name, or a mapping (see policies/held.py)."""
    candidates: int
    """Chunks proposed at each decision (K)."""
    temperature: float
    """Of the choice among them, in units of value; 0 takes the best."""
    pessimism: float
    """Standard deviations of the ensemble that are subtracted from its mean."""
    random: bool
    """Control: take the first candidate, which is a random one."""
    method: Method
    """How the critics learn: iql or calql."""
    discount: float
    """Of rewards, a control period."""
    expectile: float
    """iql: which expectile of the values of recorded chunks is a state's value."""
    conservatism: float
    """calql: weight of what presses the generator's samples down and recorded chunks up."""
    proposals: int
    """calql: samples of the generator in a backup."""
    critics: CriticsConfig
    """The ensemble."""


class Vgps(Generator):
    transitions = True
    """Learns from transitions."""

    def __init__(self, config: VgpsConfig, interface: Interface, env: Any = None) -> None:
        super().__init__(interface)
        if config.candidates < 1 or config.temperature < 0 or not 0 < config.discount < 1 or not 0.5 <= config.expectile < 1:
            raise ConfigError(
                f"policy: candidates={config.candidates} must be at least 1, temperature={config.temperature} not negative, "
                f"discount={config.discount} in (0, 1), expectile={config.expectile} in [0.5, 1)"
            )
        self.config, self.base = config, hold(config.base, "policy.base", interface, env)
        self.take_after(self.base)
        self.critics = Critics(config.critics, self.condition_size + self.execute * self.action_size)
        self.value = Ensemble(1, self.condition_size, config.critics.width, config.critics.layers, 1)

    def train(self, mode: bool = True) -> "Vgps":
        super().train(mode)
        self.base.eval()
        return self

    def initial_memory(self, batch: int) -> Memory:
        return self.base.initial_memory(batch)

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        return self.base.prepare(observation, memory)

    def encode(self, inputs: dict[str, Tensor]) -> Scene:
        return self.base.encode(inputs)

    def noise_shape(self) -> tuple[int, ...]:
        """For each candidate the base's noise, and one number for the choice."""
        return (self.config.candidates, int(torch.Size(self.base.noise_shape()).numel()) + 1)

    def flow_to(self, noise: Tensor, scene: Scene) -> Tensor:
        candidates, values = self.considered(noise, scene)
        return self.chosen(candidates, values, noise)

    def considered(self, noise: Tensor, scene: Scene) -> tuple[Tensor, Tensor]:
        """Candidates x (B, K, T, A) and their cautious values (B, K)."""
        candidates = self.base.draw(scene, noise[..., :-1].unflatten(-1, self.base.noise_shape()))
        return candidates, self.cautious(scene, candidates)

    def chosen(self, candidates: Tensor, values: Tensor, noise: Tensor) -> Tensor:
        """The candidate (B, T, A) that acts."""
        if self.config.random:
            return candidates[:, 0]
        if self.config.temperature > 0:
            share = (0.5 * (1 + torch.erf(noise[..., -1] / 2**0.5))).clamp(1e-6, 1 - 1e-6)
            values = values / self.config.temperature - (-share.log()).log()
        best = values.argmax(1)[:, None, None, None].expand(-1, 1, *candidates.shape[2:])
        return torch.gather(candidates, 1, best)[:, 0]

    def cautious(self, scene: Scene, x: Tensor) -> Tensor:
        """Ensemble mean less `pessimism` deviations, (B, K), of chunks x (B, K, T, A)."""
        n = x.shape[1]
        condition = scene.condition.repeat_interleave(n, 0)
        values = self.critics(condition, x.flatten(0, 1)[:, : self.execute]).unflatten(1, (-1, n))
        return values.mean(0) - self.config.pessimism * values.std(0, unbiased=False)

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        scene = self.encode(inputs)
        noise = torch.randn(scene.condition.shape[0], *self.noise_shape()) if noise is None else noise
        candidates, values = self.considered(noise, scene)
        plan = self.plan_of(self.chosen(candidates, values, noise), scene, memory)
        shown = self.actions(candidates.flatten(0, 1), scene.repeat(candidates.shape[1]))
        plan.candidates = shown.unflatten(0, candidates.shape[:2]).unflatten(-1, self.interface.action.shape)
        plan.values = values
        return plan

    def score(self, observation: Observation, candidates: Tensor) -> Tensor:
        inputs, _ = self.prepare(observation, self.initial_memory(candidates.shape[0]))
        scene, n = self.encode(inputs), candidates.shape[1]
        x = self.scaled(candidates.flatten(3).flatten(0, 1), scene.repeat(n))
        return self.cautious(scene, x.unflatten(0, (-1, n)))

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The critics' losses over transitions (see robot/learn/replay.py): `action` (B, execute, A), `reward`, `discount`, …"""
        self.critics.follow()
        scene, after = self.encode(batch), self.encode({k[5:]: v for k, v in batch.items() if k.startswith("next_")})
        x = self.scaled(batch["action"].flatten(2), scene)
        values = self.critics(scene.condition, x)
        losses = (
            self._iql(batch, scene, after, x) if self.config.method is Method.iql else self._calql(batch, scene, after, values)
        )
        losses["critic"] = ((values - losses.pop("target")) ** 2).mean()
        losses["value"] = values.detach().mean()
        losses["loss"] = losses["critic"] + sum(losses[name] for name in ("state", "conservative") if name in losses)
        return losses

    def _iql(self, batch: dict[str, Tensor], scene: Scene, after: Scene, x: Tensor) -> dict[str, Tensor]:
        """Expectile regression of the state's value; a transition's target is the value of the next state."""
        with torch.no_grad():
            best = self.critics.backup(scene.condition, x)
            target = batch["reward"] + batch["discount"] * self.value(after.condition)[0, :, 0]
        gap = best - self.value(scene.condition)[0, :, 0]
        weight = torch.where(gap > 0, self.config.expectile, 1 - self.config.expectile)
        return {"target": target, "state": (weight * gap**2).mean()}

    def _calql(self, batch: dict[str, Tensor], scene: Scene, after: Scene, values: Tensor) -> dict[str, Tensor]:
        n, shape = self.config.proposals, self.base.noise_shape()
        with torch.no_grad():
            mine, its = (self.base.draw(s, torch.randn(len(values[0]), n, *shape))[:, :, : self.execute] for s in (scene, after))
            repeated = after.condition.repeat_interleave(n, 0)
            backed = self.critics.backup(repeated, its.flatten(0, 1)).unflatten(0, (-1, n)).max(1).values
            target = batch["reward"] + batch["discount"] * backed
        drawn = self.critics(scene.condition.repeat_interleave(n, 0), mine.flatten(0, 1)).unflatten(1, (-1, n))
        floor = torch.maximum(drawn, batch["return"][None, :, None])  # calibrated: never pressed below what was achieved
        gap = floor.logsumexp(2) - torch.log(torch.tensor(float(n))) - values
        return {"target": target, "conservative": self.config.conservatism * gap.mean()}
