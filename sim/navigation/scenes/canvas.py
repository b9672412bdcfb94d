"""Draw boxes, rotated boxes and discs with a bottom and a top; get the layered height map of `sim.navigation.scene`.

A primitive only appends one row of numbers; `solids()` rasterises all rows in one compiled pass. Axis-aligned edges snap
to the nearest cell edge, anything else covers the cells whose centre it contains. Heights snap to Z_STEP.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.navigation.scene import CELL, LAYERS, Z_STEP

Pair = tuple[float, float]
Z_TOP = 255 * Z_STEP
"""Height of the tallest solid the format holds [m]."""
_BOX, _ROTATED, _DISC = 0.0, 1.0, 2.0
_THIN = 0.036
"""Half thickness below which a rotated box would leave gaps: half the diagonal of a cell [m]."""


class Canvas:
    """A drawing of (ny, nx) cells. Later primitives join earlier ones; nothing is ever removed."""

    def __init__(self, ny: int, nx: int) -> None:
        self.shape = (ny, nx)
        self._rows: list[tuple[float, ...]] = []
        self._masks: list[tuple[NDArray[np.bool_], float, float, int]] = []

    def box(self, x0: float, y0: float, x1: float, y1: float, z0: float, z1: float, colour: int) -> None:
        """Axis-aligned box between two corners [m]; at least one cell wide."""
        self._rows.append((_BOX, x0, y0, x1, y1, 1.0, 0.0, z0, z1, colour))

    def turned(
        self, x: float, y: float, size: tuple[float, float], cos_sin: tuple[float, float], z: tuple[float, float], colour: int
    ):
        """Box of `size` (along its own x, y) [m] centred at (x, y) and turned by the angle of `cos_sin`."""
        c, s = cos_sin
        hx, hy = 0.5 * size[0], 0.5 * size[1]
        if abs(s) < 1e-9:
            self._rows.append((_BOX, x - hx, y - hy, x + hx, y + hy, 1.0, 0.0, z[0], z[1], colour))
        elif abs(c) < 1e-9:
            self._rows.append((_BOX, x - hy, y - hx, x + hy, y + hx, 1.0, 0.0, z[0], z[1], colour))
        else:
            self._rows.append((_ROTATED, x, y, max(hx, _THIN), max(hy, _THIN), c, s, z[0], z[1], colour))

    def disc(self, x: float, y: float, radius: float, z0: float, z1: float, colour: int) -> None:
        """Upright cylinder [m]; at least one cell."""
        self._rows.append((_DISC, x, y, radius, radius, 1.0, 0.0, z0, z1, colour))

    def fill(self, mask: NDArray[np.bool_], z0: float, z1: float, colour: int) -> None:
        """All cells of `mask` (ny, nx); drawn before the other primitives."""
        self._masks.append((mask, z0, z1, colour))

    def solids(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Solids uint8 (ny, nx, LAYERS, 2) and colours uint8 (ny, nx, LAYERS)."""
        solids = np.zeros((*self.shape, LAYERS, 2), np.uint8)
        colours = np.zeros((*self.shape, LAYERS), np.uint8)
        for mask, z0, z1, colour in self._masks:
            _fill(solids, colours, mask, units(z0), units(z1), colour)
        if self._rows:
            _draw(solids, colours, np.array(self._rows, dtype=np.float64))
        return solids, colours


def units(z: float) -> int:
    """Height [m] in Z_STEP, limited to what a byte holds."""
    return min(max(math.floor(z / Z_STEP + 0.5), 0), 255)


@njit(cache=True, nogil=True)
def _fill(solids, colours, mask, bottom, top, colour):
    scratch = np.zeros((LAYERS + 1, 3), np.int64)
    for iy in range(mask.shape[0]):
        for ix in range(mask.shape[1]):
            if mask[iy, ix]:
                insert(solids[iy, ix], colours[iy, ix], bottom, top, colour, scratch)


