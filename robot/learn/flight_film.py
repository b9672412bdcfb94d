"""A flight as a video: the vehicle in space with its trail and the reference, its error, its motors, and what its memory does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robot.core.optional import require
from robot.core.rotation import to_matrix
from robot.learn.canvas import Canvas, gradient, rgb
from robot.learn.video import write_video

Array = NDArray[np.floating[Any]]
WIDTH, HEIGHT, PANEL = 960, 600, 320
FPS = 25
BACK, GRID, INK, QUIET = (rgb(c) for c in ("#10141d", "#2a3346", "#eef2f8", "#93a0b8"))
BODY, FRONT, TRAIL, REFERENCE = (rgb(c) for c in ("#dfe7f5", "#ff8fb3", "#5cc8ff", "#4ade9c"))
COLD_HOT = np.array([rgb(c) for c in ("#5cc8ff", "#1d2432", "#ff8fb3")])


@dataclass
class Flight:
    """What happened, a row a control period."""

    title: str
    dt: float
    """Control period [s]."""
    states: Array
    """(T, 17)."""
    references: Array
    """Positions to be at, (T, 3)."""
    actions: Array
    """(T, 4)."""
    memory: Array
    """(T, H), or (T, 0) for a policy without."""
    rotors: Array
    """Hubs from the centre of mass (4, 3) [m]."""


@dataclass
class Errors:
    """Distances of all flights from their references."""

    dt: float
    """Control period [s]."""
    distance: Array
    """(T, N) [m]; NaN after a flight's end."""
    complete: int
    """Flights that lasted until the time limit."""


@torch.no_grad()
def record(policy: Any, env: Any, count: int, seed: int) -> list[tuple[str, Flight | Errors]]:
    """Fly the episodes 0 … num_envs - 1 of a quadrotor env: the errors of all and the first `count` to film, named.

    Other envs give nothing.
    """
    from sim.envs.quadrotor import Quadrotor

    if not isinstance(env, Quadrotor):
        return []
    observation, _ = env.reset(seed=seed)
    memory, open_ = policy.initial_memory(env.num_envs), torch.ones(env.num_envs, dtype=torch.bool)
    count, dt = min(count, env.num_envs), env.config.dt
    hubs, mass = env.params["rotor_positions"].clone(), env.params["mass"].clone()
    rows, ends = [], torch.full((env.num_envs,), env.max_steps)
    while bool(open_.any()):
        plan = policy.plan(observation, memory)
        memory = plan.memory
        for action in plan.actions.unbind(1):
            where, _ = env.reference.at(env.steps * dt)
            hidden = torch.cat([v[:count].flatten(1) for v in memory.values()], 1) if memory else torch.zeros(count, 0)
            distance = torch.where(open_, (env.state[:, :3] - where).norm(dim=1), torch.nan)
            rows.append((distance, env.state[:count].clone(), where[:count], action[:count], hidden))
            observation, _, _, _, info = env.step(action)
            ends[open_ & info["done"]] = len(rows)
            open_ &= ~info["done"]
    distance, *columns = (torch.stack(column).numpy() for column in zip(*rows, strict=True))
    named: list[tuple[str, Flight | Errors]] = [
        ("errors-of-all-flights", Errors(dt, distance, int((ends == env.max_steps).sum())))
    ]
    for i in range(count):
        title = f"episode {i}, {1000 * float(mass[i]):.0f} g, {env.config.reference.task.name.replace('_', ' ')}"
        states, references, actions, hidden = (column[: ends[i], i] for column in columns)
        flight = Flight(title, dt, states, references, actions, hidden, hubs[i].numpy())
        named.append((f"episode-{i:04d}", flight))
    return named


def draw(record: Flight | Errors, stem: Path) -> Path:
    """A flight as <stem>.mp4, errors as <stem>.png."""
    return film(record, stem.with_suffix(".mp4")) if isinstance(record, Flight) else plot(record, stem.with_suffix(".png"))


def plot(errors: Errors, path: Path) -> Path:
    """Distance to the reference over time: each flight, the middle half and the median of those still flying."""
    figure = require("matplotlib.figure", extra="train").Figure(figsize=(9.6, 6), layout="constrained")
    axis = figure.subplots()
    distance = errors.distance.clip(1e-4)
    time = errors.dt * np.arange(len(distance))
    axis.plot(time, distance, color="#8a8f98", linewidth=0.5, alpha=min(1.0, 10 / distance.shape[1]))
    low, middle, high = np.nanpercentile(distance, [25, 50, 75], axis=1)
    axis.fill_between(time, low, high, color="#2a7fd4", alpha=0.25, linewidth=0, label="middle half")
    axis.plot(time, middle, color="#2a7fd4", linewidth=2, label="median")
    axis.set(xlabel="time [s]", ylabel="distance to the reference [m]", yscale="log", xlim=(0, time[-1]))
    axis.set_title(f"{distance.shape[1]} flights, {errors.complete} until the time limit")
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path


def film(flight: Flight, path: Path | str) -> Path:
    """Write the video in real time."""
    return write_video(path, frames(flight), fps=FPS)


def frames(flight: Flight) -> Iterator[NDArray[np.uint8]]:
    """Pictures (H, W, 3)."""
    step = max(1, round(1 / FPS / flight.dt))
    view = View(flight)
    for k in range(0, len(flight.states), step):
        board = Canvas(WIDTH, HEIGHT)
        board.box(0, 0, WIDTH, HEIGHT, BACK)
        view.draw(board, k)
        _panel(board, flight, k)
        yield board.pixels[..., :3].copy()


