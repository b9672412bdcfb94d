"""Things with a footprint. Each draws itself in its own frame: +y is the front, -y the back; sizes in metres.

Typical dimensions are those of common European furniture: table tops 0.70-0.76 m, seats 0.42-0.48 m, counters 0.9 m.
"""

from sim.navigation.scenes.site import Item, Pose, Site

WALL, WOOD, DARK, STEEL, BLUE, RED, GREEN, SAND, GREY, WHITE, SLATE, ORANGE, TEAL, PURPLE, YELLOW, FOREST = range(16)
"""Indices into sim.navigation.scene.PALETTE."""
FABRICS = (BLUE, RED, GREEN, TEAL, PURPLE, GREY)
LEG = 0.05
"""Thickness of legs and slabs: one cell [m]."""


def _legs(site: Site, pose: Pose, width: float, depth: float, top: float, colour: int) -> None:
    u, v = 0.5 * (width - LEG), 0.5 * (depth - LEG)
    for at in ((-u, -v), (u, -v), (-u, v), (u, v)):
        site.part(pose, at, (LEG, LEG), (0.0, top), colour)


def table(site: Site, pose: Pose, width: float, depth: float) -> None:
    height, colour = site.dice.uniform(0.70, 0.76), site.dice.choice((WOOD, DARK, WHITE))
    site.part(pose, (0.0, 0.0), (width, depth), (height - 0.04, height), colour)
    _legs(site, pose, width, depth, height - 0.04, colour)


def low_table(site: Site, pose: Pose, width: float, depth: float) -> None:
    height = site.dice.uniform(0.38, 0.5)
    site.part(pose, (0.0, 0.0), (width, depth), (height - 0.04, height), DARK)
    _legs(site, pose, width, depth, height - 0.04, DARK)


def chair(site: Site, pose: Pose, width: float, depth: float) -> None:
    seat, colour = site.dice.uniform(0.42, 0.48), site.dice.choice((WOOD, DARK, SLATE, ORANGE))
    site.part(pose, (0.0, 0.0), (width, depth), (seat - 0.04, seat), colour)
    _legs(site, pose, width, depth, seat - 0.04, colour)
    site.part(pose, (0.0, -0.5 * (depth - LEG)), (width, LEG), (seat, seat + 0.42), colour)


def dining(site: Site, pose: Pose, width: float, depth: float) -> None:
    """A table with chairs pushed under its long sides; the footprint includes the chairs."""
    inner = depth - 0.5
    table(site, pose, width, inner)
    for side in (-1.0, 1.0):
        for at in (-0.25 * width, 0.25 * width):
            if site.dice.chance(0.8):
                y = side * (0.5 * inner + 0.02)
                here = Pose(pose.x + pose.c * at - pose.s * y, pose.y + pose.s * at + pose.c * y, -side * pose.c, -side * pose.s)
                chair(site, here, 0.42, 0.42)


