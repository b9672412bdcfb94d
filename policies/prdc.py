"""PRDC (Ran et al., 2023): the actor is tied to the nearest pair of the whole data set, not to what was done in the same scene.

A chunk of the actor may be anything that somebody did where things looked much the same; where a demonstration was bad it is free
to follow a better one nearby.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from policies.generator import Scene
from policies.td3 import Td3, Td3Config
from robot.core.errors import ConfigError
from robot.core.interface import Interface

BLOCK = 65536
"""Pairs that are compared at once."""


@dataclass
class PrdcConfig(Td3Config):
    beta: float
    """Weight of scenes, in deviations of their features, beside that of chunks in the distance between pairs."""
    most: int
    """Pairs of the data set among which is searched; a larger one is thinned out evenly."""


class Prdc(Td3):
    def __init__(self, config: PrdcConfig, interface: Interface) -> None:
        super().__init__(config, interface)
        if config.beta <= 0 or config.most < 1:
            raise ConfigError(f"policy: beta={config.beta} must be positive and most={config.most} at least 1")
        self.options = config
        self.known: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def study(self, table: dict[str, Any]) -> None:
        """Keep the pairs of a data set of transitions, columns (F, …)."""
        every = -(-len(table["reward"]) // self.options.most)
        rows = {name: torch.from_numpy(table[name][::every]).float() for name in ("condition", "anchor", "action")}
        scene = self.encode(rows)
        self.known = self._pairs(scene.condition, self.scaled(rows["action"].flatten(2), scene))

    def _pairs(self, condition: Tensor, did: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Deviations of the features (C,), pairs (F, C + D) as they are compared, and chunks (F, T, A)."""
        spread = condition.std(0).clamp_min(1e-3)
        return spread, torch.cat([self.options.beta * condition / spread, did.flatten(1)], dim=1), did

    @torch.no_grad()
    def nearest(self, scene: Scene, own: Tensor, known: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """The chunks (B, T, A) of the pairs nearest to (scene, own): exact, by one product of matrices a block."""
        spread, pairs, did = known
        asked = torch.cat([self.options.beta * scene.condition / spread, own.flatten(1)], dim=1)
        found = []
        for block in pairs.split(BLOCK):
            found.append((block.square().sum(1) - 2 * asked @ block.T).min(1))
        least = torch.stack([entry.values for entry in found])
        index = torch.stack([entry.indices + BLOCK * k for k, entry in enumerate(found)])
        return did[index.gather(0, least.argmin(0, keepdim=True))[0]]

    def tie(self, scene: Scene, did: Tensor, own: Tensor) -> Tensor:
        """How far chunks are from the nearest of the data set; of the batch, where no data set was studied."""
        known = self._pairs(scene.condition, did) if self.known is None else self.known
        return ((own - self.nearest(scene, own, known)) ** 2).mean()
