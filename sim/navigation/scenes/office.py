"""Offices. Train: a straight corridor with offices on one side and rows of cubicles or more offices on the other.

Test: a corridor all round a closed core; the outer ring has crosses of four desks at any angle instead of rows.
"""

import math

from sim.navigation.scenes import furniture as f
from sim.navigation.scenes import rooms as r
from sim.navigation.scenes import unseen as u
from sim.navigation.scenes.dice import Dice
from sim.navigation.scenes.site import Item, Pose, Rect, Site, snap

PANEL = 0.05
OFFICE = (f.DESK, f.SHELF, f.CABINET, f.CHAIR, f.PLANT)


def train(dice: Dice) -> Site:
    site = Site(dice, dice.uniform(10.0, 16.0), dice.uniform(9.0, 13.0), 2.7)
    inside = site.bounds.shrunk(0.15)
    width, start = snap(dice.uniform(1.3, 1.9)), snap(dice.uniform(2.8, 3.6))
    low = inside._replace(y1=inside.y0 + start)
    corridor = inside._replace(y0=low.y1 + r.WALL, y1=low.y1 + r.WALL + width)
    high = inside._replace(y0=corridor.y1 + r.WALL)
    offices = r.row(site, low, 2.6, 4.2, along_x=True)
    if dice.chance(0.5):
        halls = [high]
    else:
        at = high.x0 + snap(dice.uniform(0.35, 0.6) * high.width)
        halls = [high._replace(x1=at), high._replace(x0=at + r.WALL)]
    rooms = [corridor, *offices, *halls]
    r.walls(site, rooms)
    r.connect(site, rooms, loops=0.35, wide=0.3)
    r.raise_walls(site)
    for office in offices:
        _furnish(site, office)
    for hall in halls:
        if dice.chance(0.25):
            meeting(site, hall)
        else:
            cubicles(site, hall)
    return site


def test(dice: Dice) -> Site:
    site = Site(dice, dice.uniform(12.0, 16.0), dice.uniform(11.0, 15.0), 2.7)
    inside = site.bounds.shrunk(0.15)
    ring = snap(dice.uniform(3.2, 3.9))
    core = inside.shrunk(ring + r.WALL)
    rooms = r.split(site, core, 2.2, 14.0)
    band = [
        Rect(inside.x0, inside.y0, inside.x1, inside.y0 + ring),
        Rect(inside.x0, inside.y1 - ring, inside.x1, inside.y1),
        Rect(inside.x0, inside.y0 + ring + r.WALL, inside.x0 + ring, inside.y1 - ring - r.WALL),
        Rect(inside.x1 - ring, inside.y0 + ring + r.WALL, inside.x1, inside.y1 - ring - r.WALL),
    ]
    count = len(rooms)
    joined = frozenset((count + k, count + side) for k in (0, 1) for side in (2, 3))
    everything = rooms + band
    r.walls(site, everything)
    for opening in r.neighbours(everything):
        if (min(opening.first, opening.second), max(opening.first, opening.second)) in joined:
            r.cut(site, opening.wall)
    r.connect(site, everything, loops=0.4, wide=0.1, avoid=joined)
    r.raise_walls(site)
    for room in rooms:
        site.scatter(room, dice.choice((u.ROUND_TABLE, u.KITCHEN_ISLAND)), gap=0.9, turn=True)
        _furnish(site, room)
    for side in band:
        for _ in range(round(side.area / 6.0)):
            site.scatter(side, dice.choice((PINWHEEL, PINWHEEL, u.ARMCHAIR, u.CORNER_DESK, SCREEN)), gap=0.9, turn=True)
        for _ in range(2):
            site.against(side, dice.choice((f.CABINET, f.PLANT, f.SHELF)))
    return site


