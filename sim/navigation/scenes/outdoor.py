"""Fenced grounds without a ceiling. Train: trees, rocks, benches, parked boxes and straight hedges anywhere.

Test: trees in rows, hedges on arcs, rocks in clusters, portal frames and picnic tables.
"""

import math

from sim.navigation.scenes import furniture as f
from sim.navigation.scenes.dice import Dice
from sim.navigation.scenes.site import HARD, Item, Pose, Rect, Site, snap


def train(dice: Dice) -> Site:
    site, inside = _ground(dice)
    for _ in range(dice.integer(1, 4)):
        site.scatter(inside, HEDGE)
    kinds = (TREE, TREE, TREE, ROCK, ROCK, BENCH, CRATE, PICNIC, BUSH)
    for _ in range(round(inside.area * dice.uniform(0.14, 0.26))):
        site.scatter(inside, dice.choice(kinds), turn=True)
    return site


def test(dice: Dice) -> Site:
    site, inside = _ground(dice)
    for _ in range(dice.integer(2, 4)):
        _arc(site, inside)
    _orchard(site, inside)
    for _ in range(round(inside.area / 25.0)):
        site.scatter(inside, dice.choice((ROCKS, ROCKS, PORTAL)), turn=True)
    kinds = (PICNIC, BENCH, BUSH, CRATE, PORTAL)
    for _ in range(round(inside.area * dice.uniform(0.06, 0.14))):
        site.scatter(inside, dice.choice(kinds), turn=True)
    return site


def _ground(dice: Dice) -> tuple[Site, Rect]:
    site = Site(dice, dice.uniform(10.0, 16.0), dice.uniform(10.0, 16.0), math.inf)
    return site, site.enclose(0.1, dice.uniform(1.5, 2.4), dice.choice((f.WOOD, f.FOREST, f.STEEL)))


