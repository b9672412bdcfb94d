"""Transformer parts whose memory is computed once and shared by all candidates of a world."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoid(t: Tensor, width: int) -> Tensor:
    """Sinusoidal features (N, width) of times t (N,) in [0, 1]."""
    frequency = torch.exp(torch.arange(width // 2, device=t.device) * (-math.log(10000.0) / (width // 2 - 1)))
    angle = 1000.0 * t[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout))


class Attention(nn.Module):
    """Multi-head attention whose keys and values can be computed ahead (`project`) and reused."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, M, width / heads) of memory (B, M, width)."""
        key, value = self.key_value(memory).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def attend(self, x: Tensor, key: Tensor, value: Tensor, causal: bool = False, mask: Tensor | None = None) -> Tensor:
        """x (B, Q, width) attends; mask (B, 1, 1, M) is added to the logits."""
        y = F.scaled_dot_product_attention(self._split(self.query(x)), key, value, attn_mask=mask, is_causal=causal)
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, memory: Tensor | None = None, causal: bool = False) -> Tensor:
        key, value = self.project(x if memory is None else memory)
        return self.attend(x, key, value, causal)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward; `scale` adds DINOv2's learned layer scale."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float = 0.0, scale: bool = False) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.mlp = nn.LayerNorm(width), feed_forward(width, hidden, dropout)
        self.scale1 = nn.Parameter(torch.ones(width)) if scale else None
        self.scale2 = nn.Parameter(torch.ones(width)) if scale else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.attention(self.norm1(x))
        x = x + (y if self.scale1 is None else self.scale1 * y)
        y = self.mlp(self.norm2(x))
        return x + (y if self.scale2 is None else self.scale2 * y)


class DecoderLayer(nn.Module):
    """Pre-norm decoder layer: self-attention within a candidate, cross-attention of all candidates to one shared memory."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.self_attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.cross_attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm3, self.mlp = nn.LayerNorm(width), feed_forward(width, hidden, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, key: Tensor, value: Tensor, causal: bool, mask: Tensor | None) -> Tensor:
        """x (B, n, T, width) with keys and values of the memory (B, heads, M, width / heads)."""
        batch, n, length, width = x.shape
        y = self.norm1(x).reshape(batch * n, length, width)
        x = x + self.dropout(self.self_attention(y, causal=causal)).reshape(batch, n, length, width)
        y = self.norm2(x).reshape(batch, n * length, width)
        x = x + self.dropout(self.cross_attention.attend(y, key, value, mask=mask)).reshape(batch, n, length, width)
        return x + self.mlp(self.norm3(x))


class Decoder(nn.Module):
    """A stack of decoder layers; `remember` projects a memory once, for any number of passes over it."""

    def __init__(self, width: int, heads: int, layers: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, hidden, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def remember(self, memory: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of memory (B, M, width), a pair a layer."""
        return [layer.cross_attention.project(memory) for layer in self.layers]

    def forward(
        self,
        x: Tensor,
        remembered: list[tuple[Tensor, Tensor]],
        first: Tensor | None = None,
        causal: bool = False,
        mask: Tensor | None = None,
    ) -> Tensor:
        """x (B, n, T, width); `first` (B, width) is one more memory token, in front, that changes from pass to pass."""
        for layer, (key, value) in zip(self.layers, remembered, strict=True):
            if first is not None:
                key1, value1 = layer.cross_attention.project(first[:, None])
                key, value = torch.cat([key1, key], dim=2), torch.cat([value1, value], dim=2)
            x = layer(x, key, value, causal, mask)
        return self.norm(x)