def cubicles(site: Site, hall: Rect) -> None:
    """Rows of cubicles: panels on three sides, a desk along the back, the open side to an aisle."""
    dice = site.dice
    size, aisle = snap(dice.uniform(1.7, 2.2)), snap(dice.uniform(1.1, 1.5))
    height = dice.uniform(1.2, 1.6)
    front = dice.choice((1.0, -1.0))
    y = hall.y0 + 0.5 * size + (0.0 if front > 0 else aisle)
    while y + 0.5 * size <= hall.y1 + 1e-6:
        skip, x = dice.integer(0, 3), hall.x0 + snap(dice.uniform(0.0, 1.0)) + 0.5 * size
        while x + 0.5 * size <= hall.x1 - (aisle if skip else 0.0):
            pose = Pose(x, y, front, 0.0)
            if dice.chance(0.9) and site.free(pose, (size + 0.2, size)):
                cubicle(site, pose, size, height)
                x += size - PANEL
            else:
                x += aisle + size
        y += size + aisle
    for _ in range(round(hall.area / 12.0)):
        site.against(hall, dice.choice((f.SHELF, f.CABINET, f.PLANT)))


def cubicle(site: Site, pose: Pose, size: float, height: float) -> None:
    half = 0.5 * (size - PANEL)
    for at, panel in (((0.0, -half), (size, PANEL)), ((-half, 0.0), (PANEL, size)), ((half, 0.0), (PANEL, size))):
        site.part(pose, at, panel, (0.0, height), f.GREY)
    back = Pose(pose.x + pose.s * (half - 0.35), pose.y - pose.c * (half - 0.35), pose.c, pose.s)
    f.desk(site, back, size - 2 * PANEL, 0.65)
    if site.dice.chance(0.6):
        f.chair(site, Pose(pose.x - 0.1 * pose.s, pose.y + 0.1 * pose.c, -pose.c, -pose.s), 0.45, 0.45)
    site.take(pose, (size, size))


def meeting(site: Site, hall: Rect) -> None:
    """One long table with chairs along it, cabinets along the walls."""
    site.scatter(hall, Item(f.dining, (2.4, 3.6), (1.5, 1.8)), tries=20, gap=1.0)
    for _ in range(round(hall.area / 8.0)):
        site.scatter(hall, site.dice.choice((f.TABLE, f.CHAIR, f.PILLAR, f.PLANT)))
    for _ in range(round(hall.area / 5.0)):
        site.against(hall, site.dice.choice((f.CABINET, f.SHELF, f.PLANT, f.TABLE)))


def pinwheel(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Four desks round a cross of panels."""
    height = site.dice.uniform(1.1, 1.5)
    site.part(pose, (0.0, 0.0), (width, PANEL), (0.0, height), f.GREY)
    site.part(pose, (0.0, 0.0), (PANEL, depth), (0.0, height), f.GREY)
    top = site.dice.uniform(0.70, 0.76)
    for sx in (-1.0, 1.0):
        for sy in (-1.0, 1.0):
            site.part(pose, (sx * 0.25 * width, sy * 0.3), (0.45 * width, 0.5), (top - 0.04, top), f.WOOD)
            site.part(pose, (sx * 0.45 * width, sy * 0.5), (0.05, 0.05), (0.0, top), f.STEEL)


def screen(site: Site, pose: Pose, width: float, depth: float) -> None:
    """A folding screen: panels in a zigzag."""
    for k in range(3):
        at = (k - 1) * width / 3
        tilt = math.atan2(depth - 0.1, width / 3) * (1 if k % 2 else -1)
        c, s = math.cos(tilt), math.sin(tilt)
        x, y = pose.x + pose.c * at, pose.y + pose.s * at
        here = Pose(x, y, pose.c * c - pose.s * s, pose.s * c + pose.c * s)
        site.part(here, (0.0, 0.0), (width / 3 / c, 0.08), (0.0, 1.7), f.TEAL)


PINWHEEL = Item(pinwheel, (2.0, 2.6), (1.4, 1.6))
SCREEN = Item(screen, (1.4, 1.8), (0.3, 0.5))


def _furnish(site: Site, room: Rect) -> None:
    for k in range(max(round(room.area / 3.0), 2)):
        site.against(room, OFFICE[0] if k == 0 else site.dice.choice(OFFICE), passage=0.85)
