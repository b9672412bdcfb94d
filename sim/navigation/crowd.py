"""Walking people and carts: upright cylinders that wander between free places and keep off walls.

They are no chasers: each heads for a place of its own and stops while a robot stands within arm's reach in front of it, so
that who does not move is not run over. Each world draws from a counter-based generator of its own.
"""

import math

import numpy as np
from numba import njit

from robot.core.errors import ConfigError
from sim.navigation.scene import CELL

DENSITIES = {"none": 0.0, "low": 2.0, "medium": 5.0, "high": 9.0}
"""Moving obstacles in 100 m² of free floor."""
CART_SHARE = 0.2
"""Share of carts (radius 0.35 m, height 1.0 m, 0.3 to 0.6 m/s); the rest are people (0.25 m, 1.7 m, 0.5 to 1.2 m/s)."""
ARM = 0.6
"""A walker stops while a robot's centre is within this and both radii in front of it [m]."""
ROBOT = 0.3
"""Radius a walker ascribes to a robot [m]."""


class Crowd:
    """`discs` float32 (B, M, 4): x, y, radius, height [m] in frame w; radius 0 is absent."""

    def __init__(self, num_worlds: int, max_agents: int) -> None:
        self.discs = np.zeros((num_worlds, max_agents, 4), np.float32)
        self.target = np.zeros((num_worlds, max_agents, 2))
        self.speed = np.zeros((num_worlds, max_agents))
        self.patience = np.zeros((num_worlds, max_agents))
        self.state = np.zeros(num_worlds, np.uint64)
        self.free: list[np.ndarray] = [np.zeros((1, 1), np.float32)] * num_worlds

    def reset(
        self, world: int, clearance: np.ndarray, density: str, rng: np.random.Generator, keep_clear: tuple[float, float, float]
    ) -> None:
        """Place the walkers of a world.

        Args:
            clearance: (ny, nx) [m] for a walker's height.
            density: a key of DENSITIES.
            keep_clear: x, y, radius [m] where nobody starts.
        """
        if density not in DENSITIES:
            raise ConfigError(f"crowd '{density}' does not exist; accepted: {', '.join(DENSITIES)}")
        self.discs[world] = 0.0
        self.free[world] = clearance
        self.state[world] = rng.integers(2**63)
        places = np.argwhere(clearance > 0.45)
        x, y = (places[:, 1] + 0.5) * CELL, (places[:, 0] + 0.5) * CELL
        far = np.hypot(x - keep_clear[0], y - keep_clear[1]) > keep_clear[2]
        floor = (clearance > 0).sum() * CELL**2
        count = min(self.discs.shape[1], round(DENSITIES[density] * floor / 100.0), int(far.sum()))
        chosen = rng.choice(np.nonzero(far)[0], count, replace=False) if count else np.zeros(0, np.int64)
        cart = rng.random(count) < CART_SHARE
        slots = self.discs[world, :count]
        slots[:, 0], slots[:, 1] = x[chosen], y[chosen]
        slots[:, 2], slots[:, 3] = np.where(cart, 0.35, 0.25), np.where(cart, 1.0, 1.7)
        self.speed[world, :count] = np.where(cart, rng.uniform(0.3, 0.6, count), rng.uniform(0.5, 1.2, count))
        self.target[world, :count] = slots[:, :2]
        self.patience[world] = 0.0

    def step(self, dt: float, robots: np.ndarray) -> None:
        """Advance by `dt` [s]; robots (B, 2) are their places in frame w."""
        for world in np.nonzero(self.discs[:, 0, 2] > 0)[0]:
            self.state[world] = _step(
                self.discs[world], self.target[world], self.speed[world], self.patience[world], self.free[world],
                self.state[world], robots[world, 0], robots[world, 1], dt,
            )  # fmt: skip


@njit(cache=True, nogil=True)
def _draw(state):
    """The next state of a splitmix64 generator and a uniform number of it."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    value = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, float((value ^ (value >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53


@njit(cache=True, nogil=True)
def _room(free, x, y):
    row, col = int(y / CELL), int(x / CELL)
    if row < 0 or col < 0 or row >= free.shape[0] or col >= free.shape[1]:
        return 0.0
    return free[row, col]


@njit(cache=True, nogil=True)
def _heading(free, x, y, goal_x, goal_y, radius, reach):
    """The direction nearest to the goal's that keeps off solids over the next `reach` [m]; NaN if there is none."""
    ahead = math.atan2(goal_y - y, goal_x - x)
    for k in range(13):
        turn = ((k + 1) // 2) * 0.26 * (1 if k % 2 else -1)
        u, v = x + reach * math.cos(ahead + turn), y + reach * math.sin(ahead + turn)
        if _room(free, u, v) > radius + 0.03 and _room(free, 0.5 * (x + u), 0.5 * (y + v)) > radius + 0.03:
            return ahead + turn
    return math.nan


@njit(cache=True, nogil=True)
def _step(discs, target, speed, patience, free, state, robot_x, robot_y, dt):
    for k in range(discs.shape[0]):
        radius = discs[k, 2]
        if radius <= 0.0:
            continue
        x, y = float(discs[k, 0]), float(discs[k, 1])
        patience[k] -= dt
        if patience[k] <= 0.0 or math.hypot(target[k, 0] - x, target[k, 1] - y) < 0.3:
            for _ in range(8):
                state, a = _draw(state)
                state, b = _draw(state)
                u, v = a * free.shape[1] * CELL, b * free.shape[0] * CELL
                if _room(free, u, v) > radius + 0.15:
                    target[k, 0], target[k, 1] = u, v
                    break
            state, a = _draw(state)
            patience[k] = 4.0 + 8.0 * a
        heading = _heading(free, x, y, target[k, 0], target[k, 1], radius, max(0.3, speed[k] * dt))
        if math.isnan(heading):
            patience[k] = 0.0
            continue
        dx, dy = math.cos(heading), math.sin(heading)
        to_x, to_y = robot_x - x, robot_y - y
        near = math.hypot(to_x, to_y) < ARM + radius + ROBOT
        if near and to_x * dx + to_y * dy > 0.0:
            continue
        u, v = x + speed[k] * dt * dx, y + speed[k] * dt * dy
        if _room(free, u, v) > radius:
            discs[k, 0], discs[k, 1] = u, v
        else:
            patience[k] = 0.0
    return state
