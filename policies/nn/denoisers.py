"""Networks that denoise a chunk: forward(x (N, T, A), t (N,) in [0, 1], condition (N, C)) gives (N, T, A).

Each is built as Net(config, horizon, action_size, condition_size) and chosen by the `_target_` of policy.denoiser:
ResidualMlp for a CPU, Unet1d and ChunkTransformer as Diffusion Policy published them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from policies.nn.mlp import ResidualMlp, ResidualMlpConfig
from policies.nn.transformer import Decoder, sinusoid
from policies.nn.unet1d import Unet1d, Unet1dConfig
from robot.core.errors import ConfigError

__all__ = ["ChunkTransformer", "ChunkTransformerConfig", "ResidualMlp", "ResidualMlpConfig", "Unet1d", "Unet1dConfig"]


@dataclass
class ChunkTransformerConfig:
    layers: int
    """Decoder layers. Published: 8."""
    heads: int
    """Attention heads; must divide the width. Published: 4."""
    width: int
    """Width of all tokens; feed-forward parts are four times as wide. Published: 256."""
    causal: bool
    """Each step of the chunk sees only itself and the steps before it, as published."""
    dropout: float
    """Dropout in training, of what each layer adds. Published: 0.01 on states, 0.3 on images."""
    frames: int
    """Memory tokens that the condition is cut into, one a frame of the policy's history."""


class ChunkTransformer(nn.Module):
    """A decoder over the steps of the chunk; its memory is the time and the frames of the condition.

    Unlike the published one, every step sees all frames: there, step k of a causal chunk sees only frames 0 to k.
    """

    def __init__(self, config: ChunkTransformerConfig, horizon: int, action_size: int, condition_size: int) -> None:
        super().__init__()
        _check(config, condition_size)
        self.config, width = config, config.width
        self.embed = nn.Linear(action_size, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, horizon, width))
        self.frame = nn.Linear(condition_size // config.frames, width)
        self.frame_position = nn.Parameter(0.02 * torch.randn(1, 1 + config.frames, width))
        self.memory = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.decoder = Decoder(width, config.heads, config.layers, 4 * width, config.dropout)
        self.last = nn.Linear(width, action_size)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x (N, T, A), t (N,) in [0, 1], condition (N, C) to (N, T, A)."""
        frames = self.frame(condition.unflatten(1, (self.config.frames, -1)))
        tokens = torch.cat([sinusoid(t, self.config.width)[:, None], frames], dim=1)
        memory = self.decoder.remember(self.memory(tokens + self.frame_position))
        h = (self.embed(x) + self.position)[:, None]
        return self.last(self.decoder(h, memory, causal=self.config.causal)[:, 0])


def _check(config: ChunkTransformerConfig, condition_size: int) -> None:
    if config.heads < 1 or config.width < 4 or config.width % config.heads or config.width % 2:
        raise ConfigError(
            f"policy.denoiser.width={config.width} must be even, at least 4, "
            f"and a multiple of policy.denoiser.heads={config.heads}"
        )
    if config.frames < 1 or condition_size % config.frames:
        raise ConfigError(
            f"policy.denoiser.frames={config.frames} must divide the condition of {condition_size} values, as policy.history does"
        )
