"""Rooms from rectangles: what no room covers is wall, and openings are cut where two rooms are neighbours."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.navigation.scene import CELL
from sim.navigation.scenes import furniture as f
from sim.navigation.scenes.site import HARD, Pose, Rect, Site, snap

WALL = 0.1
"""Thickness of an inner wall [m]."""
DOOR_TOP = 2.04
"""Bottom of the lintel over a door [m]."""


class Opening(NamedTuple):
    """The wall shared by two rooms: a rectangle of wall; `upright` if it runs along y."""

    first: int
    second: int
    wall: Rect
    upright: bool

    @property
    def length(self) -> float:
        return self.wall.depth if self.upright else self.wall.width

    def part(self, start: float, length: float, reach: float = 0.0) -> Rect:
        """The stretch of the wall from `start`, widened by `reach` to both sides."""
        if self.upright:
            y0 = self.wall.y0 + start
            return Rect(self.wall.x0 - reach, y0, self.wall.x1 + reach, y0 + length)
        x0 = self.wall.x0 + start
        return Rect(x0, self.wall.y0 - reach, x0 + length, self.wall.y1 + reach)


def split(site: Site, rect: Rect, shortest: float, stop: float) -> list[Rect]:
    """Cut a rectangle in two along its longer side, again and again, into rooms no side of which is below `shortest`.

    Args:
        stop: area [m²] below which a room is left whole half of the time.
    """
    along_x = rect.width >= rect.depth
    length = rect.width if along_x else rect.depth
    if length < 2 * shortest + WALL or (rect.area < stop and site.dice.chance(0.5)):
        return [rect]
    cut = snap(site.dice.uniform(shortest, length - shortest - WALL))
    if along_x:
        parts = rect._replace(x1=rect.x0 + cut), rect._replace(x0=rect.x0 + cut + WALL)
    else:
        parts = rect._replace(y1=rect.y0 + cut), rect._replace(y0=rect.y0 + cut + WALL)
    return split(site, parts[0], shortest, stop) + split(site, parts[1], shortest, stop)


def row(site: Site, rect: Rect, shortest: float, longest: float, along_x: bool) -> list[Rect]:
    """Rooms side by side along one axis, each between two lengths [m]."""
    rooms: list[Rect] = []
    start, end = (rect.x0, rect.x1) if along_x else (rect.y0, rect.y1)
    while end - start > 1e-6:
        length = snap(site.dice.uniform(shortest, longest))
        if end - start - length < shortest + WALL:
            length = end - start if end - start < 1.6 * longest else snap(0.5 * (end - start))
        stop = min(start + length, end)
        rooms.append(rect._replace(x0=start, x1=stop) if along_x else rect._replace(y0=start, y1=stop))
        start = stop + WALL
    return rooms


def walls(site: Site, rooms: list[Rect]) -> None:
    """Fill with wall whatever no room covers."""
    mask = np.ones(site.map.shape, np.bool_)
    for room in rooms:
        mask[site.cells(room)] = False
    site.map[mask] |= HARD
    site.walls = mask


def raise_walls(site: Site) -> None:
    """Draw the walls as they are after all openings were cut."""
    site.canvas.fill(site.walls, 0.0, site.top, f.WALL)


def neighbours(rooms: list[Rect], shortest: float = 1.3) -> list[Opening]:
    """Pairs of rooms that share at least `shortest` metres of wall."""
    found = []
    for i, a in enumerate(rooms):
        for j, b in enumerate(rooms):
            if abs(b.x0 - a.x1 - WALL) < 0.01:
                wall = Rect(a.x1, max(a.y0, b.y0), b.x0, min(a.y1, b.y1))
                if wall.depth >= shortest:
                    found.append(Opening(i, j, wall, True))
            if abs(b.y0 - a.y1 - WALL) < 0.01:
                wall = Rect(max(a.x0, b.x0), a.y1, min(a.x1, b.x1), b.y0)
                if wall.width >= shortest:
                    found.append(Opening(i, j, wall, False))
    return found


def connect(site: Site, rooms: list[Rect], loops: float, wide: float, avoid: frozenset[tuple[int, int]] = frozenset()) -> None:
    """Cut doors so that every room can be reached, then a fraction `loops` of the remaining shared walls.

    Args:
        wide: probability that an opening is a wide passage instead of a door.
        avoid: pairs of rooms (first < second) that are open to each other already.
    """
    group = list(range(len(rooms)))
    for first, second in avoid:
        _join(group, first, second)
    for opening in site.dice.shuffled(neighbours(rooms)):
        pair = (min(opening.first, opening.second), max(opening.first, opening.second))
        if pair in avoid:
            continue
        apart = group[opening.first] != group[opening.second]
        if apart or site.dice.chance(loops):
            _join(group, opening.first, opening.second)
            if site.dice.chance(wide) and opening.length > 2.0:
                passage(site, opening, snap(site.dice.uniform(1.4, min(opening.length - 0.3, 3.0))))
            else:
                door(site, opening)


def door(site: Site, opening: Opening) -> None:
    """A doorway with lintel and casing, now and then with its leaf standing open."""
    dice = site.dice
    width = 0.85 if dice.chance(0.1) else snap(dice.uniform(0.9, 1.1))
    at = snap(dice.uniform(0.1, opening.length - width - 0.1))
    hole = opening.part(at, width)
    cut(site, hole)
    site.canvas.box(*hole, DOOR_TOP, site.top, f.WALL)
    site.canvas.box(*opening.part(at - CELL, width + 2 * CELL, CELL), DOOR_TOP, DOOR_TOP + 0.08, f.WOOD)
    for edge in (at - CELL, at + width):
        site.canvas.box(*opening.part(edge, CELL, CELL), 0.0, DOOR_TOP, f.WOOD)
    site.reserve(opening.part(at - CELL, width + 2 * CELL, 0.9))
    if dice.chance(0.35):
        _leaf(site, opening, at, width)


def passage(site: Site, opening: Opening, width: float) -> None:
    """A wide opening under a beam."""
    at = snap(site.dice.uniform(0.0, opening.length - width))
    hole = opening.part(at, width)
    cut(site, hole)
    site.canvas.box(*hole, 2.2, site.top, f.WALL)
    site.reserve(opening.part(at, width, 0.6))


def cut(site: Site, hole: Rect) -> None:
    """Remove wall."""
    cells = site.cells(hole)
    site.walls[cells] = False
    site.map[cells] &= 255 - HARD


def triangle(shape: tuple[int, int], right: bool, upper: bool) -> NDArray[np.bool_]:
    """Half of a rectangle of cells: what lies beyond the diagonal towards one corner."""
    rows, columns = np.arange(shape[0])[:, None] + 0.5, np.arange(shape[1])[None] + 0.5
    v = (shape[0] - rows if upper else rows) / shape[0]
    u = (shape[1] - columns if right else columns) / shape[1]
    return u + v <= 1.0


def _leaf(site: Site, opening: Opening, at: float, width: float) -> None:
    """An open door leaf: hinged at one edge of the doorway, turned by 90 to 140 degrees."""
    side, end = site.dice.choice((-1.0, 1.0)), site.dice.choice((-1.0, 1.0))
    beyond = site.dice.uniform(0.0, math.radians(50.0))
    length = width - 0.05
    along = (at - 0.05 if end < 0 else at + width + 0.05) + end * math.sin(beyond) * 0.5 * length
    across = 0.5 * WALL + 0.05 + math.cos(beyond) * 0.5 * length
    x, y = opening.wall.x0 + 0.5 * WALL + side * across, opening.wall.y0 + along
    dx, dy = side * math.cos(beyond), end * math.sin(beyond)
    if not opening.upright:
        x, y = opening.wall.x0 + along, opening.wall.y0 + 0.5 * WALL + side * across
        dx, dy = dy, dx
    pose = Pose(x, y, dx, dy)
    if site.free(pose, (length - 0.1, 0.05), HARD):
        site.part(pose, (0.0, 0.0), (length, 0.05), (0.02, DOOR_TOP - 0.04), f.WHITE)
        site.take(pose, (length, 0.1))


def _join(group: list[int], first: int, second: int) -> None:
    old, new = group[second], group[first]
    for i, label in enumerate(group):
        if label == old:
            group[i] = new
