"""Random scalars drawn in blocks: one call of a numpy Generator costs about 3 µs, a scene needs a thousand numbers."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
BLOCK = 1024


class Dice:
    """Scalars from one Generator; the same seed words give the same numbers in the same order."""

    def __init__(self, *words: int) -> None:
        self._rng = np.random.default_rng(list(words))
        self._block: list[float] = []

    def unit(self) -> float:
        """Uniform in [0, 1)."""
        if not self._block:
            self._block = self._rng.random(BLOCK).tolist()
        return self._block.pop()

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.unit()

    def integer(self, low: int, high: int) -> int:
        """Uniform in [low, high], both included."""
        return low + int((high + 1 - low) * self.unit())

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def choice(self, items: Sequence[T]) -> T:
        return items[int(len(items) * self.unit())]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return [item for _, item in sorted(((self.unit(), i), item) for i, item in enumerate(items))]
