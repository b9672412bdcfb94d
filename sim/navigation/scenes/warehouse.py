"""Warehouses. Train: parallel racks with cross aisles, along x or y. Test: slanted racks, or racks on concentric arcs."""

import math

from sim.navigation.scenes import furniture as f
from sim.navigation.scenes.dice import Dice
from sim.navigation.scenes.site import EDGE, HARD, Item, Pose, Rect, Site, snap

POST = 0.1
"""Thickness of a rack's uprights [m]."""


def train(dice: Dice) -> Site:
    site, inside = _shell(dice)
    along_x = dice.chance(0.5)
    length, span = (inside.width, inside.depth) if along_x else (inside.depth, inside.width)
    across = snap(dice.uniform(0.0, 1.0))
    while across < span - 0.9:
        deep, aisle = snap(dice.uniform(0.7, 1.1)), snap(dice.uniform(1.2, 2.2))
        if across + deep > span - 1e-6:
            break
        along = dice.choice((0.0, snap(dice.uniform(1.1, 1.8))))
        while along < length - 1.2:
            run = min(snap(dice.uniform(1.8, 5.0)), length - along)
            if run < length - along and length - along - run < 1.1:
                run = length - along - 1.2
            if run > 1.0 and dice.chance(0.9):
                u, v = along + 0.5 * run, across + 0.5 * deep
                pose = Pose(inside.x0 + u, inside.y0 + v, 1.0, 0.0) if along_x else Pose(inside.x0 + v, inside.y0 + u, 0.0, 1.0)
                if site.free(pose, (run - 0.1, deep)):
                    _rack(site, pose, run, deep)
            along += run + snap(dice.uniform(1.15, 2.0))
        across += deep + aisle
    _goods(site, inside, (PALLET, PALLET, f.DRUM, TROLLEY))
    return site


def test(dice: Dice) -> Site:
    site, inside = _shell(dice)
    if dice.chance(0.5):
        _slanted(site, inside)
    else:
        _arcs(site, inside)
    _goods(site, inside, (PALLET, f.DRUM, TROLLEY, f.TABLE, f.BOX))
    return site


def _shell(dice: Dice) -> tuple[Site, Rect]:
    """Walls, and now and then a walled corridor along one side."""
    site = Site(dice, dice.uniform(10.0, 16.0), dice.uniform(10.0, 16.0), dice.choice((4.0, 4.6)))
    inside = site.enclose(0.15, site.top, f.WALL)
    if dice.chance(0.5):
        x = inside.x0 + snap(dice.uniform(1.2, 1.8))
        gap = snap(dice.uniform(1.5, inside.depth - 3.0))
        for y0, y1 in ((inside.y0, inside.y0 + gap), (inside.y0 + gap + 1.2, inside.y1 - snap(dice.uniform(1.2, 2.0)))):
            if y1 - y0 > 0.5:
                site.block(Rect(x, y0, x + 0.1, y1), 0.0, site.top, f.WALL)
        site.reserve(Rect(inside.x0, inside.y0, x + 1.2, inside.y1))
        inside = inside._replace(x0=x + 0.1)
    return site, inside


