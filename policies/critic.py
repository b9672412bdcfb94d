"""Ensembles of critics over a scene's condition and a chunk of actions, side by side in stacked weights."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass
class CriticsConfig:
    count: int
    """Critics in the ensemble."""
    width: int
    """Of every hidden layer."""
    layers: int
    """Hidden layers."""
    follow: float
    """Share by which the target critics follow theirs in an update."""
    targets: int
    """Critics of the ensemble whose smallest value is the target, drawn anew each update (RLPD); the count takes all."""


class Ensemble(nn.Module):
    """`count` networks with layer norm and SiLU, from (B, inputs) or (count, B, inputs) to (count, B, outputs)."""

    def __init__(self, count: int, inputs: int, width: int, layers: int, outputs: int) -> None:
        super().__init__()
        sizes = [inputs, *[width] * layers, outputs]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for a, b in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(a)
            self.weights.append(nn.Parameter(torch.empty(count, a, b).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(torch.zeros(count, 1, b)))

    def forward(self, x: Tensor, frozen: bool = False, members: Tensor | None = None) -> Tensor:
        """With `frozen` the gradient passes to x, not to the weights; `members` (M,) chooses networks."""
        x = x.expand(self.weights[0].shape[0] if members is None else len(members), *x.shape[-2:])
        last = len(self.weights) - 1
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            w, b = (weight.detach(), bias.detach()) if frozen else (weight, bias)
            if members is not None:
                w, b = w[members], b[members]
            x = torch.baddbmm(b, x, w)
            if k < last:
                x = F.silu(F.layer_norm(x, x.shape[-1:]))
        return x


class Critics(nn.Module):
    """Critics and the targets that follow them."""

    def __init__(self, config: CriticsConfig, inputs: int) -> None:
        super().__init__()
        self.config = config
        self.own = Ensemble(config.count, inputs, config.width, config.layers, 1)
        self.target = Ensemble(config.count, inputs, config.width, config.layers, 1).requires_grad_(False)
        self.target.load_state_dict(self.own.state_dict())

    def forward(self, condition: Tensor, x: Tensor, frozen: bool = False) -> Tensor:
        """Values (count, B) of chunks x (B, T, A), or of anything of B rows, under conditions (B, C)."""
        return self.own(torch.cat([condition, x.flatten(1)], dim=1), frozen)[..., 0]

    def backup(self, condition: Tensor, x: Tensor) -> Tensor:
        """The target critics' cautious value (B,): the smallest of a few drawn ones."""
        chosen = torch.randperm(self.config.count)[: self.config.targets]
        values = self.target(torch.cat([condition, x.flatten(1)], dim=1), members=chosen)[..., 0]
        return values.min(0).values

    @torch.no_grad()
    def follow(self) -> None:
        """Move the targets a step; once an update."""
        _follow(self.target.parameters(), self.own.parameters(), self.config.follow)


@torch.no_grad()
def _follow(targets: Iterable[Tensor], sources: Iterable[Tensor], share: float) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.lerp_(source, share)


class Gaussian(nn.Module):
    """A squashed Gaussian over vectors: what an actor of soft actor-critic draws from (Haarnoja et al., 2018)."""

    def __init__(self, inputs: int, width: int, layers: int, outputs: int, start: float = 0.0) -> None:
        super().__init__()
        self.net = Ensemble(1, inputs, width, layers, 2 * outputs)
        self.outputs, self.start = outputs, start
        with torch.no_grad():
            self.net.weights[-1].mul_(0.01)

    def forward(self, inputs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B, D) in [-1, 1] from inputs (B, I) and standard normal noise (B, D), and their log densities (B,)."""
        mean, spread = self.net(inputs)[0].split(self.outputs, dim=-1)
        spread = (spread + self.start).clamp(-5.0, 1.0)
        raw = mean + spread.exp() * noise
        density = -0.5 * noise**2 - spread - 0.5 * math.log(2 * math.pi)
        squash = 2 * (math.log(2) - raw - F.softplus(-2 * raw))
        return torch.tanh(raw), (density - squash).sum(1)

    def middle(self, inputs: Tensor) -> Tensor:
        """The most likely value before squashing, squashed: (B, D)."""
        return torch.tanh(self.net(inputs)[0][..., : self.outputs])