def shelf(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Open shelf: side panels and three or four slabs, a back panel now and then."""
    height, slabs, colour = site.dice.uniform(1.2, 2.2), site.dice.integer(3, 4), site.dice.choice((WOOD, DARK, WHITE, STEEL))
    for side in (-1.0, 1.0):
        site.part(pose, (side * 0.5 * (width - LEG), 0.0), (LEG, depth), (0.0, height), colour)
    for k in range(slabs):
        z = 0.06 + (height - 0.1) * k / (slabs - 1)
        site.part(pose, (0.0, 0.0), (width, depth), (z, z + 0.04), colour)
    if site.dice.chance(0.5):
        site.part(pose, (0.0, -0.5 * (depth - LEG)), (width, LEG), (0.0, height), colour)


def cabinet(site: Site, pose: Pose, width: float, depth: float) -> None:
    site.part(pose, (0.0, 0.0), (width, depth), (0.0, site.dice.uniform(0.6, 1.1)), site.dice.choice((WOOD, WHITE, GREY)))


def wardrobe(site: Site, pose: Pose, width: float, depth: float) -> None:
    site.part(pose, (0.0, 0.0), (width, depth), (0.0, site.dice.uniform(1.8, 2.2)), site.dice.choice((WOOD, WHITE, DARK)))


def counter(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Base cabinet with cupboards hung over it."""
    site.part(pose, (0.0, -0.05), (width, depth - 0.1), (0.0, 0.86), WHITE)
    site.part(pose, (0.0, 0.0), (width, depth), (0.86, 0.9), SLATE)
    bottom = site.dice.uniform(1.35, 1.5)
    site.part(pose, (0.0, 0.175 - 0.5 * depth), (width, 0.35), (bottom, bottom + 0.7), WHITE)


def bed(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Raised bed: free below 0.2 m but for the legs, mattress, head board at the back."""
    colour = site.dice.choice(FABRICS)
    site.part(pose, (0.0, 0.0), (width, depth), (0.2, 0.32), WOOD)
    site.part(pose, (0.0, 0.0), (width, depth), (0.32, 0.52), colour)
    _legs(site, pose, width, depth, 0.2, WOOD)
    site.part(pose, (0.0, -0.5 * (depth - LEG)), (width, LEG), (0.0, 0.95), WOOD)


def sofa(site: Site, pose: Pose, width: float, depth: float) -> None:
    colour = site.dice.choice(FABRICS)
    site.part(pose, (0.0, 0.0), (width, depth), (0.06, 0.42), colour)
    site.part(pose, (0.0, 0.1 - 0.5 * depth), (width, 0.2), (0.0, 0.82), colour)
    for side in (-1.0, 1.0):
        site.part(pose, (side * 0.5 * (width - 0.15), 0.0), (0.15, depth), (0.0, 0.62), colour)


def desk(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Desk top with a drawer unit below and a screen on it."""
    height = site.dice.uniform(0.70, 0.76)
    site.part(pose, (0.0, 0.0), (width, depth), (height - 0.04, height), site.dice.choice((WOOD, WHITE)))
    _legs(site, pose, width, depth, height - 0.04, STEEL)
    if site.dice.chance(0.6):
        site.part(pose, (site.dice.choice((-1.0, 1.0)) * 0.5 * (width - 0.5), 0.0), (0.4, depth - 0.1), (0.0, 0.6), GREY)
    if site.dice.chance(0.8):
        site.part(pose, (0.0, 0.2 - 0.5 * depth), (0.55, 0.05), (height + 0.1, height + 0.45), SLATE)


def plant(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Pot, stem and crown; the crown hangs over the pot."""
    site.canvas.disc(pose.x, pose.y, 0.35 * width, 0.0, 0.35, ORANGE)
    top = site.dice.uniform(1.0, 1.7)
    site.canvas.disc(pose.x, pose.y, 0.03, 0.35, 0.7, DARK)
    site.canvas.disc(pose.x, pose.y, 0.5 * width, 0.7, top, GREEN)


def box(site: Site, pose: Pose, width: float, depth: float) -> None:
    site.part(pose, (0.0, 0.0), (width, depth), (0.0, site.dice.uniform(0.25, 2.0)), site.dice.integer(1, 14))


def pillar(site: Site, pose: Pose, width: float, depth: float) -> None:
    """A cylinder up to the top of the scene."""
    site.canvas.disc(pose.x, pose.y, 0.5 * width, 0.0, site.top, GREY)


def drum(site: Site, pose: Pose, width: float, depth: float) -> None:
    site.canvas.disc(pose.x, pose.y, 0.5 * width, 0.0, site.dice.uniform(0.4, 1.4), site.dice.choice((BLUE, ORANGE, TEAL, RED)))


TABLE = Item(table, (1.0, 1.8), (0.7, 1.0))
LOW_TABLE = Item(low_table, (0.8, 1.2), (0.5, 0.7))
CHAIR = Item(chair, (0.4, 0.45), (0.4, 0.45))
DINING = Item(dining, (1.3, 1.9), (1.25, 1.45))
SHELF = Item(shelf, (0.8, 1.8), (0.25, 0.4))
CABINET = Item(cabinet, (0.6, 1.6), (0.4, 0.5))
WARDROBE = Item(wardrobe, (1.0, 2.0), (0.55, 0.65))
COUNTER = Item(counter, (1.2, 2.4), (0.6, 0.65))
BED = Item(bed, (0.9, 1.8), (1.95, 2.05))
SOFA = Item(sofa, (1.5, 2.3), (0.8, 0.95))
DESK = Item(desk, (1.2, 1.7), (0.6, 0.8))
PLANT = Item(plant, (0.4, 0.7), (0.4, 0.7))
BOX = Item(box, (0.3, 1.4), (0.3, 1.2))
PILLAR = Item(pillar, (0.25, 0.6), (0.25, 0.6))
DRUM = Item(drum, (0.4, 0.9), (0.4, 0.9))
