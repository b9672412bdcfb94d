"""One navigation episode as a video: a map from above, what the policy considered, coloured by its critic, and what it saw."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import DatasetError
from robot.core.optional import require
from robot.learn.canvas import Canvas, gradient, rgb
from robot.learn.video import write_video

Array = NDArray[np.floating[Any]]
FREE, OVERHEAD, LOW, TALL = range(4)
"""Height classes of a cell: floor; only above the robot; an obstacle; an obstacle that blocks the view of a person."""

SIZE = 640
"""Edge of the map [px]; the panel beside it is half as wide."""
PANEL = 320
MARGIN = 1.5
"""Shown around everything that happened [m]."""
SMALLEST = 8.0
"""Edge of the smallest map [m]."""
SPEED_UP = 4.0
"""Video time over episode time."""
HOLD = 1.5
"""How long the last frame stays [s]."""

FLOOR, GRID, OVERHANG, FURNITURE, WALL, OUTSIDE = (
    np.array(rgb(c)) for c in ("#161b26", "#1d2432", "#1f2a3c", "#39475f", "#66758f", "#0d1017")
)
INK, QUIET, PANEL_INK = rgb("#eef2f8"), rgb("#93a0b8"), rgb("#10141d")
ROBOT, TRAIL, CHOSEN, PERSON, GOAL, BAD = (rgb(c) for c in ("#5cc8ff", "#5cc8ff", "#ffffff", "#ff8fb3", "#4ade9c", "#ff5a5f"))
VALUES = np.array([rgb(c) for c in ("#6b3fa0", "#b63679", "#ee605e", "#fca468", "#fcf0a8")])
"""Critic values from worst to best: brighter is better, also for the colour-blind and in print."""
DEPTHS = np.array([rgb(c) for c in ("#fcf0a8", "#fca468", "#ee605e", "#b63679", "#6b3fa0", "#241b4d")])
"""Depth from near to far."""


class HasSolids(Protocol):
    """What `height_classes` needs of a scene."""

    def occupied(self, bottom: float, top: float) -> NDArray[np.bool_]: ...


@dataclass
class Step:
    """What was known when one plan was made; frame `w`, metres, radians.

    Attributes:
        pose: (3,) x, y, yaw of the robot.
        path: (k, 2) waypoints of the plan that was chosen.
        candidates: (n, k, 2) waypoints of all plans considered, or None.
        values: (n,) critic value of each, or None.
        discs: (m, 3) x, y, radius of moving obstacles; radius 0 is absent.
        depth: (h, w) depth image [m], 0 is no return, or None.
        speed: forward speed [m/s].
    """

    pose: Array
    path: Array
    candidates: Array | None = None
    values: Array | None = None
    discs: Array = field(default_factory=lambda: np.zeros((0, 3)))
    depth: Array | None = None
    speed: float = 0.0


@dataclass
class Trace:
    """One recorded episode.

    Attributes:
        classes: uint8 (ny, nx), FREE, OVERHEAD, LOW or TALL; cell (iy, ix) covers x from ix * cell, y from iy * cell.
        cell: edge of a cell [m].
        radius: of the robot [m].
        hfov: horizontal field of view of its camera [rad].
        dt: time from one step to the next [s].
        goal: (2,) x, y in frame `w`, or None where there is none.
        success_distance: radius of the goal [m].
        episode: its number.
        family: of the scene.
        embodiment: name of the robot.
        outcome: 'success', 'collision' or 'timeout'.
        steps: one a plan, in order; the last one may be the final state.
    """

    classes: NDArray[np.uint8]
    cell: float
    radius: float
    hfov: float
    dt: float
    goal: Array | None
    success_distance: float
    episode: int
    family: str
    embodiment: str
    outcome: str
    steps: list[Step]


def height_classes(scene: HasSolids, height: float, ground: float = 0.04, tall: float = 1.5) -> NDArray[np.uint8]:
    """Classes (ny, nx) of a scene for a robot of `height` [m] that rolls over what is below `ground` [m]."""
    classes = np.where(scene.occupied(height, math.inf), OVERHEAD, FREE).astype(np.uint8)
    obstacle = scene.occupied(ground, height)
    classes[obstacle] = LOW
    classes[obstacle & scene.occupied(tall, math.inf)] = TALL
    return classes


def render(trace: Trace, path: Path | str, fps: int = 20) -> Path:
    """Write the video of an episode, atomically; returns its path."""
    return write_video(path, frames(trace, fps), fps)


def frames(trace: Trace, fps: int = 20) -> Iterator[NDArray[np.uint8]]:
    """RGB pictures (SIZE, SIZE + PANEL, 3) of an episode at SPEED_UP times its speed; moves are interpolated between steps."""
    if not trace.steps:
        raise DatasetError(f"episode {trace.episode} has no steps to draw")
    board = _Board(trace)
    between = max(1, round(trace.dt / SPEED_UP * fps))
    last = len(trace.steps) - 1
    for index in range(last):
        for part in range(between):
            yield board.draw(index, part / between, final=False)
    closing = board.draw(last, 0.0, final=True)
    for _ in range(max(1, round(HOLD * fps))):
        yield closing


class _Board:
    """Draws the frames of one trace: what never changes is drawn once."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.origin, self.scale = _view(trace)
        self.range = _value_range(trace)
        self.canvas = Canvas(SIZE + PANEL, SIZE)
        self.canvas.image(0, 0, _backdrop(trace.classes, trace.cell, self.origin, self.scale))
        self._draw_goal()
        self._draw_panel()
        self.still = self.canvas.pixels.copy()

    def draw(self, index: int, part: float, final: bool) -> NDArray[np.uint8]:
        """The picture at a fraction `part` of the way from step `index` to the next."""
        steps, canvas = self.trace.steps, self.canvas
        step = steps[index]
        following = steps[min(index + 1, len(steps) - 1)]
        pose = step.pose + part * np.append((following.pose - step.pose)[:2], _turn(step.pose[2], following.pose[2]))
        canvas.pixels[:] = self.still
        canvas.clip((0, 0, SIZE, SIZE))
        self._draw_people(step, following, part)
        self._draw_view(pose)
        trail = np.array([s.pose[:2] for s in steps[: index + 1]] + [pose[:2]])
        canvas.line(self.px(trail), TRAIL, 2.4, alpha=0.75)
        if not final:
            self._draw_plans(step)
        self._draw_robot(pose, self.trace.outcome if final else "")
        canvas.clip(None)
        self._draw_state(step, (index + part) * self.trace.dt, final)
        return canvas.pixels[..., :3].copy()

    def px(self, points: Array) -> NDArray[np.float64]:
        """World points (…, 2) [m] to pixels (…, 2); north is up."""
        offset = (np.asarray(points, np.float64)[..., :2] - self.origin) * self.scale
        return np.stack([offset[..., 0], SIZE - offset[..., 1]], axis=-1)

    def _draw_goal(self) -> None:
        canvas, trace = self.canvas, self.trace
        canvas.clip((0, 0, SIZE, SIZE))
        x, y = self.px(trace.steps[0].pose[:2])
        canvas.ring(x, y, 6.0, QUIET, 2.0)
        if trace.goal is not None:
            x, y = self.px(trace.goal)
            canvas.disc(x, y, trace.success_distance * self.scale, GOAL, alpha=0.10)
            canvas.ring(x, y, trace.success_distance * self.scale, GOAL, 1.6, alpha=0.8, dashes=(5.0, 4.0))
            canvas.polygon(_star(x, y, 11.0), GOAL)
        metre = 2.0 if self.scale * 2.0 < 200 else 1.0
        canvas.line([(20, SIZE - 20), (20 + metre * self.scale, SIZE - 20)], INK, 3.0)
        canvas.text(20, SIZE - 30, f"{metre:.0f} m", INK, 15)
        canvas.clip(None)

    def _draw_people(self, step: Step, following: Step, part: float) -> None:
        discs = np.asarray(step.discs, np.float64).reshape(-1, 3)
        later = np.asarray(following.discs, np.float64).reshape(-1, 3)
        if later.shape == discs.shape:
            stays = np.linalg.norm((later - discs)[:, :2], axis=1) < 3.0 * self.trace.dt
            discs = discs + part * stays[:, None] * (later - discs)
        for x, y, radius in discs[discs[:, 2] > 0.0]:
            u, v = self.px(np.array([x, y]))
            self.canvas.disc(u, v, radius * self.scale, PERSON, alpha=0.85)
            self.canvas.disc(u, v, 0.45 * radius * self.scale, rgb("#7a2946"), alpha=0.9)

    def _draw_view(self, pose: Array) -> None:
        """The camera's field of view, as far as trajectories reach."""
        angle = pose[2] + np.linspace(-0.5, 0.5, 24) * self.trace.hfov
        arc = pose[:2] + 3.5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        self.canvas.polygon(self.px(np.concatenate([pose[None, :2], arc])), ROBOT, alpha=0.07)

    def _draw_plans(self, step: Step) -> None:
        if step.candidates is not None and len(step.candidates):
            values = np.full(len(step.candidates), np.nan) if step.values is None else np.asarray(step.values, np.float64)
            start = np.broadcast_to(step.pose[:2], (len(step.candidates), 1, 2))
            lines = self.px(np.concatenate([start, step.candidates], axis=1))
            for k in np.argsort(np.where(np.isfinite(values), values, -np.inf)):
                self.canvas.line(lines[k], self.colour(float(values[k])), 2.2, alpha=0.85)
        chosen = self.px(np.concatenate([step.pose[None, :2], step.path]))
        self.canvas.line(chosen, rgb("#0d1017"), 7.0, alpha=0.55)
        self.canvas.line(chosen, CHOSEN, 4.0)

    def colour(self, value: float) -> tuple[float, float, float]:
        """Of a critic value; grey where there is none."""
        if not np.isfinite(value):
            return QUIET
        low, high = self.range
        r, g, b = gradient(VALUES, (value - low) / (high - low))
        return float(r), float(g), float(b)

    def _draw_robot(self, pose: Array, outcome: str) -> None:
        x, y = self.px(pose[:2])
        radius = max(self.trace.radius * self.scale, 6.0)
        body = {"collision": BAD, "success": GOAL}.get(outcome, ROBOT)
        if outcome:
            self.canvas.ring(x, y, radius + 7, body, 3.0, alpha=0.9)
        self.canvas.disc(x, y, radius + 1.5, rgb("#0d1017"), alpha=0.8)
        self.canvas.disc(x, y, radius, body)
        turn = pose[2] + np.array([0.0, 2.5, math.pi, -2.5])
        reach = radius * np.array([0.78, 0.66, 0.25, 0.66])
        nose = np.stack([x + reach * np.cos(turn), y - reach * np.sin(turn)], axis=1)
        self.canvas.polygon(nose, rgb("#0d1017"))
        if outcome == "collision":
            arm = 0.5 * radius + 9
            for sign in (1, -1):
                self.canvas.line([(x - arm, y - sign * arm), (x + arm, y + sign * arm)], BAD, 4.0)

    def _draw_panel(self) -> None:
        canvas, trace, left = self.canvas, self.trace, SIZE + 24
        canvas.box(SIZE, 0, PANEL, SIZE, PANEL_INK)
        canvas.text(left, 44, f"Episode {trace.episode}", INK, 25, bold=True)
        canvas.text(left, 70, f"{trace.family} · {trace.embodiment}", QUIET, 16)
        if any(step.depth is not None for step in trace.steps):
            canvas.text(left, 108, "Depth camera", QUIET, 15)
        if any(step.candidates is not None for step in trace.steps):
            self._draw_legend_of_values(left, 368)
        self._draw_legend(left, 506)

    def _draw_legend_of_values(self, x: int, y: int) -> None:
        wide = PANEL - 48
        scored = any(step.values is not None for step in self.trace.steps)
        self.canvas.text(x, y, "Candidates by critic value" if scored else "Candidates", QUIET, 15)
        if not scored:
            return
        ramp = (gradient(VALUES, np.linspace(0, 1, wide)) * 255).astype(np.uint8)
        self.canvas.image(x, y + 10, np.broadcast_to(ramp, (12, wide, 3)))
        low, high = self.range
        self.canvas.text(x, y + 40, f"{low:.2g} worse", INK, 14)
        self.canvas.text(x + wide, y + 40, f"better {high:.2g}", INK, 14, align="right")

    def _draw_legend(self, x: int, y: int) -> None:
        canvas, column = self.canvas, 140
        canvas.line([(x, y - 5), (x + 22, y - 5)], CHOSEN, 4.0)
        canvas.text(x + 32, y, "chosen", INK, 15)
        canvas.line([(x + column, y - 5), (x + column + 22, y - 5)], TRAIL, 2.4)
        canvas.text(x + column + 32, y, "travelled", INK, 15)
        y += 28
        canvas.ring(x + 11, y - 5, 6.0, QUIET, 2.0)
        canvas.text(x + 32, y, "start", INK, 15)
        if self.trace.goal is not None:
            canvas.polygon(_star(x + column + 11, y - 5, 10.0), GOAL)
            canvas.text(x + column + 32, y, "goal", INK, 15)
        y += 28
        for k, (name, colour) in enumerate((("obstacle", FURNITURE), ("wall", WALL))):
            canvas.box(x + k * column + 2, y - 14, 18, 18, tuple(colour), radius=3)
            canvas.text(x + k * column + 32, y, name, INK, 15)
        y += 28
        canvas.image(x + 2, y - 14, (_hatched(18, 18) * 255).astype(np.uint8))
        canvas.text(x + 32, y, "overhead", INK, 15)
        if any(np.asarray(step.discs).size for step in self.trace.steps):
            canvas.disc(x + column + 11, y - 5, 8.0, PERSON, alpha=0.9)
            canvas.text(x + column + 32, y, "moving", INK, 15)

    def _draw_state(self, step: Step, seconds: float, final: bool) -> None:
        canvas, left, wide = self.canvas, SIZE + 24, PANEL - 48
        if step.depth is not None:
            canvas.image(left, 120, _depth_picture(step.depth, wide, wide * 3 // 4))
        canvas.text(left, 462, f"{seconds:5.1f} s".strip(), INK, 24, bold=True)
        canvas.text(left + 140, 462, f"{abs(step.speed):.2f} m/s", INK, 24, bold=True)
        if final:
            colour = {"success": GOAL, "collision": BAD}.get(self.trace.outcome, rgb("#f6c453"))
            canvas.box(SIZE / 2 - 80, 20, 160, 40, colour, radius=20)
            canvas.text(SIZE / 2, 47, self.trace.outcome, PANEL_INK, 20, bold=True, align="centre")


def _view(trace: Trace) -> tuple[NDArray[np.float64], float]:
    """Low corner [m] and scale [px/m] of a square that shows everything that happened, inside the scene if it can be."""
    points = [step.pose[:2] for step in trace.steps]
    if trace.goal is not None:
        points += [trace.goal[:2] - trace.success_distance, trace.goal[:2] + trace.success_distance]
    cloud = np.array(points, np.float64)
    low, high = cloud.min(0) - MARGIN, cloud.max(0) + MARGIN
    edge = max(float((high - low).max()), SMALLEST)
    extent = np.array(trace.classes.shape[::-1]) * trace.cell
    centre = (low + high) / 2
    corner = np.where(extent > edge, np.clip(centre - edge / 2, 0.0, np.maximum(extent - edge, 0.0)), (extent - edge) / 2)
    return corner, SIZE / edge


def _value_range(trace: Trace) -> tuple[float, float]:
    """The same colours over a whole episode: the middle 96 % of all values."""
    given = [np.asarray(step.values, np.float64).ravel() for step in trace.steps if step.values is not None]
    values = np.concatenate(given) if given else np.zeros(0)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    low, high = np.percentile(values, [2, 98])
    return (float(low), float(high)) if high - low > 1e-6 else (float(low) - 0.5, float(low) + 0.5)


def _backdrop(classes: NDArray[np.uint8], cell: float, origin: Array, scale: float) -> NDArray[np.uint8]:
    """The map (SIZE, SIZE, 3) with soft edges, from 2 x 2 samples a pixel, and a shadow under what is solid."""
    image, blur = require("PIL.Image", extra="train"), require("PIL.ImageFilter", extra="train")
    along = (np.arange(2 * SIZE) + 0.5) / (2 * scale)
    x, y = origin[0] + along, origin[1] + along[::-1]
    outside = TALL + 1
    ix = np.clip(np.floor(x / cell).astype(int), -1, classes.shape[1]) + 1
    iy = np.clip(np.floor(y / cell).astype(int), -1, classes.shape[0]) + 1
    kinds = np.pad(classes, 1, constant_values=outside)[iy][:, ix].reshape(SIZE, 2, SIZE, 2)
    share = {kind: (kinds == kind).mean((1, 3), dtype=np.float32)[..., None] for kind in range(outside + 1)}
    line = [np.abs(axis[::2] - np.round(axis[::2])) * scale < 0.5 for axis in (x, y)]
    floor = np.where((line[0][None] | line[1][:, None])[..., None], GRID, FLOOR)
    solid = image.fromarray(((share[LOW] + share[TALL])[..., 0] * 255).astype(np.uint8))
    shade = np.roll(np.asarray(solid.filter(blur.GaussianBlur(4.5))), (3, 3), axis=(0, 1))[..., None] / 255.0
    ground = (share[FREE] * floor + share[OVERHEAD] * _hatched(SIZE, SIZE)) * (1.0 - 0.6 * shade)
    picture = ground + share[LOW] * FURNITURE + share[TALL] * WALL + share[outside] * OUTSIDE
    return (picture * 255).astype(np.uint8)


def _hatched(height: int, width: int, period: int = 8) -> NDArray[np.float64]:
    """Stripes (height, width, 3) that stand for what is overhead."""
    stripes = (np.arange(height)[:, None] + np.arange(width)[None]) % period < period // 2
    return np.where(stripes[..., None], OVERHANG * 1.6, OVERHANG)


def _depth_picture(depth: Array, width: int, height: int, far: float = 5.0) -> NDArray[np.uint8]:
    """A depth image in false colours (height, width, 3); no return is nearly black."""
    rows = (np.arange(height) * depth.shape[0]) // height
    columns = (np.arange(width) * depth.shape[1]) // width
    near = np.asarray(depth)[rows][:, columns]
    colours = gradient(DEPTHS, near / far)
    return (np.where((near > 0)[..., None], colours, OUTSIDE) * 255).astype(np.uint8)


def _star(x: float, y: float, radius: float) -> NDArray[np.float64]:
    angle = -np.pi / 2 + np.arange(10) * np.pi / 5
    reach = np.where(np.arange(10) % 2 == 0, radius, 0.45 * radius)
    return np.stack([x + reach * np.cos(angle), y + reach * np.sin(angle)], axis=1)


def _turn(before: float, after: float) -> float:
    """The shorter way round from one yaw to another [rad]."""
    return (after - before + math.pi) % (2 * math.pi) - math.pi
