"""Procedural scenes from an integer seed."""

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
