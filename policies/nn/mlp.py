"""The small denoiser: residual layers over the flattened chunk."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.nn.transformer import sinusoid


@dataclass
class ResidualMlpConfig:
    width: int
    """Of every layer."""
    blocks: int
    """Residual blocks of two layers."""


class ResidualMlp(nn.Module):
    """Chunk, time and condition in, chunk out; a hundredth of the cost of a convolutional network of the same skill."""

    TIMES = 64
    """Width of the embedded time."""

    def __init__(self, config: ResidualMlpConfig, horizon: int, action_size: int, condition_size: int) -> None:
        super().__init__()
        width = config.width
        self.first = nn.Linear(horizon * action_size + condition_size + self.TIMES, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
            for _ in range(config.blocks)
        )
        self.last = nn.Linear(width, horizon * action_size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x (N, T, A), t (N,) in [0, 1], condition (N, C) to (N, T, A)."""
        h = self.first(torch.cat([x.flatten(1), condition, sinusoid(t, self.TIMES)], dim=1))
        for block in self.blocks:
            h = h + block(h)
        return self.last(F.silu(h)).unflatten(1, x.shape[1:])
