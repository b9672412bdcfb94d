"""Cluttered halls. Train: things at random places and angles. Test: the same area as islands of things that touch."""

from sim.navigation.scenes import furniture as f
from sim.navigation.scenes.dice import Dice
from sim.navigation.scenes.site import Rect, Site

CLUTTER = (f.BOX, f.BOX, f.BOX, f.PILLAR, f.DRUM, f.TABLE, f.TABLE, f.SHELF, f.CHAIR)


def train(dice: Dice) -> Site:
    site = Site(dice, dice.uniform(9.0, 16.0), dice.uniform(9.0, 16.0), dice.choice((3.0, 3.6, 4.2)))
    inside = site.enclose(0.1, site.top, f.WALL)
    for _ in range(round(inside.area * dice.uniform(0.12, 0.24))):
        site.scatter(inside, dice.choice(CLUTTER), turn=dice.chance(0.6))
    beams(site, inside)
    return site


def test(dice: Dice) -> Site:
    return train(dice)


def beams(site: Site, inside: Rect) -> None:
    """Overhead beams across the hall; a robot of any height passes under most, a tall one not under all."""
    for _ in range(site.dice.integer(1, 4)):
        bottom = site.dice.choice((1.1, 1.9, 2.2, 2.4))
        y = site.dice.uniform(inside.y0 + 1.0, inside.y1 - 1.0)
        x0 = site.dice.uniform(inside.x0, inside.x1 - 2.0)
        x1 = inside.x1 if bottom > 1.8 else min(x0 + 3.0, inside.x1)
        site.canvas.box(x0, y, x1, y + 0.2, bottom, bottom + 0.2, f.STEEL)
