"""Cluttered halls. Train: things at random places and angles. Test: the same area as islands of things that touch."""

import math

from sim.navigation.scenes import furniture as f
from sim.navigation.scenes import unseen as u
from sim.navigation.scenes.dice import Dice
from sim.navigation.scenes.site import HARD, Item, Pose, Rect, Site, snap

CLUTTER = (f.BOX, f.BOX, f.BOX, f.PILLAR, f.DRUM, f.TABLE, f.TABLE, f.SHELF, f.CHAIR)


def train(dice: Dice) -> Site:
    site = Site(dice, dice.uniform(9.0, 16.0), dice.uniform(9.0, 16.0), dice.choice((3.0, 3.6, 4.2)))
    inside = site.enclose(0.1, site.top, f.WALL)
    for _ in range(round(inside.area * dice.uniform(0.12, 0.24))):
        site.scatter(inside, dice.choice(CLUTTER), turn=dice.chance(0.6))
    beams(site, inside)
    return site


def test(dice: Dice) -> Site:
    site = Site(dice, dice.uniform(9.0, 16.0), dice.uniform(9.0, 16.0), dice.choice((3.0, 3.6, 4.2)))
    inside = site.enclose(0.1, site.top, f.WALL)
    for _ in range(round(inside.area / dice.uniform(14.0, 22.0))):
        site.scatter(inside, dice.choice((CLUSTER, CLUSTER, POCKET)), turn=True)
    for _ in range(dice.integer(1, 3)):
        colonnade(site, inside)
    for _ in range(round(inside.area * 0.1)):
        site.scatter(inside, dice.choice((u.ROUND_TABLE, u.STOOL, f.BOX, f.DRUM)), turn=True)
    beams(site, inside)
    return site


def cluster(site: Site, pose: Pose, width: float, depth: float) -> None:
    """An island of things that overlap or touch."""
    dice = site.dice
    for _ in range(dice.integer(4, 8)):
        size = (dice.uniform(0.3, 0.5 * width), dice.uniform(0.3, 0.5 * depth))
        a, b = dice.uniform(-0.3, 0.3) * width, dice.uniform(-0.3, 0.3) * depth
        here = Pose(pose.x + pose.c * a - pose.s * b, pose.y + pose.s * a + pose.c * b, pose.c, pose.s)
        dice.choice((f.box, f.table, f.drum, f.cabinet))(site, here, min(*size) if dice.chance(0.3) else size[0], size[1])


def pocket(site: Site, pose: Pose, width: float, depth: float) -> None:
    """A dead end: three low walls round a bay, open to the front."""
    height = site.dice.uniform(0.7, 2.0)
    site.part(pose, (0.0, 0.1 - 0.5 * depth), (width, 0.2), (0.0, height), f.SLATE)
    for side in (-1.0, 1.0):
        site.part(pose, (side * 0.5 * (width - 0.2), 0.0), (0.2, depth), (0.0, height), f.SLATE)


CLUSTER = Item(cluster, (1.2, 2.4), (1.0, 2.0))
POCKET = Item(pocket, (1.5, 2.6), (1.0, 2.2))


def colonnade(site: Site, inside: Rect) -> None:
    """Pillars on an arc, under a beam of the same curve."""
    dice = site.dice
    x, y = dice.uniform(inside.x0, inside.x1), dice.uniform(inside.y0, inside.y1)
    radius, start, pitch = dice.uniform(2.0, 5.0), dice.uniform(0.0, 2 * math.pi), dice.uniform(1.3, 1.7)
    size, bottom = snap(dice.uniform(0.2, 0.45)), dice.choice((1.9, 2.2, 2.4))
    for k in range(dice.integer(3, 7)):
        angle = start + k * pitch / radius
        c, s = math.cos(angle), math.sin(angle)
        pose = Pose(x + radius * c, y + radius * s, -s, c)
        if site.free(pose, (size, size)) and site.free(pose, (size + 1.9, size + 1.9), HARD):
            f.pillar(site, pose, size, size)
            site.take(pose, (size, size))
            site.part(pose, (0.0, 0.0), (pitch, 0.2), (bottom, bottom + 0.2), f.STEEL)


def beams(site: Site, inside: Rect) -> None:
    """Overhead beams across the hall; a robot of any height passes under most, a tall one not under all."""
    for _ in range(site.dice.integer(1, 4)):
        bottom = site.dice.choice((1.1, 1.9, 2.2, 2.4))
        y = site.dice.uniform(inside.y0 + 1.0, inside.y1 - 1.0)
        x0 = site.dice.uniform(inside.x0, inside.x1 - 2.0)
        x1 = inside.x1 if bottom > 1.8 else min(x0 + 3.0, inside.x1)
        site.canvas.box(x0, y, x1, y + 0.2, bottom, bottom + 0.2, f.STEEL)
