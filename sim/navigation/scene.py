"""A scene as a layered height map: up to four solid intervals over each 5 cm cell of the floor.

Heights are stored in steps of 2 cm in one byte, so the eight bytes of a cell are one 64-bit word and an empty cell is
word 0. The floor is the plane z = 0 and is solid everywhere; the ceiling is a plane, infinite outdoors.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CELL = 0.05
"""Edge of a cell [m]."""
Z_STEP = 0.02
"""Height resolution [m]; the tallest solid ends at 255 * 0.02 = 5.1 m."""
LAYERS = 4
"""Solid intervals a cell can hold."""


@dataclass(frozen=True)
class Scene:
    """One static world; x = ix * CELL and y = iy * CELL at a cell's low corner, in metres, frame `w`.

    Attributes:
        solids: uint8 (ny, nx, LAYERS, 2), solid intervals [bottom, top) in Z_STEP, ascending, unused ones are (0, 0) and last.
        colours: uint8 (ny, nx, LAYERS), index into PALETTE for each interval.
        ceiling: height of the ceiling [m], inf outdoors.
        family: name of the generator.
        split: 'train' or 'test'.
        seed: the integer the scene was made from.
    """

    solids: NDArray[np.uint8]
    colours: NDArray[np.uint8]
    ceiling: float
    family: str
    split: str
    seed: int

    @property
    def size(self) -> tuple[float, float]:
        """Extent along x and y [m]."""
        return self.solids.shape[1] * CELL, self.solids.shape[0] * CELL

    def occupied(self, bottom: float, top: float) -> NDArray[np.bool_]:
        """Cells (ny, nx) with something solid between two heights [m] above the floor."""
        low = self.solids[..., 0].astype(np.float32) * Z_STEP
        high = self.solids[..., 1].astype(np.float32) * Z_STEP
        return ((high > low) & (high > bottom) & (low < top)).any(-1)


PALETTE = np.array(
    [
        (196, 190, 180), (150, 111, 77), (92, 64, 51), (120, 130, 140), (60, 90, 140), (140, 60, 60),
        (70, 110, 70), (210, 180, 120), (170, 170, 170), (230, 225, 215), (90, 90, 100), (180, 120, 60),
        (50, 130, 130), (130, 80, 140), (200, 160, 40), (40, 60, 40),
    ],
    dtype=np.uint8,
)  # fmt: skip
"""RGB of the surface colours: wall, wood, dark wood, steel, blue, red, green, sand, grey, white, slate, orange, teal, purple,
yellow, dark green."""
