"""The cross-entropy method over PushT's true physics: which ways of the target bring the T nearest, by trying and refining.

A way is a line through a few knots, walked at even speed from where the agent is; every candidate is rolled out on its own table.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from sim.pusht.geometry import SIDE, coverage
from sim.pusht.physics import Tables
from sim.pusht.planner import corner_distance, simulate

Array = NDArray[np.float64]


@njit(cache=True, nogil=True, parallel=True)
def tried(function, spaces, agents, blocks, state, goal, threshold, knots, stride, near, step_cost, targets, costs):
    """Cost of each way in `knots` (N, K, 2) from `state` (7,); the targets (N, K * stride, 2) and costs (N,) are filled."""
    for n in prange(len(costs)):
        x, y, k = state[0], state[1], 0
        for j in range(knots.shape[1]):
            for i in range(1, stride + 1):
                targets[n, k, 0] = min(max(x + (knots[n, j, 0] - x) * i / stride, 0.0), SIDE)
                targets[n, k, 1] = min(max(y + (knots[n, j, 1] - y) * i / stride, 0.0), SIDE)
                k += 1
            x, y = knots[n, j, 0], knots[n, j, 1]
        final = np.empty(3)
        count = simulate(function, spaces[n], agents[n], blocks[n], state, targets[n], k, goal, threshold, final)
        if coverage(final, goal) > threshold:
            costs[n] = -10.0 + step_cost * count
        else:
            c, s = np.cos(final[2]), np.sin(final[2])
            gap = np.hypot(x - (final[0] - 45.0 * s), y - (final[1] + 45.0 * c))
            costs[n] = corner_distance(final, goal) + near * gap + step_cost * k


class Cem:
    """Tables to try ways on; `best` refines a guess."""

    def __init__(
        self, population: int, elites: int, rounds: int, knots: int, stride: int, step_cost: float, threshold: float
    ) -> None:
        self.population, self.elites, self.rounds, self.knots, self.stride = population, elites, rounds, knots, stride
        self.step_cost, self.threshold = step_cost, threshold
        self.tables = Tables(population)
        for n in range(population):
            self.tables.place(n, (50.0, 50.0), (256.0, 256.0, 0.0))

    def best(
        self, state: Array, goal: Array, guess: Array | None, spread: float, rng: np.random.Generator
    ) -> tuple[Array, Array]:
        """The best way found: knots (K, 2) and targets (K * stride, 2).

        Args:
            state: of the table, (7,).
            goal: pose, (3,).
            guess: knots to begin with, (K, 2), or None.
            spread: standard deviation of the first candidates [px].
            rng: of the candidates.
        """
        block = state[4:6] + 45.0 * np.array([-np.sin(state[6]), np.cos(state[6])])
        share = (np.arange(self.knots) + 1)[:, None] / self.knots
        mean = state[:2] + share * (block - state[:2]) if guess is None else guess
        deviation = np.full((self.knots, 2), spread)
        targets, costs = np.zeros((self.population, self.knots * self.stride, 2)), np.zeros(self.population)
        best, way, least = mean, targets[0], np.inf
        a = self.tables.addresses
        for _ in range(self.rounds):
            drawn = mean + deviation * np.cumsum(rng.standard_normal((self.population, self.knots, 2)), axis=1)
            drawn[0] = mean
            drawn = np.clip(drawn, 0.0, SIDE)
            tried(
                self.tables.function, a[0], a[1], a[2], state, goal, self.threshold, drawn, self.stride, 0.05, self.step_cost,
                targets, costs,
            )  # fmt: skip
            order = np.argsort(costs)[: self.elites]
            if costs[order[0]] < least:
                least, best, way = float(costs[order[0]]), drawn[order[0]].copy(), targets[order[0]].copy()
            mean = drawn[order].mean(0)
            deviation = 0.3 * deviation + 0.7 * drawn[order].std(0) / np.sqrt(np.arange(self.knots) + 1.0)[:, None]
        return best, way
