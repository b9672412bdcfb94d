"""General policy composition (GPC, arXiv 2510.01068): several generators draw one chunk together, none is trained for it.

Every parent says where a noisy chunk should flow; a convex combination of what they say is followed. Parents may differ in their
inputs, networks, chunk lengths and processes, since all speak in velocities of one rectified flow (policies/generative.py has the
bridge from diffusion). `and` and `or` are the superpositions of Skreta et al. (2025): weights that let both log densities
grow alike, and weights by density; a divergence is taken from a second evaluation along one random direction.
"""

import itertools
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn

from policies.generator import Generator, Scene
from policies.held import hold
from policies.policy import Memory, Observation
from robot.core.errors import ConfigError, NotSupportedError
from robot.core.interface import Interface


class Operator(Enum):
    convex = "convex"
    both = "and"
    either = "or"


@dataclass
class GpcConfig:
    parents: Any
    """Two or more generators, each a run folder, a policy's name, or a mapping (see policies/held.py)."""
    weights: list[float]
    """Weight of each parent, scaled to a sum of 1; only `convex` looks at them."""
    levels: list[list[float]] | None
    """Weights by flow time instead: rows of time, weight, weight, …; `robot.examples.compose_weights` finds them."""
    operator: Operator
    """convex, and, or."""
    sharpness: float
    """or: factor on the log densities."""
    steps: int
    """Euler steps from noise to chunk."""
    temperature: float
    """Factor on the noise that a chunk is drawn from."""
    execute: int
    """Actions executed before the next decision."""


