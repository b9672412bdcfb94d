"""Pictures of a table: goal, T and agent, in the colours of the original."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from sim.pusht.geometry import BAR, RADIUS, SIDE, STEM

WHITE, GOAL, BLOCK, AGENT = (255, 255, 255), (144, 238, 144), (119, 136, 153), (65, 105, 225)
_FINE = 3
"""Samples along a pixel's edge."""


def image(agent: NDArray[np.float64], pose: NDArray[np.float64], goal: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """The table from above with the agent (2,) and Ts at `pose` and `goal` (3,), (size, size, 3), y downwards."""
    return _image(agent, pose, goal, size, np.array([WHITE, GOAL, BLOCK, AGENT], np.float64))


@njit(cache=True, nogil=True)
def _image(agent, pose, goal, size, colours):
    out = np.empty((size, size, 3), np.uint8)
    scale = SIDE / (size * _FINE)
    turns = np.array([np.cos(pose[2]), np.sin(pose[2]), np.cos(goal[2]), np.sin(goal[2])])
    for row in range(size):
        for column in range(size):
            sums = np.zeros(3)
            for sample in range(_FINE * _FINE):
                x = (column * _FINE + sample % _FINE + 0.5) * scale
                y = (row * _FINE + sample // _FINE + 0.5) * scale
                what = 0
                if (x - agent[0]) ** 2 + (y - agent[1]) ** 2 < RADIUS * RADIUS:
                    what = 3
                elif _inside(x - pose[0], y - pose[1], turns[0], turns[1]):
                    what = 2
                elif _inside(x - goal[0], y - goal[1], turns[2], turns[3]):
                    what = 1
                sums += colours[what]
            for k in range(3):
                out[row, column, k] = np.uint8(sums[k] / (_FINE * _FINE) + 0.5)
    return out


@njit(cache=True, nogil=True)
def _inside(dx, dy, c, s):
    x, y = c * dx + s * dy, -s * dx + c * dy
    return (BAR[0] <= x <= BAR[1] and BAR[2] <= y <= BAR[3]) or (STEM[0] <= x <= STEM[1] and STEM[2] <= y <= STEM[3])
