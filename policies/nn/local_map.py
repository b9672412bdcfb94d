"""A rolling map around the robot, built from depth and odometry inside the policy: its geometric memory.

The map is aligned with the axes of the odometry frame and moves with the robot by whole cells, so nothing blurs as it
turns. It has no parameters: what it makes of an observation can be stored and trained on as if it were an input.
Channels: solid at the robot's height, seen free, visited by the robot; all in [0, 1].
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.nn.deproject import points_b

SOLID, FREE, VISITED = range(3)


@dataclass
class LocalMapConfig:
    cells: int
    """Side of the rolling map in cells."""
    resolution: float
    """Edge of a cell [m]."""
    view_cells: int
    """Side of the robot-centred view given to the network, in cells."""
    view_resolution: float
    """Edge of a cell of the view [m]."""
    hit: float
    """How far one hit pulls a cell towards solid, in (0, 1]."""
    clear: float
    """How far one free observation pulls a cell towards empty, in (0, 1]."""
    forget: float
    """Decay of the visited channel per control period."""


class LocalMap(nn.Module):
    """`update` folds one observation into the memory and renders the robot-centred view of it."""

    def __init__(self, config: LocalMapConfig, max_range: float) -> None:
        super().__init__()
        self.config = config
        self.max_range = max_range
        side = (torch.arange(config.view_cells) - 0.5 * (config.view_cells - 1)) * config.view_resolution
        self.register_buffer("view", torch.stack(torch.meshgrid(side, side, indexing="ij"), -1), persistent=False)
        self.register_buffer("index", torch.arange(config.cells), persistent=False)

    def initial(self, batch: int) -> dict[str, Tensor]:
        n = self.config.cells
        return {"map": torch.zeros(batch, 3, n, n), "origin": torch.zeros(batch, 2)}

    def update(self, memory: dict[str, Tensor], observation: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """View (B, 3, V, V), rows along x_b, columns along y_b, and the next memory.

        Args:
            memory: map (B, 3, n, n), rows along x of odom; origin (B, 2), the cell of the odom frame in its middle.
            observation: depth (B, H, W), odometry (B, 3), robot (B, 11).
        """
        config, odometry, robot = self.config, observation["odometry"], observation["robot"]
        origin = torch.floor(odometry[:, :2] / config.resolution)
        grid = self._roll(memory["map"], (origin - memory["origin"]).long())
        x_b, z, seen = self._points(observation["depth"], robot)
        band = seen & (z > 0.08) & (z < robot[:, 1, None, None] + 0.02)
        cosine, sine = odometry[:, 2].cos()[:, None, None], odometry[:, 2].sin()[:, None, None]
        x_o = cosine * x_b[..., 0] - sine * x_b[..., 1] + odometry[:, 0, None, None]
        y_o = sine * x_b[..., 0] + cosine * x_b[..., 1] + odometry[:, 1, None, None]
        hit = self._hits(x_o, y_o, band, origin)
        free = self._free(x_b, band, seen, odometry, robot, origin)
        solid = torch.where(hit, grid[:, SOLID] + config.hit * (1 - grid[:, SOLID]), grid[:, SOLID])
        solid = torch.where(free & ~hit, solid * (1 - config.clear), solid)
        known = torch.maximum(grid[:, FREE], (free & ~hit).float())
        visited = torch.maximum(grid[:, VISITED] * config.forget, self._under(odometry, robot, origin).float())
        grid = torch.stack([solid, known, visited], dim=1)
        return self._render(grid, odometry, origin), {"map": grid, "origin": origin}

    def _points(self, depth: Tensor, robot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points, valid = points_b(depth, robot)
        return points[..., :2], points[..., 2], valid

    def _roll(self, grid: Tensor, shift: Tensor) -> Tensor:
        """Move the map's content by whole cells, -shift (B, 2); what enters is unknown."""
        n = self.config.cells
        rows, cols = self.index[None] + shift[:, :1], self.index[None] + shift[:, 1:]
        inside = ((rows >= 0) & (rows < n))[:, :, None] & ((cols >= 0) & (cols < n))[:, None, :]
        flat = rows.clamp(0, n - 1)[:, :, None] * n + cols.clamp(0, n - 1)[:, None, :]
        flat = flat.reshape(-1, 1, n * n).expand(-1, 3, -1)
        return torch.gather(grid.flatten(2), 2, flat).reshape(grid.shape) * inside[:, None].float()

    def _centre(self, origin: Tensor) -> Tensor:
        return origin - self.config.cells // 2

    def _hits(self, x: Tensor, y: Tensor, band: Tensor, origin: Tensor) -> Tensor:
        n, low = self.config.cells, self._centre(origin)
        row = torch.floor(x / self.config.resolution) - low[:, 0, None, None]
        col = torch.floor(y / self.config.resolution) - low[:, 1, None, None]
        inside = band & (row >= 0) & (row < n) & (col >= 0) & (col < n)
        flat = (row.clamp(0, n - 1) * n + col.clamp(0, n - 1)).long().flatten(1)
        count = torch.zeros(x.shape[0], n * n, dtype=x.dtype, device=x.device).scatter_add(1, flat, inside.to(x.dtype).flatten(1))
        return (count >= 1).reshape(-1, n, n)

    def _cells(self, origin: Tensor) -> Tensor:
        """Centres (B, n, n, 2) of the map's cells in the odom frame."""
        low = self._centre(origin)
        rows = (self.index[None] + low[:, :1] + 0.5) * self.config.resolution
        cols = (self.index[None] + low[:, 1:] + 0.5) * self.config.resolution
        n = self.config.cells
        return torch.stack([rows[:, :, None].expand(-1, n, n), cols[:, None, :].expand(-1, n, n)], dim=-1)

    def _free(self, x_b: Tensor, band: Tensor, seen: Tensor, odometry: Tensor, robot: Tensor, origin: Tensor) -> Tensor:
        """Cells between the camera and the nearest solid (or, with none, the farthest floor) in their direction."""
        batch, bins = x_b.shape[0], x_b.shape[2]
        slope = 1.2 * torch.tan(0.5 * robot[:, 4])[:, None, None]
        index = self._bin(x_b[..., 0], x_b[..., 1], slope, bins).flatten(1)
        distance = x_b.norm(dim=-1)
        start = torch.zeros(batch, bins, dtype=distance.dtype, device=distance.device)
        nearest = (start + 1e3).scatter_reduce(1, index, torch.where(band, distance, 1e3).flatten(1), "amin")
        farthest = start.scatter_reduce(1, index, torch.where(seen, distance, 0.0).flatten(1), "amax")
        limit = torch.where(nearest < 1e2, nearest - self.config.resolution, farthest)
        offset = self._cells(origin) - odometry[:, None, None, :2]
        cosine, sine = odometry[:, 2].cos()[:, None, None], odometry[:, 2].sin()[:, None, None]
        x = cosine * offset[..., 0] + sine * offset[..., 1]
        y = -sine * offset[..., 0] + cosine * offset[..., 1]
        ahead = (x > 0.05) & (y.abs() < slope * x)
        reach = torch.gather(limit, 1, self._bin(x, y, slope, bins).flatten(1)).reshape(x.shape)
        return ahead & (torch.sqrt(x * x + y * y) < reach)

    @staticmethod
    def _bin(x: Tensor, y: Tensor, slope: Tensor, bins: int) -> Tensor:
        """Which of `bins` equal steps of y / x in (-slope, slope) a direction falls into, clamped."""
        ratio = y / x.clamp(min=1e-3)
        return torch.floor((1 - ratio / slope) * 0.5 * bins).clamp(0, bins - 1).long()

    def _under(self, odometry: Tensor, robot: Tensor, origin: Tensor) -> Tensor:
        offset = self._cells(origin) - odometry[:, None, None, :2]
        return (offset * offset).sum(-1) < (robot[:, 0] ** 2)[:, None, None]

    def _render(self, grid: Tensor, odometry: Tensor, origin: Tensor) -> Tensor:
        n = self.config.cells
        cosine, sine = odometry[:, 2].cos()[:, None, None], odometry[:, 2].sin()[:, None, None]
        x = cosine * self.view[..., 0] - sine * self.view[..., 1] + odometry[:, 0, None, None]
        y = sine * self.view[..., 0] + cosine * self.view[..., 1] + odometry[:, 1, None, None]
        low = self._centre(origin)
        row = (x / self.config.resolution - low[:, 0, None, None]) * (2.0 / n) - 1.0
        col = (y / self.config.resolution - low[:, 1, None, None]) * (2.0 / n) - 1.0
        return F.grid_sample(grid, torch.stack([col, row], dim=-1), mode="bilinear", padding_mode="zeros", align_corners=False)
