"""Procedural scenes from an integer seed.

The split enters the random stream, so no seed gives the same scene in both, and each split has a grammar of its own:

family     train                                           test
home       rectangular rooms by recursive splitting,       a central corridor, L-shaped rooms, cut corners, islands of
           furniture along the walls                       furniture at any angle
office     straight corridor, offices, rows of cubicles    a ring of open floor round a core of rooms, crosses of desks
hall       single things at random places and angles       islands of things that touch, U-shaped pockets, colonnades
warehouse  parallel racks, cross aisles                    slanted racks, or racks on concentric arcs
outdoor    trees, rocks, benches, boxes, straight hedges   trees in rows, hedges on arcs, clusters of rocks, portals

Furniture in `unseen` appears in no training scene. Walls or a fence close every scene; doors are 0.85 to 1.1 m wide and
things leave 0.8 m or more to each other, so that a robot of radius 0.35 m gets to nearly all of the free floor.
"""

import numpy as np

from robot.core.errors import ConfigError
from sim.navigation.scene import Scene
from sim.navigation.scenes import hall, home, office, outdoor, warehouse
from sim.navigation.scenes.dice import Dice

_BUILDERS = {
    module.__name__.rpartition(".")[2]: (module.train, module.test) for module in (home, office, hall, warehouse, outdoor)
}
FAMILIES = tuple(_BUILDERS)
SPLITS = ("train", "test")


def generate(seed: int, split: str = "train", family: str | None = None) -> Scene:
    """The scene of a seed; the same arguments always give the same scene."""
    if split not in SPLITS:
        raise ConfigError(f"split '{split}' does not exist; accepted: {', '.join(SPLITS)}")
    if family is not None and family not in _BUILDERS:
        raise ConfigError(f"scene family '{family}' does not exist; accepted: {', '.join(FAMILIES)}")
    if seed < 0:
        raise ConfigError(f"seed {seed} is negative; accepted: 0 and above")
    which = SPLITS.index(split)
    if family is None:
        family = FAMILIES[int(np.random.default_rng([seed, which]).integers(len(FAMILIES)))]
    site = _BUILDERS[family][which](Dice(seed, which, FAMILIES.index(family)))
    solids, colours = site.canvas.solids()
    return Scene(solids, colours, site.ceiling, family, split, seed)