def _rack(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Uprights every two metres or so, shelf slabs, goods on them; the lowest level may be open to drive under."""
    dice = site.dice
    bays = max(round(width / dice.uniform(1.6, 2.4)), 1)
    levels = [0.1 if dice.chance(0.6) else dice.uniform(0.7, 1.3)]
    while levels[-1] < 2.6 and len(levels) < 3:
        levels.append(levels[-1] + dice.uniform(1.0, 1.4))
    top, colour = min(levels[-1] + 0.3, site.top), dice.choice((f.BLUE, f.ORANGE, f.TEAL))
    for k in range(bays + 1):
        u = (width - POST) * (k / bays - 0.5)
        for v in (-0.5 * (depth - POST), 0.5 * (depth - POST)):
            site.part(pose, (u, v), (POST, POST), (0.0, top), colour)
    for z in levels:
        if z < site.top - 0.1:
            site.part(pose, (0.0, 0.0), (width, depth), (z, z + 0.1), f.STEEL)
        for k in range(bays):
            if dice.chance(0.7):
                u = width * ((k + 0.5) / bays - 0.5)
                size = (width / bays * dice.uniform(0.4, 0.8), depth * dice.uniform(0.6, 0.95))
                high = min(z + 0.1 + dice.uniform(0.25, 0.7), site.top)
                if high > z + 0.15:
                    site.part(pose, (u, 0.0), size, (z + 0.1, high), f.SAND)
    site.take(pose, (width, depth))


def _slanted(site: Site, inside: Rect) -> None:
    """Parallel racks at 20 to 70 degrees to the walls."""
    dice = site.dice
    angle = math.radians(dice.uniform(20.0, 70.0)) * dice.choice((-1.0, 1.0))
    c, s = math.cos(angle), math.sin(angle)
    x, y = 0.5 * (inside.x0 + inside.x1), 0.5 * (inside.y0 + inside.y1)
    reach = 0.5 * math.hypot(inside.width, inside.depth)
    across = -reach
    while across < reach:
        deep = snap(dice.uniform(0.7, 1.0))
        along = -reach + dice.uniform(0.0, 1.5)
        while along < reach:
            run = dice.uniform(1.8, 4.5)
            u = along + 0.5 * run
            pose = Pose(x + c * u - s * across, y + s * u + c * across, c, s)
            if site.free(pose, (run + 1.8, deep + 1.8), HARD) and site.free(pose, (run, deep)):
                _rack(site, pose, run, deep)
                along += run + dice.uniform(1.2, 1.8)
            else:
                along += 0.5
        across += deep + dice.uniform(1.25, 2.0)


def _arcs(site: Site, inside: Rect) -> None:
    """Short racks along circles round a point near a corner."""
    dice = site.dice
    x = dice.choice((inside.x0, inside.x1))
    y = dice.choice((inside.y0, inside.y1))
    radius, reach = dice.uniform(2.0, 3.0), math.hypot(inside.width, inside.depth)
    while radius < reach:
        deep = snap(dice.uniform(0.7, 0.9))
        run, count = dice.uniform(1.2, 1.6), dice.integer(2, 4)
        angle, placed = dice.uniform(0.0, 0.4), 0
        while angle < 2 * math.pi:
            c, s = math.cos(angle), math.sin(angle)
            pose = Pose(x + radius * c, y + radius * s, -s, c)
            if site.free(pose, (run, deep)) and site.free(pose, (run + 1.9, deep + 1.9), EDGE):
                _rack(site, pose, run, deep)
                placed += 1
            step = run if placed % (count + 1) else run + 1.5
            angle += step / radius
        radius += deep + dice.uniform(1.3, 2.0)


def _goods(site: Site, inside: Rect, kinds: tuple[Item, ...]) -> None:
    for _ in range(round(inside.area / 9.0)):
        site.scatter(inside, site.dice.choice(kinds), turn=site.dice.chance(0.3))
        site.against(inside, site.dice.choice(kinds), tries=2)


def pallet(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Three runners, a deck, goods now and then."""
    for v in (-0.4, 0.0, 0.4):
        site.part(pose, (0.0, v * depth), (width, 0.1), (0.0, 0.1), f.WOOD)
    site.part(pose, (0.0, 0.0), (width, depth), (0.1, 0.14), f.WOOD)
    if site.dice.chance(0.7):
        site.part(pose, (0.0, 0.0), (width - 0.1, depth - 0.1), (0.14, site.dice.uniform(0.4, 1.6)), f.SAND)


def trolley(site: Site, pose: Pose, width: float, depth: float) -> None:
    """A deck on wheels with a push bar."""
    site.part(pose, (0.0, 0.0), (width, depth), (0.2, 0.26), f.SLATE)
    for u in (-0.4, 0.4):
        for v in (-0.4, 0.4):
            site.part(pose, (u * width, v * depth), (0.1, 0.1), (0.0, 0.2), f.SLATE)
    site.part(pose, (-0.5 * (width - 0.05), 0.0), (0.05, depth), (0.2, 1.0), f.STEEL)


PALLET = Item(pallet, (1.0, 1.2), (0.8, 1.0))
TROLLEY = Item(trolley, (0.8, 1.1), (0.5, 0.7))