class View:
    """Perspective from behind, above and to the side, on all that happens."""

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        points = np.concatenate([flight.states[:, :3], flight.references])
        low, high = np.percentile(points, 1, axis=0), np.percentile(points, 99, axis=0)
        self.centre = (low + high) / 2
        self.size = max(float((high - low).max()), 0.6)
        self.floor = float(low[2]) - 0.35 * self.size
        eye = self.centre + self.size * np.array([-1.6, -1.1, 0.9])
        ahead = (self.centre - eye) / np.linalg.norm(self.centre - eye)
        right = np.cross(ahead, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        self.eye, self.axes = eye, np.stack([right, np.cross(right, ahead), ahead])
        self.scale = 1.5 * (WIDTH - PANEL)

    def pixels(self, points: Array) -> Array:
        """(n, 3) in the world to (n, 2)."""
        local = (np.asarray(points) - self.eye) @ self.axes.T
        depth = np.maximum(local[:, 2:], 0.05 * self.size)
        return np.array([(WIDTH - PANEL) / 2, HEIGHT / 2]) + self.scale * local[:, :2] / depth * [1, -1]

    def draw(self, board: Canvas, k: int) -> None:
        flight = self.flight
        board.clip((0, 0, WIDTH - PANEL, HEIGHT))
        for offset in np.linspace(-1, 1, 9) * self.size:
            x, y = self.centre[:2]
            for a, b in (((offset, -self.size), (offset, self.size)), ((-self.size, offset), (self.size, offset))):
                ends = np.array([[x + a[0], y + a[1], self.floor], [x + b[0], y + b[1], self.floor]])
                board.line(self.pixels(ends), GRID, 1.0)
        board.line(self.pixels(flight.references), REFERENCE, 1.5, 0.5)
        board.line(self.pixels(flight.states[max(0, k - 150) : k + 1, :3]), TRAIL, 2.0, 0.8)
        shadow = flight.states[k, :3].copy()
        shadow[2] = self.floor
        board.line(self.pixels(np.array([flight.states[k, :3], shadow])), GRID, 1.0, dashes=(3, 4))
        goal = self.pixels(flight.references[k : k + 1])[0]
        board.ring(float(goal[0]), float(goal[1]), 6, REFERENCE, 2.0)
        self._vehicle(board, flight.states[k])
        board.clip(None)
        board.text(16, 28, flight.title, INK, 15, bold=True)
        board.text(16, 48, f"{k * flight.dt:5.2f} s", QUIET, 13)

    def _vehicle(self, board: Canvas, state: Array) -> None:
        rotation = to_matrix(state[3:7])
        larger = max(1.0, 0.07 * self.size / float(np.linalg.norm(self.flight.rotors, axis=1).max()))
        hubs = self.flight.rotors * larger
        places = state[:3] + hubs @ rotation.T
        turn = np.linspace(0, 2 * np.pi, 25)
        radius = 0.55 * float(np.abs(hubs[0]).max())
        circle = radius * np.stack([np.cos(turn), np.sin(turn), np.zeros_like(turn)], axis=1)
        for k, place in enumerate(places):
            board.line(self.pixels(np.stack([state[:3], place])), BODY, 3.0)
            colour = FRONT if k in (0, 3) else TRAIL
            board.polygon(self.pixels(place + circle @ rotation.T), colour, 0.25 + 0.6 * float(state[13 + k]))


def _panel(board: Canvas, flight: Flight, k: int) -> None:
    """Error over time, motors, memory."""
    x0, x1 = WIDTH - PANEL + 20, WIDTH - 20
    error = np.linalg.norm(flight.states[:, :3] - flight.references, axis=1)
    board.text(x0, 40, f"distance to the reference {error[k]:.3f} m", INK, 13)
    _curve(board, (x0, 52, x1, 152), error[: k + 1], len(error), 0.0, max(float(np.percentile(error, 99.5)), 0.05), TRAIL)
    board.text(x0, 190, "motor commands", INK, 13)
    for j, colour in enumerate((FRONT, TRAIL, TRAIL, FRONT)):
        _curve(board, (x0, 202, x1, 302), flight.actions[: k + 1, j], len(error), -1.0, 1.0, colour)
    if flight.memory.shape[1]:
        board.text(x0, 340, "memory", INK, 13)
        columns = min(k + 1, 140)
        cells = (flight.memory[k + 1 - columns : k + 1].T + 1) / 2
        colours = (255 * gradient(COLD_HOT, cells.clip(0, 1))).astype(np.uint8)
        rows = max(1, 200 // colours.shape[0])
        board.image(x0, 352, np.repeat(np.repeat(colours, rows, axis=0), 2, axis=1))


def _curve(
    board: Canvas, box: tuple[int, int, int, int], values: Array, length: int, low: float, high: float, colour: Any
) -> None:
    x0, y0, x1, y1 = box
    board.line([[x0, y1], [x1, y1]], GRID, 1.0)
    x = x0 + (x1 - x0) * np.arange(len(values)) / max(length - 1, 1)
    y = y1 - (y1 - y0) * ((values - low) / (high - low)).clip(0, 1)
    if len(values) > 1:
        board.line(np.stack([x, y], axis=1), colour, 1.5, 0.9)
