"""Images to tokens."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from policies.nn.transformer import EncoderLayer


class ConvTokens(nn.Module):
    """A small convolutional encoder: stride-2 stages and a residual block, then one token a cell with a learned position.

    Args:
        channels: of the input.
        size: input rows and columns.
        widths: channels after each stride-2 stage; the last is the token width.
    """

    def __init__(self, channels: int, size: tuple[int, int], widths: tuple[int, ...]) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        rows, cols = size
        for k, width in enumerate(widths):
            kernel = 5 if k == 0 else 3
            stages += [nn.Conv2d(channels, width, kernel, 2, kernel // 2), nn.GroupNorm(8, width), nn.SiLU()]
            channels, rows, cols = width, (rows + 1) // 2, (cols + 1) // 2
        self.stages = nn.Sequential(*stages)
        self.residual = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1), nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, 1, 1)
        )
        self.position = nn.Parameter(0.02 * torch.randn(1, rows * cols, channels))
        self.tokens = rows * cols

    def forward(self, image: Tensor) -> Tensor:
        """Tokens (B, N, width) of image (B, C, H, W)."""
        y = self.stages(image)
        y = y + self.residual(y)
        return y.flatten(2).transpose(1, 2) + self.position


class ViT(nn.Module):
    """A vision transformer with DINOv2's layout (class token, layer scale); ViT-S/14 is width 384, 12 layers, 6 heads.

    `forward` gives patch tokens (B, (size / patch)^2, width) of square images (B, C, size, size). Positions are learned for a
    37 x 37 grid, DINOv2's, and resampled to the image's grid.
    """

    def __init__(self, channels: int, size: int, width: int = 384, layers: int = 12, heads: int = 6, patch: int = 14) -> None:
        super().__init__()
        self.grid = size // patch
        self.patch = nn.Conv2d(channels, width, patch, patch)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, 37 * 37 + 1, width))
        self.layers = nn.ModuleList(EncoderLayer(width, heads, 4 * width, scale=True) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.tokens = self.grid**2

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        grid = self.position[:, 1:].transpose(1, 2).unflatten(2, (37, 37))
        grid = nn.functional.interpolate(grid, size=(self.grid, self.grid), mode="bilinear", align_corners=False)
        first = (self.token + self.position[:, :1]).expand(x.shape[0], -1, -1)
        x = torch.cat([first, x + grid.flatten(2).transpose(1, 2)], dim=1)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)[:, 1:]


def square(image: Tensor, size: int) -> Tensor:
    """Images (B, C, H, W) padded with zeros to a square and resized, aspect kept."""
    height, width = image.shape[-2:]
    side = max(height, width)
    pad = (side - width) // 2, side - width - (side - width) // 2, (side - height) // 2, side - height - (side - height) // 2
    return F.interpolate(F.pad(image, pad), size=(size, size), mode="bilinear", align_corners=False)
