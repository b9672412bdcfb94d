"""Scenes of many worlds in one block of memory, laid out for the compiled sensors."""

import numpy as np
from numba import njit

from robot.core.errors import SceneError
from sim.navigation.scene import LAYERS, Z_STEP, Scene

SKIP_CAP = 60
"""Largest side of an empty square that is stored, in cells (3 m): the jump a ray takes there costs next to nothing."""


class ScenePool:
    """`slots` scenes of up to `cells` x `cells` cells.

    Attributes:
        cells: uint64 (S, N, N), the eight bytes of a cell's intervals; 0 is empty.
        colours: uint8 (S, N, N, LAYERS).
        skip: uint8 (S, 4, N, N), side in cells, capped, of the largest empty square that begins at a cell and goes on in the
            directions of a quadrant: 0 is +x and +y, 1 is -x and +y, 2 is +x and -y, 3 is -x and -y. What lies behind a ray
            does not shorten its jumps.
        ceiling: float32 (S,) [m].
        top: float32 (S,), of the highest solid [m].
        shape: int32 (S, 2), rows and columns in use.
    """

    def __init__(self, slots: int, cells: int) -> None:
        self.cells = np.zeros((slots, cells, cells), np.uint64)
        self.colours = np.zeros((slots, cells, cells, LAYERS), np.uint8)
        self.skip = np.zeros((slots, 4, cells, cells), np.uint8)
        self.top = np.zeros(slots, np.float32)
        self.ceiling = np.full(slots, np.inf, np.float32)
        self.shape = np.zeros((slots, 2), np.int32)

    def put(self, slot: int, scene: Scene) -> None:
        """Load a scene.

        Raises:
            SceneError: no such slot, or the scene is larger than the pool's cells.
        """
        slots, n, _ = self.cells.shape
        ny, nx = scene.solids.shape[:2]
        if not 0 <= slot < slots:
            raise SceneError(f"slot {slot} does not exist; the pool has {slots}")
        if max(ny, nx) > n:
            raise SceneError(f"scene of {ny} x {nx} cells does not fit into slots of {n} x {n}; make the pool larger")
        words = np.ascontiguousarray(scene.solids).reshape(ny, nx, 2 * LAYERS).view(np.uint64)[..., 0]
        self.cells[slot] = 0
        self.cells[slot, :ny, :nx] = words
        self.colours[slot, :ny, :nx] = scene.colours
        _squares(words, self.skip[slot])
        self.ceiling[slot] = scene.ceiling
        self.top[slot] = scene.solids.max(initial=0) * Z_STEP
        self.shape[slot] = ny, nx


@njit(cache=True, nogil=True)
def _squares(words, skip):
    """Fill skip (4, N, N) for cells (ny, nx); outside them nothing is in the way."""
    ny, nx = words.shape
    for quadrant in range(4):
        side = skip[quadrant]
        step_x, step_y = 1 - 2 * (quadrant & 1), 1 - (quadrant & 2)
        for row in range(ny):
            i = ny - 1 - row if step_y > 0 else row
            for col in range(nx):
                j = nx - 1 - col if step_x > 0 else col
                if words[i, j] != 0:
                    side[i, j] = 0
                    continue
                least = SKIP_CAP - 1
                if row > 0:
                    least = min(least, side[i + step_y, j])
                if col > 0:
                    least = min(least, side[i, j + step_x])
                if row > 0 and col > 0:
                    least = min(least, side[i + step_y, j + step_x])
                side[i, j] = least + 1
