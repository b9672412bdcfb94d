"""Furniture of the held-out split only; frames and units as in `furniture`."""

from sim.navigation.scenes import furniture as f
from sim.navigation.scenes.site import Item, Pose, Site


def round_table(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Round top on one column with a round foot."""
    height, colour = site.dice.uniform(0.70, 0.76), site.dice.choice((f.WOOD, f.WHITE, f.SLATE))
    site.canvas.disc(pose.x, pose.y, 0.5 * width, height - 0.04, height, colour)
    site.canvas.disc(pose.x, pose.y, 0.06, 0.0, height - 0.04, f.STEEL)
    site.canvas.disc(pose.x, pose.y, 0.25 * width, 0.0, 0.06, f.STEEL)


def stool(site: Site, pose: Pose, width: float, depth: float) -> None:
    height = site.dice.choice((0.45, 0.65, 0.78))
    site.canvas.disc(pose.x, pose.y, 0.5 * width, height - 0.06, height, f.ORANGE)
    site.canvas.disc(pose.x, pose.y, 0.04, 0.0, height - 0.06, f.STEEL)
    site.canvas.disc(pose.x, pose.y, 0.4 * width, 0.0, 0.06, f.STEEL)


def armchair(site: Site, pose: Pose, width: float, depth: float) -> None:
    colour = site.dice.choice(f.FABRICS)
    site.part(pose, (0.0, 0.0), (width, depth), (0.16, 0.42), colour)
    site.part(pose, (0.0, 0.0), (width - 0.2, depth - 0.2), (0.0, 0.16), f.DARK)
    site.part(pose, (0.0, 0.1 - 0.5 * depth), (width, 0.2), (0.16, site.dice.uniform(0.8, 1.05)), colour)
    for side in (-1.0, 1.0):
        site.part(pose, (side * 0.5 * (width - 0.15), 0.0), (0.15, depth), (0.16, 0.6), colour)


def corner_sofa(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Two seats at a right angle; the footprint is the square around both."""
    colour, seat = site.dice.choice(f.FABRICS), 0.85
    for at, size in (((0.0, 0.5 * (seat - depth)), (width, seat)), ((0.5 * (seat - width), 0.0), (seat, depth))):
        site.part(pose, at, size, (0.06, 0.42), colour)
    site.part(pose, (0.0, 0.1 - 0.5 * depth), (width, 0.2), (0.0, 0.8), colour)
    site.part(pose, (0.1 - 0.5 * width, 0.0), (0.2, depth), (0.0, 0.8), colour)


def kitchen_island(site: Site, pose: Pose, width: float, depth: float) -> None:
    """A block whose top hangs over on one side, an extractor hood above it now and then."""
    site.part(pose, (0.0, -0.15), (width - 0.1, depth - 0.3), (0.0, 0.88), f.WHITE)
    site.part(pose, (0.0, 0.0), (width, depth), (0.88, 0.94), f.SLATE)
    if site.dice.chance(0.6):
        site.part(pose, (0.0, -0.15), (0.7, 0.5), (1.6, 1.8), f.STEEL)


def corner_desk(site: Site, pose: Pose, width: float, depth: float) -> None:
    """Desk with a return at a right angle, on panel legs."""
    top = site.dice.uniform(0.70, 0.76)
    site.part(pose, (0.0, 0.35 - 0.5 * depth), (width, 0.7), (top - 0.04, top), f.SAND)
    site.part(pose, (0.25 - 0.5 * width, 0.0), (0.5, depth), (top - 0.04, top), f.SAND)
    site.part(pose, (0.5 * (width - 0.05), 0.35 - 0.5 * depth), (0.05, 0.7), (0.0, top - 0.04), f.GREY)
    site.part(pose, (0.25 - 0.5 * width, 0.5 * (depth - 0.05)), (0.5, 0.05), (0.0, top - 0.04), f.GREY)
    site.part(pose, (0.1, 0.1 - 0.5 * depth), (0.5, 0.05), (top + 0.08, top + 0.4), f.SLATE)


ROUND_TABLE = Item(round_table, (0.8, 1.3), (0.8, 1.3))
STOOL = Item(stool, (0.35, 0.45), (0.35, 0.45))
ARMCHAIR = Item(armchair, (0.75, 0.95), (0.75, 0.95))
CORNER_SOFA = Item(corner_sofa, (1.9, 2.5), (1.6, 2.1))
KITCHEN_ISLAND = Item(kitchen_island, (1.3, 2.0), (0.8, 1.0))
CORNER_DESK = Item(corner_desk, (1.4, 1.7), (1.2, 1.5))
