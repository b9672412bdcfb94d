"""The ground a scene is built on: the canvas plus a map of what is taken, so that things keep passages free.

Every free-standing thing keeps `gap` metres to its neighbours; a thing with its back to a wall keeps them in front.
Door approaches and lanes are reserved: nothing may stand on them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.navigation.scene import CELL
from sim.navigation.scenes.canvas import Z_TOP, Canvas
from sim.navigation.scenes.dice import Dice

HARD, KEEP, EDGE = 1, 2, 4
"""Bits of the map: something stands there; nothing may stand there; an outer or fixed wall stands there."""
PASSAGE = 0.95
"""Free width that things leave between each other [m]: the widest robot (0.7 m) plus 12 cm on each side, rounded to cells."""
_QUARTERS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))


class Rect(NamedTuple):
    """Axis-aligned rectangle [m]."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def width(self) -> float:
        return self.x1 - self.x0

    @property
    def depth(self) -> float:
        return self.y1 - self.y0

    @property
    def area(self) -> float:
        return self.width * self.depth

    def shrunk(self, margin: float) -> "Rect":
        return Rect(self.x0 + margin, self.y0 + margin, self.x1 - margin, self.y1 - margin)


class Pose(NamedTuple):
    """Where a thing stands: centre [m] and direction; its own +y is its front, -y its back."""

    x: float
    y: float
    c: float
    s: float


class Item(NamedTuple):
    """Something that can be placed: `draw(site, pose, width, depth)` and the ranges of its footprint [m]."""

    draw: Callable[["Site", Pose, float, float], None]
    width: tuple[float, float]
    depth: tuple[float, float]


def snap(value: float) -> float:
    """The nearest cell edge [m]."""
    return round(value / CELL) * CELL


class Site:
    """One scene under construction."""

    def __init__(self, dice: Dice, width: float, depth: float, ceiling: float) -> None:
        self.dice = dice
        self.ceiling = ceiling
        self.top = min(ceiling, Z_TOP)
        self.bounds = Rect(0.0, 0.0, snap(width), snap(depth))
        shape = (round(depth / CELL), round(width / CELL))
        self.canvas = Canvas(*shape)
        self.map: NDArray[np.uint8] = np.zeros(shape, np.uint8)
        self.walls: NDArray[np.bool_] = np.zeros(shape, np.bool_)

    def cells(self, rect: Rect) -> tuple[slice, slice]:
        """Row and column slices of a rectangle."""
        x0, y0, x1, y1 = (max(round(value / CELL), 0) for value in rect)
        return slice(y0, y1), slice(x0, x1)

    def enclose(self, thickness: float, top: float, colour: int) -> Rect:
        """Wall all round; returns the rectangle inside."""
        width, depth = self.bounds.x1, self.bounds.y1
        for rect in (
            Rect(0.0, 0.0, width, thickness),
            Rect(0.0, depth - thickness, width, depth),
            Rect(0.0, 0.0, thickness, depth),
            Rect(width - thickness, 0.0, width, depth),
        ):
            self.block(rect, 0.0, top, colour)
        return self.bounds.shrunk(thickness)

    def block(self, rect: Rect, z0: float, z1: float, colour: int) -> None:
        """Draw an axis-aligned wall."""
        self.canvas.box(*rect, z0, z1, colour)
        self.map[self.cells(rect)] |= HARD | EDGE

    def reserve(self, rect: Rect) -> None:
        """Nothing may stand on this rectangle."""
        self.map[self.cells(rect)] |= KEEP

    def free(self, pose: Pose, size: tuple[float, float], bits: int = HARD | KEEP) -> bool:
        """Whether no cell of an oriented rectangle of `size` (its own x, y) has any of `bits`; outside counts as taken."""
        return _clear(self.map, pose.x, pose.y, 0.5 * size[0], 0.5 * size[1], pose.c, pose.s, bits)

    def take(self, pose: Pose, size: tuple[float, float], bits: int = HARD) -> None:
        _mark(self.map, pose.x, pose.y, 0.5 * size[0], 0.5 * size[1], pose.c, pose.s, bits)

    def part(self, pose: Pose, at: tuple[float, float], size: tuple[float, float], z: tuple[float, float], colour: int) -> None:
        """A box in a thing's own frame: centre `at`, `size`, heights `z` [m]."""
        x = pose.x + pose.c * at[0] - pose.s * at[1]
        y = pose.y + pose.s * at[0] + pose.c * at[1]
        self.canvas.turned(x, y, size, (pose.c, pose.s), z, colour)

    def against(self, room: Rect, item: Item, tries: int = 6, passage: float = PASSAGE, sides: str = "swne") -> Pose | None:
        """Stand an item with its back to one of the room's sides; None where there is no place."""
        for _ in range(tries):
            width, depth = self._footprint(item)
            pose = self._wall_pose(room, self.dice.choice(sides), width, depth)
            if pose is not None and self.stand(pose, item, width, depth, passage):
                return pose
        return None

    def stand(self, pose: Pose, item: Item, width: float, depth: float, passage: float = PASSAGE) -> bool:
        """Draw an item whose back touches something, if its footprint and the passage before it are free."""
        front = _ahead(pose, 0.5 * (depth + passage))
        if not self.free(pose, (width - CELL, depth - CELL)) or not self.free(front, (width - CELL, passage), HARD):
            return False
        self._draw(pose, item, width, depth)
        return True

    def scatter(
        self, room: Rect, item: Item, tries: int = 6, gap: float = PASSAGE, turn: bool = False, yaw: float | None = None
    ) -> Pose | None:
        """Stand an item anywhere in the room with `gap` metres free all round; at any angle if `turn`."""
        for _ in range(tries):
            width, depth = self._footprint(item)
            x, y = self.dice.uniform(room.x0, room.x1), self.dice.uniform(room.y0, room.y1)
            angle = self.dice.uniform(0.0, 2.0 * math.pi) if turn else yaw
            c, s = self.dice.choice(_QUARTERS) if angle is None else (math.cos(angle), math.sin(angle))
            pose = Pose(snap(x), snap(y), c, s) if angle is None else Pose(x, y, c, s)
            if self.free(pose, (width, depth)) and self.free(pose, (width + 2 * gap, depth + 2 * gap), HARD):
                self._draw(pose, item, width, depth)
                return pose
        return None

    def _footprint(self, item: Item) -> tuple[float, float]:
        return snap(self.dice.uniform(*item.width)), snap(self.dice.uniform(*item.depth))

    def _draw(self, pose: Pose, item: Item, width: float, depth: float) -> None:
        item.draw(self, pose, width, depth)
        self.take(pose, (width, depth))

    def _wall_pose(self, room: Rect, side: str, width: float, depth: float) -> Pose | None:
        length, across = (room.width, room.depth) if side in "sn" else (room.depth, room.width)
        if length < width or across < depth + PASSAGE:
            return None
        along = 0.5 * width if self.dice.chance(0.3) else self.dice.uniform(0.5 * width, length - 0.5 * width)
        along, inset = snap(along - 0.5 * width) + 0.5 * width, 0.5 * depth
        if side == "s":
            return Pose(room.x0 + along, room.y0 + inset, 1.0, 0.0)
        if side == "n":
            return Pose(room.x0 + along, room.y1 - inset, -1.0, 0.0)
        if side == "w":
            return Pose(room.x0 + inset, room.y0 + along, 0.0, -1.0)
        return Pose(room.x1 - inset, room.y0 + along, 0.0, 1.0)