def tree(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Trunk and a crown of three discs; the crown of one tree in three hangs below the head of a tall robot."""
    dice = site.dice
    low = dice.uniform(0.9, 1.25) if dice.chance(0.35) else dice.uniform(1.6, 2.4)
    spread = dice.uniform(0.6, 1.4)
    site.canvas.disc(pose.x, pose.y, 0.5 * width, 0.0, low + 0.4, f.DARK)
    site.canvas.disc(pose.x, pose.y, spread, low, low + 0.9, f.GREEN)
    site.canvas.disc(pose.x, pose.y, 0.7 * spread, low + 0.9, low + 1.6, f.GREEN)
    site.canvas.disc(pose.x, pose.y, 0.35 * spread, low + 1.6, low + 2.1, f.GREEN)


def rock(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Overlapping turned boxes of falling size."""
    z = 0.0
    for scale in (1.0, 0.75, 0.45):
        rise = site.dice.uniform(0.1, 0.3)
        tilt = site.dice.uniform(0.0, 0.5)
        c, s = math.cos(tilt), math.sin(tilt)
        here = Pose(pose.x, pose.y, pose.c * c - pose.s * s, pose.s * c + pose.c * s)
        site.part(here, (0.0, 0.0), (width * scale * 0.85, depth * scale * 0.85), (z, z + rise), f.GREY)
        z += rise


def rocks(site: Site, pose: Pose, width: float, depth: float) -> None:
    """A cluster of three to five rocks."""
    for _ in range(site.dice.integer(3, 5)):
        u, v = site.dice.uniform(-0.3, 0.3) * width, site.dice.uniform(-0.3, 0.3) * depth
        turn = site.dice.uniform(0.0, math.pi)
        here = Pose(pose.x + pose.c * u - pose.s * v, pose.y + pose.s * u + pose.c * v, math.cos(turn), math.sin(turn))
        rock(site, here, site.dice.uniform(0.3, 0.7), site.dice.uniform(0.3, 0.7))


def bench(site: Site, pose: Pose, width: float, depth: float) -> None:
    site.part(pose, (0.0, 0.0), (width, depth), (0.42, 0.48), f.WOOD)
    site.part(pose, (0.0, -0.5 * (depth - 0.05)), (width, 0.05), (0.54, 0.9), f.WOOD)
    for u in (-0.42, 0.42):
        site.part(pose, (u * width, 0.0), (0.05, depth), (0.0, 0.42), f.STEEL)


def picnic(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Table with a bench fixed on both sides."""
    site.part(pose, (0.0, 0.0), (width, 0.7), (0.7, 0.76), f.WOOD)
    for v in (-0.5, 0.5):
        site.part(pose, (0.0, v * (depth - 0.3)), (width, 0.3), (0.42, 0.48), f.WOOD)
    for u in (-0.35, 0.35):
        site.part(pose, (u * width, 0.0), (0.05, 0.6), (0.0, 0.7), f.DARK)
        site.part(pose, (u * width, 0.0), (0.05, depth), (0.3, 0.36), f.DARK)


def hedge(site: Site, pose: Pose, width: float, depth: float) -> None:
    site.part(pose, (0.0, 0.0), (width, depth), (0.0, site.dice.uniform(0.8, 1.8)), f.FOREST)


def bush(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Thin foot, wide head: the head overhangs by a third."""
    height = site.dice.uniform(0.8, 1.4)
    site.canvas.disc(pose.x, pose.y, 0.33 * width, 0.0, height, f.FOREST)
    site.canvas.disc(pose.x, pose.y, 0.5 * width, 0.3, height - 0.1, f.FOREST)


def portal(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Two posts and a beam to drive under, as on a playground."""
    bottom = site.dice.choice((1.0, 1.5, 1.9))
    for side in (-1.0, 1.0):
        site.part(pose, (side * 0.5 * (width - 0.1), 0.0), (0.1, 0.1), (0.0, bottom), f.RED)
    site.part(pose, (0.0, 0.0), (width, 0.1), (bottom, bottom + 0.12), f.YELLOW)


TREE = Item(tree, (0.2, 0.5), (0.2, 0.5))
ROCK = Item(rock, (0.4, 1.2), (0.4, 1.0))
ROCKS = Item(rocks, (1.2, 2.0), (1.0, 1.6))
BENCH = Item(bench, (1.2, 1.8), (0.45, 0.55))
PICNIC = Item(picnic, (1.5, 1.9), (1.4, 1.6))
HEDGE = Item(hedge, (1.5, 5.0), (0.4, 0.7))
BUSH = Item(bush, (0.5, 1.1), (0.5, 1.1))
CRATE = Item(f.box, (0.8, 2.2), (0.8, 1.6))
PORTAL = Item(portal, (1.8, 2.6), (0.2, 0.2))


def _orchard(site: Site, inside: Rect) -> None:
    """Trees on a slanted grid, some missing."""
    dice = site.dice
    pitch, angle = dice.uniform(1.9, 2.6), dice.uniform(0.0, 0.5 * math.pi)
    c, s = pitch * math.cos(angle), pitch * math.sin(angle)
    x, y = 0.5 * (inside.x0 + inside.x1), 0.5 * (inside.y0 + inside.y1)
    reach = round(0.5 * math.hypot(inside.width, inside.depth) / pitch)
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            pose = Pose(x + c * i - s * j, y + s * i + c * j, 1.0, 0.0)
            size = snap(dice.uniform(0.2, 0.4))
            if dice.chance(0.45) and site.free(pose, (size, size)) and site.free(pose, (size + 1.9, size + 1.9), HARD):
                tree(site, pose, size, size)
                site.take(pose, (size, size))


def _arc(site: Site, inside: Rect) -> None:
    """A hedge along part of a circle, with a gap now and then."""
    dice = site.dice
    x, y = dice.uniform(inside.x0, inside.x1), dice.uniform(inside.y0, inside.y1)
    radius, start, sweep = dice.uniform(2.0, 5.0), dice.uniform(0.0, 2 * math.pi), dice.uniform(0.8, 2.2)
    height, thick = dice.uniform(0.8, 1.8), dice.uniform(0.35, 0.6)
    count = round(radius * sweep / 0.35)
    poses = []
    for k in range(count + 1):
        angle = start + sweep * k / count
        pose = Pose(x + radius * math.cos(angle), y + radius * math.sin(angle), -math.sin(angle), math.cos(angle))
        if site.free(pose, (thick + 1.9, thick + 1.9)):
            poses.append(pose)
    for pose in poses:
        site.part(pose, (0.0, 0.0), (0.4, thick), (0.0, height), f.FOREST)
        site.take(pose, (0.4, thick))
