"""The convolutional denoiser of Diffusion Policy (Chi et al., 2023, arXiv 2303.04137): a U-Net along the chunk."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from policies.nn.transformer import sinusoid
from robot.core.errors import ConfigError


@dataclass
class Unet1dConfig:
    dims: list[int]
    """Channels of the levels; each level after the first has half the steps of the one before. Published: 256, 512, 1024 on
    states; 512, 1024, 2048 on images."""
    kernel: int
    """Steps that a convolution sees, odd. Published: 5."""
    groups: int
    """Groups of the group norms; must divide all dims. Published: 8."""
    step_embedding: int
    """Width of the embedded time, even. Published: 256 on states, 128 on images."""


class ConvBlock(nn.Sequential):
    """Convolution, group norm, Mish, of (N, channels, T); T stays."""

    def __init__(self, before: int, after: int, kernel: int, groups: int) -> None:
        super().__init__(nn.Conv1d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(groups, after), nn.Mish())


class ResidualBlock(nn.Module):
    """Two convolution blocks, between which what is known scales and shifts every channel (FiLM)."""

    def __init__(self, before: int, after: int, known: int, config: Unet1dConfig) -> None:
        super().__init__()
        self.first = ConvBlock(before, after, config.kernel, config.groups)
        self.film = nn.Sequential(nn.Mish(), nn.Linear(known, 2 * after))
        self.second = ConvBlock(after, after, config.kernel, config.groups)
        self.skip = nn.Conv1d(before, after, 1) if before != after else nn.Identity()

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """x (N, before, T), known (N, K) to (N, after, T)."""
        scale, bias = self.film(known)[:, :, None].chunk(2, dim=1)
        return self.second(scale * self.first(x) + bias) + self.skip(x)


class Unet1d(nn.Module):
    """Two residual blocks a level on the way down and on the way up, and two at the bottom."""

    def __init__(self, config: Unet1dConfig, horizon: int, action_size: int, condition_size: int) -> None:
        super().__init__()
        _check(config, horizon)
        dims, width = config.dims, config.step_embedding
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))

        def pair(before: int, after: int) -> nn.ModuleList:
            known = width + condition_size
            return nn.ModuleList([ResidualBlock(before, after, known, config), ResidualBlock(after, after, known, config)])

        self.down = nn.ModuleList(pair(a, b) for a, b in zip([action_size, *dims[:-1]], dims, strict=True))
        self.shrink = nn.ModuleList(nn.Conv1d(d, d, 3, stride=2, padding=1) for d in dims[:-1])
        self.middle = pair(dims[-1], dims[-1])
        self.up = nn.ModuleList(pair(2 * b, a) for a, b in reversed(list(pairwise(dims))))
        self.grow = nn.ModuleList(nn.ConvTranspose1d(d, d, 4, stride=2, padding=1) for d in reversed(dims[:-1]))
        self.last = nn.Sequential(ConvBlock(dims[0], dims[0], config.kernel, config.groups), nn.Conv1d(dims[0], action_size, 1))

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """x (N, T, A), t (N,) in [0, 1], condition (N, C) to (N, T, A)."""
        known = torch.cat([self.time(sinusoid(t, self.width)), condition], dim=1)
        h, skipped = x.transpose(1, 2), []
        for level, blocks in enumerate(self.down):
            h = _through(blocks, h, known)
            skipped.append(h)
            if level < len(self.shrink):
                h = self.shrink[level](h)
        h = _through(self.middle, h, known)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            h = grow(_through(blocks, torch.cat([h, skipped.pop()], dim=1), known))
        return self.last(h).transpose(1, 2)


def _through(blocks: nn.Module, h: Tensor, known: Tensor) -> Tensor:
    for block in blocks.children():
        h = block(h, known)
    return h


def _check(config: Unet1dConfig, horizon: int) -> None:
    if not config.dims or min(config.dims) < 1:
        raise ConfigError(f"policy.denoiser.dims={config.dims} must name the channels of at least one level, all positive")
    if config.groups < 1 or any(d % config.groups for d in config.dims):
        raise ConfigError(f"policy.denoiser.groups={config.groups} must divide all of policy.denoiser.dims={config.dims}")
    if config.kernel < 1 or config.kernel % 2 == 0:
        raise ConfigError(f"policy.denoiser.kernel={config.kernel} must be odd, so that a chunk keeps its length")
    if config.step_embedding < 4 or config.step_embedding % 2:
        raise ConfigError(f"policy.denoiser.step_embedding={config.step_embedding} must be even and at least 4")
    factor = 2 ** (len(config.dims) - 1)
    if horizon % factor:
        raise ConfigError(
            f"policy.chunk={horizon} must be a multiple of {factor}: the {len(config.dims)} levels of "
            f"policy.denoiser.dims={config.dims} halve it {len(config.dims) - 1} times"
        )