def _ahead(pose: Pose, distance: float) -> Pose:
    return Pose(pose.x - pose.s * distance, pose.y + pose.c * distance, pose.c, pose.s)


@njit(cache=True, nogil=True)
def _clear(grid, x, y, hx, hy, c, s, bits):
    ex, ey = abs(hx * c) + abs(hy * s), abs(hx * s) + abs(hy * c)
    ix0, ix1 = math.floor((x - ex) / CELL + 1e-6), math.ceil((x + ex) / CELL - 1e-6)
    iy0, iy1 = math.floor((y - ey) / CELL + 1e-6), math.ceil((y + ey) / CELL - 1e-6)
    if ix0 < 0 or iy0 < 0 or ix1 > grid.shape[1] or iy1 > grid.shape[0]:
        return False
    for iy in range(iy0, iy1):
        dy = (iy + 0.5) * CELL - y
        for ix in range(ix0, ix1):
            dx = (ix + 0.5) * CELL - x
            if grid[iy, ix] & bits and abs(c * dx + s * dy) <= hx and abs(c * dy - s * dx) <= hy:
                return False
    return True


@njit(cache=True, nogil=True)
def _mark(grid, x, y, hx, hy, c, s, bits):
    ex, ey = abs(hx * c) + abs(hy * s), abs(hx * s) + abs(hy * c)
    for iy in range(max(int((y - ey) / CELL), 0), min(math.ceil((y + ey) / CELL), grid.shape[0])):
        dy = (iy + 0.5) * CELL - y
        for ix in range(max(int((x - ex) / CELL), 0), min(math.ceil((x + ex) / CELL), grid.shape[1])):
            dx = (ix + 0.5) * CELL - x
            if abs(c * dx + s * dy) <= hx and abs(c * dy - s * dx) <= hy:
                grid[iy, ix] |= bits
