"""A rolling map around the robot, built from depth and odometry inside the policy: its geometric memory.

The map is aligned with the axes of the odometry frame and moves with the robot by whole cells, so nothing blurs as it
turns. It has no parameters: what it makes of an observation can be stored and trained on as if it were an input.
Channels: solid at the robot's height, seen free, visited by the robot; all in [0, 1]. Views add the clearance that the
robot's body has to what is solid: a distance varies slowly, so a coarse grid still tells a door that fits from one that
does not.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from policies.nn.deproject import points_b
from robot.core.errors import ConfigError

SOLID, FREE, VISITED, CLEARANCE = range(4)
THRESHOLD = 0.3
"""What is solid for the clearance: half of what one hit leaves in a fresh cell."""


@dataclass
class LocalMapConfig:
    cells: int
    """Side of the rolling map in cells."""
    resolution: float
    """Edge of a cell [m]."""
    view_cells: int
    """Side of the robot-centred view given to the network, in cells."""
    view_resolution: float
    """Edge of a cell of the view, a multiple of the map's [m]."""
    near_cells: int
    """Side of a second view, of clearance alone at the map's resolution, in cells; 0 for none."""
    reach: float
    """Clearance is measured up to this distance from the body [m]."""
    hit: float
    """How far one hit pulls a cell towards solid, in (0, 1]."""
    clear: float
    """How far one free observation pulls a cell towards empty, in (0, 1]."""
    forget: float
    """Decay of the visited channel per control period."""


class LocalMap(nn.Module):
    """`update` folds one observation into the memory and renders robot-centred views of it."""

    channels = 4

    def __init__(self, config: LocalMapConfig, max_range: float) -> None:
        super().__init__()
        self.config = config
        self.max_range = max_range
        self.pool = round(config.view_resolution / config.resolution)
        if abs(self.pool * config.resolution - config.view_resolution) > 1e-6 or config.cells % (2 * self.pool):
            raise ConfigError(
                f"policy.map: view_resolution={config.view_resolution} must be a multiple of resolution={config.resolution}, "
                f"and cells={config.cells} of twice their ratio"
            )
        self.register_buffer("view", _square_grid(config.view_cells, config.view_resolution), persistent=False)
        self.register_buffer("near", _square_grid(config.near_cells, config.resolution), persistent=False)
        self.register_buffer("index", torch.arange(config.cells), persistent=False)

    def initial(self, batch: int) -> dict[str, Tensor]:
        n = self.config.cells
        return {"map": torch.zeros(batch, 3, n, n), "origin": torch.zeros(batch, 2)}

    def update(self, memory: dict[str, Tensor], observation: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Views and the next memory.

        Args:
            memory: map (B, 3, n, n), rows along x of odom; origin (B, 2), the cell of the odom frame in its middle.
            observation: depth (B, H, W), odometry (B, 3), robot (B, 11).

        Returns:
            `view` (B, 4, V, V), rows along x_b, columns along y_b; `near` (B, 1, N, N), its clearance channel in the map's
            resolution, where near_cells is not 0. Clearance is in units of `reach`, at most 1, negative where the body touches.
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
        return self._views(grid, odometry, origin, robot[:, 0]), {"map": grid, "origin": origin}

    def _views(self, grid: Tensor, odometry: Tensor, origin: Tensor, radius: Tensor) -> dict[str, Tensor]:
        config, k = self.config, self.pool
        pooled = torch.cat([F.max_pool2d(grid[:, :1], k), F.avg_pool2d(grid[:, 1:], k)], dim=1)
        view = self._render(pooled, self.view, odometry, origin)
        views = {"view": torch.cat([view, self._clearance(view[:, :1], radius, config.view_resolution)], dim=1)}
        if config.near_cells:
            near = self._render(grid[:, :1], self.near, odometry, origin)
            views["near"] = self._clearance(near, radius, config.resolution)
        return views

    def _clearance(self, solid: Tensor, radius: Tensor, resolution: float) -> Tensor:
        """Room (B, 1, V, V) between the body and the nearest solid cell, in units of `reach`."""
        reach = self.config.reach
        distance = distance_to(solid[:, 0] > THRESHOLD, math.ceil((reach + 0.4) / resolution)) * resolution
        return ((distance - radius[:, None, None]) / reach).clamp(max=1.0)[:, None]

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

    def _render(self, grid: Tensor, view: Tensor, odometry: Tensor, origin: Tensor) -> Tensor:
        """Bilinear values (B, C, V, V) of a grid that covers the map's square, at robot-centred points view (V, V, 2) [m]."""
        n = self.config.cells
        cosine, sine = odometry[:, 2].cos()[:, None, None], odometry[:, 2].sin()[:, None, None]
        x = cosine * view[..., 0] - sine * view[..., 1] + odometry[:, 0, None, None]
        y = sine * view[..., 0] + cosine * view[..., 1] + odometry[:, 1, None, None]
        low = self._centre(origin)
        row = (x / self.config.resolution - low[:, 0, None, None]) * (2.0 / n) - 1.0
        col = (y / self.config.resolution - low[:, 1, None, None]) * (2.0 / n) - 1.0
        return F.grid_sample(grid, torch.stack([col, row], dim=-1), mode="bilinear", padding_mode="zeros", align_corners=False)


def _square_grid(cells: int, resolution: float) -> Tensor:
    """Centres (cells, cells, 2) of a square of cells around the origin [m]."""
    side = (torch.arange(cells) - 0.5 * (cells - 1)) * resolution
    return torch.stack(torch.meshgrid(side, side, indexing="ij"), -1)


def distance_to(solid: Tensor, limit: int) -> Tensor:
    """Euclidean distance (B, H, W) from each cell to the nearest solid one, in cells, at most `limit`.

    Exact below the limit: a lower envelope of parabolas along each axis in turn, over a window of `limit` cells either way.
    """
    offsets = torch.arange(-limit, limit + 1, device=solid.device)
    most = float(limit * limit)
    squared = torch.where(solid, 0.0, most)
    for _ in range(2):
        window = torch.arange(squared.shape[1], device=solid.device)[None] + offsets[:, None] + limit
        padded = F.pad(squared, (0, 0, limit, limit), value=most)
        squared = (padded[:, window] + (offsets * offsets)[:, None, None]).amin(1).clamp(max=most).transpose(1, 2)
    return squared.sqrt()


def look_up(view: Tensor, points: Tensor, resolution: float) -> Tensor:
    """Bilinear values (B, n, T, C) of robot-centred views (B, C, V, V) at points (B, n, T, 2) [m]; the border extends."""
    half = 0.5 * (view.shape[-1] - 1) * resolution
    values = F.grid_sample(view, points.flip(-1) / half, mode="bilinear", padding_mode="border", align_corners=True)
    return values.permute(0, 2, 3, 1)