@njit(cache=True, nogil=True)
def _draw(solids, colours, rows):
    """rows (n, 10): kind, four numbers of the shape, cos, sin, bottom [m], top [m], colour."""
    ny, nx = solids.shape[0], solids.shape[1]
    scratch = np.zeros((LAYERS + 1, 3), np.int64)
    for k in range(rows.shape[0]):
        kind, a, b, p, q, c, s = rows[k, 0], rows[k, 1], rows[k, 2], rows[k, 3], rows[k, 4], rows[k, 5], rows[k, 6]
        bottom = min(max(math.floor(rows[k, 7] / Z_STEP + 0.5), 0), 254)
        top = min(max(math.floor(rows[k, 8] / Z_STEP + 0.5), bottom + 1), 255)
        ix0, iy0, ix1, iy1 = cells_of(kind, a, b, p, q, c, s)
        for iy in range(max(iy0, 0), min(iy1, ny)):
            for ix in range(max(ix0, 0), min(ix1, nx)):
                if kind == _BOX or _inside(kind, (ix + 0.5) * CELL - a, (iy + 0.5) * CELL - b, p, q, c, s):
                    insert(solids[iy, ix], colours[iy, ix], bottom, top, int(rows[k, 9]), scratch)


@njit(cache=True, nogil=True)
def cells_of(kind, a, b, p, q, c, s):
    """Range of cells (ix0, iy0, ix1, iy1), ends excluded, that a primitive can touch."""
    if kind == _BOX:
        ix0, iy0 = math.floor(a / CELL + 0.5), math.floor(b / CELL + 0.5)
        ix1, iy1 = math.floor(p / CELL + 0.5), math.floor(q / CELL + 0.5)
        if ix1 <= ix0:
            ix0 = math.floor(0.5 * (a + p) / CELL)
            ix1 = ix0 + 1
        if iy1 <= iy0:
            iy0 = math.floor(0.5 * (b + q) / CELL)
            iy1 = iy0 + 1
        return ix0, iy0, ix1, iy1
    ex = abs(p * c) + abs(q * s)
    ey = abs(p * s) + abs(q * c)
    return (
        math.floor((a - ex) / CELL),
        math.floor((b - ey) / CELL),
        math.ceil((a + ex) / CELL),
        math.ceil((b + ey) / CELL),
    )


@njit(cache=True, nogil=True)
def _inside(kind, dx, dy, p, q, c, s):
    if kind == _ROTATED:
        return abs(c * dx + s * dy) <= p and abs(c * dy - s * dx) <= q
    return dx * dx + dy * dy <= p * p or (abs(dx) <= 0.5 * CELL and abs(dy) <= 0.5 * CELL)


@njit(cache=True, nogil=True)
def insert(layers, colours, bottom, top, colour, scratch):  # noqa: C901
    """Add [bottom, top) to one cell: join what overlaps, and what touches in the same colour; the taller gives the colour.

    layers (LAYERS, 2), colours (LAYERS,); scratch (LAYERS + 1, 3) is work space. A full cell joins its two closest.
    """
    if layers[0, 1] == 0:
        layers[0, 0], layers[0, 1], colours[0] = bottom, top, colour
        return
    tallest = top - bottom
    n, at = 0, 0
    for i in range(LAYERS):
        low, high = int(layers[i, 0]), int(layers[i, 1])
        if high == 0:
            break
        touch = (low == top or high == bottom) and colours[i] == colour
        if touch or (low < top and bottom < high):
            if high - low > tallest:
                tallest, colour = high - low, int(colours[i])
            bottom, top = min(bottom, low), max(top, high)
        else:
            scratch[n, 0], scratch[n, 1], scratch[n, 2] = low, high, colours[i]
            n += 1
            if high <= bottom:
                at = n
    for i in range(n, at, -1):
        scratch[i, :] = scratch[i - 1, :]
    scratch[at, 0], scratch[at, 1], scratch[at, 2] = bottom, top, colour
    n += 1
    if n > LAYERS:
        _join_closest(scratch)
        n = LAYERS
    for i in range(LAYERS):
        if i < n:
            layers[i, 0], layers[i, 1], colours[i] = scratch[i, 0], scratch[i, 1], scratch[i, 2]
        else:
            layers[i, 0], layers[i, 1], colours[i] = 0, 0, 0


@njit(cache=True, nogil=True)
def _join_closest(rows):
    best, gap = 0, 1000
    for i in range(LAYERS):
        if rows[i + 1, 0] - rows[i, 1] < gap:
            best, gap = i, rows[i + 1, 0] - rows[i, 1]
    if rows[best + 1, 1] - rows[best + 1, 0] > rows[best, 1] - rows[best, 0]:
        rows[best, 2] = rows[best + 1, 2]
    rows[best, 1] = rows[best + 1, 1]
    for i in range(best + 1, LAYERS):
        rows[i, :] = rows[i + 1, :]
