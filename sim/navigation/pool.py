"""Scenes of many worlds in one block of memory, laid out for the compiled sensors."""

import numpy as np
from scipy import ndimage

from robot.core.errors import SceneError
from sim.navigation.scene import LAYERS, Z_STEP, Scene

SKIP_CAP = 40
"""Largest empty-space distance stored, in cells (2 m): the jump a ray takes there already costs next to nothing."""


class ScenePool:
    """`slots` scenes of up to `cells` x `cells` cells.

    Attributes:
        cells: uint64 (S, N, N), the eight bytes of a cell's intervals; 0 is empty.
        colours: uint8 (S, N, N, LAYERS).
        skip: uint8 (S, N, N), Chebyshev distance in cells to the nearest cell that is not empty, capped.
        ceiling: float32 (S,) [m].
        top: float32 (S,), of the highest solid [m].
        shape: int32 (S, 2), rows and columns in use.
    """

    def __init__(self, slots: int, cells: int) -> None:
        self.cells = np.zeros((slots, cells, cells), np.uint64)
        self.colours = np.zeros((slots, cells, cells, LAYERS), np.uint8)
        self.skip = np.zeros((slots, cells, cells), np.uint8)
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
        self.skip[slot, :ny, :nx] = _distance(words)
        self.ceiling[slot] = scene.ceiling
        self.top[slot] = scene.solids.max(initial=0) * Z_STEP
        self.shape[slot] = ny, nx


def _distance(words: np.ndarray) -> np.ndarray:
    """Chebyshev distance (ny, nx) to the nearest cell that is not empty, in cells, capped."""
    if not words.any():
        return np.full(words.shape, SKIP_CAP)
    return np.minimum(ndimage.distance_transform_cdt(words == 0, metric="chessboard"), SKIP_CAP)