class Gpc(Generator):
    weights: Tensor

    def __init__(self, config: GpcConfig, interface: Interface | None = None, env: Any = None) -> None:
        given = config.parents if isinstance(config.parents, list) else [config.parents]
        if len(given) < 2 or len(config.weights) != len(given):
            raise ConfigError(
                f"policy: a composition needs a list of two parents or more and a weight for each; there are {len(given)} and "
                f"{len(config.weights)}"
            )
        if min(config.weights) < 0 or sum(config.weights) <= 0 or config.steps < 1 or config.temperature < 0:
            raise ConfigError(
                f"policy.weights={config.weights} must not be negative nor all 0, steps={config.steps} at least 1, "
                f"temperature={config.temperature} not negative"
            )
        if config.operator is not Operator.convex and len(given) != 2:
            raise ConfigError(f"policy.operator={config.operator.value} composes two parents, not {len(given)}")
        parents: list[Generator] = []
        for k, each in enumerate(given):
            parents.append(hold(each, f"policy.parents[{k}]", interface, env))
            interface = parents[0].interface
        assert interface is not None
        super().__init__(interface)
        self.config, self.parents = config, nn.ModuleList(parents)
        self._agree(parents)
        self.chunk = max(p.chunk for p in parents)
        self.execute = config.execute
        if not 1 <= config.execute <= min(p.chunk for p in parents):
            raise ConfigError(f"policy.execute={config.execute}: parents' chunks have {[p.chunk for p in parents]} actions")
        self.condition_size = sum(p.condition_size for p in parents)
        self.register_buffer("scale", parents[0].scale.clone(), persistent=False)
        total = sum(config.weights)
        self.register_buffer("weights", torch.tensor([w / total for w in config.weights]), persistent=False)

    def _agree(self, parents: list[Generator]) -> None:
        for k, parent in enumerate(parents):
            try:
                parent.times()
            except NotSupportedError as error:
                raise ConfigError(f"policy.parents[{k}] follows no field that could be composed: {error}") from error
            if parent.noise_shape() != (parent.chunk, parent.action_size):
                raise ConfigError(
                    f"policy.parents[{k}] draws noise on its way, so it follows no field; set generative.stochastic=false"
                )
            if not torch.equal(parent.scale, parents[0].scale):
                raise ConfigError(
                    f"policy.parents[{k}] scales actions by {parent.scale.tolist()}, the first by {parents[0].scale.tolist()}: "
                    "their noisy chunks are not the same; train them with equal policy.scale and policy.anchor"
                )

    def train(self, mode: bool = True) -> "Gpc":
        super().train(mode)
        self.parents.eval()
        return self

    def initial_memory(self, batch: int) -> Memory:
        return {f"p{k}_{name}": v for k, p in enumerate(self.members) for name, v in p.initial_memory(batch).items()}

    @property
    def members(self) -> list[Generator]:
        """The parents."""
        return [parent for parent in self.parents if isinstance(parent, Generator)]

    def prepare(self, observation: Observation, memory: Memory) -> tuple[dict[str, Tensor], Memory]:
        inputs: dict[str, Tensor] = {}
        after: Memory = {}
        for k, parent in enumerate(self.members):
            mark = f"p{k}_"
            mine = {name.removeprefix(mark): value for name, value in memory.items() if name.startswith(mark)}
            given, kept = parent.prepare(observation, mine)
            inputs |= {mark + name: value for name, value in given.items()}
            after |= {mark + name: value for name, value in kept.items()}
        return inputs, after

    def encode(self, inputs: dict[str, Tensor]) -> Scene:
        scenes = []
        for k, parent in enumerate(self.members):
            mark = f"p{k}_"
            scenes.append(parent.encode({n.removeprefix(mark): v for n, v in inputs.items() if n.startswith(mark)}))
        return Scene(torch.cat([scene.condition for scene in scenes], dim=1), scenes[0].anchor)

    def scenes(self, scene: Scene) -> list[Scene]:
        """The scene as each parent knows it."""
        sizes = [parent.condition_size for parent in self.members]
        return [Scene(part, scene.anchor) for part in scene.condition.split(sizes, dim=1)]

    def voices(self, x: Tensor, t: Tensor, scene: Scene) -> Tensor:
        """What each parent says at x (N, chunk, A), time t (N,): (parents, N, chunk, A), 0 beyond a parent's own chunk."""
        said = []
        for parent, own in zip(self.members, self.scenes(scene), strict=True):
            v = parent.velocity(x[:, : parent.chunk], t, own)
            said.append(torch.cat([v, v.new_zeros(x.shape[0], self.chunk - parent.chunk, self.action_size)], dim=1))
        return torch.stack(said)

    def velocity(self, x: Tensor, t: Tensor, scene: Scene) -> Tensor:
        if self.config.operator is not Operator.convex:
            raise self._cannot("velocity")  # its weights depend on the way to x
        return self._mixed(self.voices(x, t, scene), self._weights(t))

    def _weights(self, t: Tensor) -> Tensor:
        """(parents, N) at times t (N,)."""
        if self.config.levels is None:
            return self.weights[:, None].expand(-1, t.shape[0])
        table = torch.tensor(self.config.levels)
        nearest = (table[:, :1] - t[None]).abs().argmin(0)
        return table[nearest, 1:].T

    def _mixed(self, said: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean of voices (parents, N, chunk, A), at each action over the parents that reach it."""
        reach = torch.stack([(torch.arange(self.chunk) < parent.chunk).float() for parent in self.members])
        weights = weights[:, :, None] * reach[:, None]
        weights = weights / weights.sum(0).clamp_min(1e-9)
        return (weights[..., None] * said).sum(0)

    def times(self) -> Tensor:
        return torch.linspace(1, 0, self.config.steps + 1)

    def flow_to(self, noise: Tensor, scene: Scene) -> Tensor:
        x, density = self.config.temperature * noise, noise.new_zeros(len(self.parents), noise.shape[0])
        times = self.times().tolist()
        direction = torch.where(noise > 0, 1.0, -1.0)  # as random as the noise, and nothing else to be passed in
        for now, then in itertools.pairwise(times):
            t = torch.full((x.shape[0],), now, dtype=x.dtype)
            said = self.voices(x, t, scene)
            if self.config.operator is Operator.convex:
                x = x + (then - now) * self._mixed(said, self._weights(t))
                continue
            weights, rates = self._superposed(x, t, now, said, density, direction, scene)
            x = x + (then - now) * self._mixed(said, weights)
            density = density + (then - now) * rates
        return x

    def _superposed(
        self, x: Tensor, t: Tensor, now: float, said: Tensor, density: Tensor, direction: Tensor, scene: Scene
    ) -> tuple[Tensor, Tensor]:
        """Weights (2, N) of the superposition and how fast the parents' log densities then change along the way, (2, N)."""
        nudge = 1e-2
        divergence = ((self.voices(x + nudge * direction, t, scene) - said) / nudge * direction).flatten(2).sum(2)
        noise = x + (1 - now) * said
        scores = (-noise / max(now, 0.05)).flatten(2)
        flat = said.flatten(2)
        own = -divergence - (scores * flat).sum(2)
        along = torch.einsum("ind,jnd->ijn", scores, flat)
        if self.config.operator is Operator.either:
            weights = torch.softmax(self.config.sharpness * density, dim=0)
        else:
            first = along[0, 0] - along[1, 0] - along[0, 1] + along[1, 1]
            rest = own[1] - own[0] + along[1, 1] - along[0, 1]
            share = (rest / torch.where(first.abs() < 1e-6, 1e-6, first)).clamp(0, 1)
            weights = torch.stack([share, 1 - share])
        return weights, own + torch.einsum("ijn,jn->in", along, weights)
