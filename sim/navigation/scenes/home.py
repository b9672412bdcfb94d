"""Homes. Train: rectangular rooms by recursive splitting, furniture along the walls.

Test: rooms on both sides of a central corridor, some of them L-shaped or with a cut corner; furniture stands as islands
and at any angle, of kinds that no training home has (round tables, armchairs, corner sofas, kitchen islands).
"""

from sim.navigation.scenes import furniture as f
from sim.navigation.scenes import rooms as r
from sim.navigation.scenes import unseen as u
from sim.navigation.scenes.dice import Dice
from sim.navigation.scenes.site import HARD, KEEP, Item, Rect, Site, snap

GAP = 0.85
"""Free width between things in a room [m]."""
Furnishing = tuple[tuple[Item, ...], tuple[Item, ...]]
TRAIN: tuple[Furnishing, ...] = (
    ((f.SOFA, f.CABINET, f.SHELF, f.PLANT, f.WARDROBE), (f.LOW_TABLE, f.CHAIR)),
    ((f.COUNTER, f.COUNTER, f.CABINET, f.SHELF), (f.DINING,)),
    ((f.BED, f.WARDROBE, f.CABINET, f.CHAIR, f.DESK), ()),
    ((f.DESK, f.SHELF, f.SHELF, f.CABINET, f.CHAIR), (f.TABLE,)),
    ((f.CABINET, f.SHELF, f.SOFA), (f.DINING, f.CHAIR)),
)
"""What stands along the walls and in the middle: living room, kitchen, bedroom, study, dining room."""
TEST: tuple[Furnishing, ...] = (
    ((f.SHELF, f.PLANT), (u.CORNER_SOFA, u.ARMCHAIR, u.ROUND_TABLE)),
    ((f.COUNTER, f.CABINET), (u.KITCHEN_ISLAND, u.STOOL, u.STOOL)),
    ((f.BED, f.WARDROBE), (u.ARMCHAIR, u.STOOL)),
    ((f.SHELF,), (u.CORNER_DESK, u.ARMCHAIR)),
    ((f.CABINET,), (u.ROUND_TABLE, u.STOOL, u.STOOL)),
)


def train(dice: Dice) -> Site:
    site = Site(dice, dice.uniform(8.0, 14.0), dice.uniform(8.0, 14.0), 2.5)
    rooms = r.split(site, site.bounds.shrunk(0.15), 2.6, 22.0)
    r.walls(site, rooms)
    r.connect(site, rooms, loops=0.3, wide=0.25)
    r.raise_walls(site)
    for room in rooms:
        furnish(site, room, dice.choice(TRAIN), turn=0.0)
    return site


def test(dice: Dice) -> Site:
    site = Site(dice, dice.uniform(9.5, 14.0), dice.uniform(8.5, 12.0), 2.5)
    inside = site.bounds.shrunk(0.15)
    width = snap(dice.uniform(1.2, 1.7))
    start = snap(dice.uniform(3.0, inside.depth - 3.0 - width))
    hall = Rect(inside.x0, inside.y0 + start, inside.x1, inside.y0 + start + width)
    rooms, joined = [hall], set()
    for strip in (inside._replace(y1=hall.y0 - r.WALL), inside._replace(y0=hall.y1 + r.WALL)):
        _strip(site, strip, strip.y0 > hall.y0, rooms, joined)
    r.walls(site, rooms)
    opened = [o for o in r.neighbours(rooms) if (min(o.first, o.second), max(o.first, o.second)) in joined]
    for opening in opened:
        r.cut(site, opening.wall)
        site.reserve(opening.part(0.0, opening.length, 0.5))
    r.connect(site, rooms, loops=0.35, wide=0.15, avoid=frozenset(joined))
    for room in rooms[1:]:
        if dice.chance(0.3):
            _cut_corner(site, room)
    r.raise_walls(site)
    for room in rooms[1:]:
        furnish(site, room, dice.choice(TEST), turn=0.5)
    return site


def furnish(site: Site, room: Rect, kind: Furnishing, turn: float) -> None:
    """Fill a room with about one thing each 2.5 m² of floor, as far as they fit.

    Args:
        turn: probability that a thing in the middle stands at any angle.
    """
    walls, middle = kind
    for item in middle:
        if room.area > 8.0 and site.dice.chance(0.8):
            site.scatter(room, item, gap=GAP, turn=site.dice.chance(turn))
    for k in range(max(round(room.area / 2.5) - len(middle), 2)):
        site.against(room, walls[k] if k < len(walls) else site.dice.choice(walls), passage=GAP)


def _strip(site: Site, strip: Rect, above: bool, rooms: list[Rect], joined: set[tuple[int, int]]) -> None:
    """Rooms of one side of the corridor; some give their far half to a neighbour, which becomes L-shaped."""
    taken = False
    row = r.row(site, strip, 2.6, 4.4, along_x=True)
    for k, room in enumerate(row):
        if taken or k + 1 == len(row) or room.depth < 4.2 or site.dice.chance(0.4):
            rooms.append(room)
            taken = False
            continue
        cut = snap(site.dice.uniform(1.9, room.depth - 2.0))
        low, high = room._replace(y1=room.y0 + cut), room._replace(y0=room.y0 + cut + r.WALL)
        near, far = (low, high) if above else (high, low)
        rooms += [near, far]
        joined.add((len(rooms) - 1, len(rooms)))
        taken = True


def _cut_corner(site: Site, room: Rect) -> None:
    """A diagonal wall across one corner of a room."""
    reach = snap(site.dice.uniform(0.6, 1.2))
    right, upper = site.dice.chance(0.5), site.dice.chance(0.5)
    x0 = room.x1 - reach if right else room.x0
    y0 = room.y1 - reach if upper else room.y0
    ys, xs = site.cells(Rect(x0, y0, x0 + reach, y0 + reach))
    part = site.map[ys, xs]
    if (part & KEEP).any():
        return
    mask = r.triangle(part.shape, right, upper)
    site.walls[ys, xs] |= mask
    part[mask] |= HARD
