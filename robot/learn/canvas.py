"""A small anti-aliased drawing board in pixels, x right and y down, over matplotlib's Agg renderer (no figures, no pyplot)."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robot.core.optional import require

Colour = tuple[float, float, float]
"""Red, green, blue in 0..1."""


def rgb(text: str) -> Colour:
    """The colour of '#rrggbb'."""
    return int(text[1:3], 16) / 255, int(text[3:5], 16) / 255, int(text[5:7], 16) / 255


class Canvas:
    """Pixels (height, width, 4); every call draws at once, over what is there."""

    def __init__(self, width: int, height: int) -> None:
        agg = require("matplotlib.backends.backend_agg", extra="train")
        self._bases = require("matplotlib.backend_bases", extra="train")
        self._fonts = require("matplotlib.font_manager", extra="train")
        self._path = require("matplotlib.path", extra="train").Path
        self._identity = require("matplotlib.transforms", extra="train").IdentityTransform()
        self.width, self.height = width, height
        self._renderer: Any = agg.RendererAgg(width, height, 72.0)
        self.pixels: NDArray[np.uint8] = np.asarray(self._renderer.buffer_rgba())
        self._fonts_made: dict[tuple[float, bool], Any] = {}

    def image(self, x: int, y: int, picture: NDArray[np.uint8]) -> None:
        """Copy an RGB picture (h, w, 3) with its top left corner at (x, y)."""
        h, w = picture.shape[:2]
        self.pixels[y : y + h, x : x + w, :3] = picture
        self.pixels[y : y + h, x : x + w, 3] = 255

    def clip(self, box: tuple[float, float, float, float] | None) -> None:
        """Draw only inside (x0, y0, x1, y1) from here on; None is everywhere."""
        self._clip = None
        if box is not None:
            bbox = require("matplotlib.transforms", extra="train").Bbox
            self._clip = bbox([[box[0], self.height - box[3]], [box[2], self.height - box[1]]])

    _clip: Any = None

    def line(
        self,
        points: ArrayLike,
        colour: Colour,
        width: float,
        alpha: float = 1.0,
        dashes: tuple[float, ...] = (),
        closed: bool = False,
    ) -> None:
        """A stroke through points (n, 2) with round joins."""
        gc = self._context(colour, alpha, width)
        if dashes:
            gc.set_dashes(0, dashes)
        self._renderer.draw_path(gc, self._outline(points, closed), self._identity, None)

    def polygon(self, points: ArrayLike, colour: Colour, alpha: float = 1.0) -> None:
        """A filled area with corners (n, 2)."""
        gc = self._context(colour, alpha, 0.0)
        self._renderer.draw_path(gc, self._outline(points, True), self._identity, (*colour, alpha))

    def disc(self, x: float, y: float, radius: float, colour: Colour, alpha: float = 1.0) -> None:
        self.polygon(circle(x, y, radius), colour, alpha)

    def ring(
        self, x: float, y: float, radius: float, colour: Colour, width: float, alpha: float = 1.0, dashes: tuple[float, ...] = ()
    ) -> None:
        self.line(circle(x, y, radius), colour, width, alpha, dashes, closed=True)

    def box(self, x: float, y: float, w: float, h: float, colour: Colour, alpha: float = 1.0, radius: float = 0.0) -> None:
        """A filled rectangle with its top left corner at (x, y) and rounded corners."""
        self.polygon(rounded(x, y, w, h, radius), colour, alpha)

    def text(self, x: float, y: float, text: str, colour: Colour, size: float, bold: bool = False, align: str = "left") -> float:
        """Write with the baseline at y; align is 'left', 'centre' or 'right' of x. Returns the width [px]."""
        font = self._font(size, bold)
        width = self._renderer.get_text_width_height_descent(text, font, False)[0]
        left = x - {"left": 0.0, "centre": 0.5, "right": 1.0}[align] * width
        self._renderer.draw_text(self._context(colour, 1.0, 1.0), round(left), round(y), text, font, 0)
        return width

    def _font(self, size: float, bold: bool) -> Any:
        if (size, bold) not in self._fonts_made:
            properties = self._fonts.FontProperties(family="DejaVu Sans", size=size, weight="bold" if bold else "normal")
            self._fonts_made[size, bold] = properties
        return self._fonts_made[size, bold]

    def _context(self, colour: Colour, alpha: float, width: float) -> Any:
        gc = self._bases.GraphicsContextBase()
        gc.set_foreground((*colour, alpha), isRGBA=True)
        gc.set_alpha(alpha)
        gc.set_linewidth(width)
        gc.set_capstyle("round")
        gc.set_joinstyle("round")
        if self._clip is not None:
            gc.set_clip_rectangle(self._clip)
        return gc

    def _outline(self, points: ArrayLike, closed: bool) -> Any:
        corners = np.array(points, np.float64).reshape(-1, 2)
        corners[:, 1] = self.height - corners[:, 1]
        if closed:
            corners = np.concatenate([corners, corners[:1]])
        return self._path(corners, closed=closed)


def circle(x: float, y: float, radius: float) -> NDArray[np.float64]:
    """A regular polygon (n, 2) that looks round at this radius [px]."""
    angle = np.linspace(0.0, 2 * np.pi, max(12, int(4 * np.sqrt(radius) + 8)), endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def rounded(x: float, y: float, w: float, h: float, radius: float) -> NDArray[np.float64]:
    """Corners (n, 2) of a rectangle with quarter circles of `radius` [px] at its corners."""
    if radius <= 0.0:
        return np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    quarter = np.linspace(0.0, np.pi / 2, 7)
    centres = [
        (x + w - radius, y + radius),
        (x + w - radius, y + h - radius),
        (x + radius, y + h - radius),
        (x + radius, y + radius),
    ]
    turns = [-np.pi / 2, 0.0, np.pi / 2, np.pi]
    parts = [
        np.stack([cx + radius * np.cos(quarter + turn), cy + radius * np.sin(quarter + turn)], axis=1)
        for (cx, cy), turn in zip(centres, turns, strict=True)
    ]
    return np.concatenate(parts)


def gradient(stops: ArrayLike, at: ArrayLike) -> NDArray[np.float64]:
    """Colours (…, 3) at positions 0..1 of a ramp through evenly spaced stops (k, 3)."""
    table = np.asarray(stops, np.float64)
    where = np.clip(np.asarray(at, np.float64), 0.0, 1.0)
    grid = np.linspace(0.0, 1.0, len(table))
    return np.stack([np.interp(where, grid, table[:, channel]) for channel in range(3)], axis=-1)
