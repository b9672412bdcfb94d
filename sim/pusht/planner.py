"""Pushes, tried out on tables of the planner's own: which straight push from which point of the T's outline brings it nearest.

A primitive goes around the T to a point before its outline and pushes along the inward normal. Every primitive is rolled out
in the true physics; the cost is the mean distance of the T's corners from where they belong, plus a little for time.
"""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from sim.pusht.geometry import BAR, OUTLINE, RADIUS, SIDE, STEM, coverage
from sim.pusht.physics import DAMPING, DT, STIFFNESS, SUBSTEPS, Tables, address_doubles, call_step

Array = NDArray[np.float64]

LONGEST = 60
"""Control periods of a primitive at most."""
LENGTHS = (0.1, 0.3, 0.6, 1.0)
"""Lengths of pushes, as a share of the distance that is left."""
LOOP = np.array(
    [[-88, -28], [0, -28], [88, -28], [90, 58], [44, 62], [44, 148], [0, 150], [-44, 148], [-44, 62], [-90, 58]], np.float64
)
"""Points around the T in its frame from one to the next of which the agent passes freely [px]."""
_GAP, _CLEAR, _STRIDE = 6.0, 2.0, 22.0
"""Before the outline [px]; free room beside the agent [px]; of the target in a control period [px]."""
_SETTLE = 3
"""Control periods after the last target moved."""
_WORDS, _P, _V, _A, _W = 24, 8, 10, 14, 15


def contacts(spacing: float) -> Array:
    """Points of the outline and their outward normals in the frame of the T, (C, 4), and the edge they are on, as (C, 5)."""
    rows = []
    for k in range(len(OUTLINE)):
        a, b = OUTLINE[k], OUTLINE[(k + 1) % len(OUTLINE)]
        length = float(np.hypot(*(b - a)))
        along = (b - a) / length
        count = max(2, round(length / spacing))
        for j in range(count):
            rows.append([*(a + (b - a) * (j + 0.5) / count), along[1], -along[0], k])
    return np.array(rows)


@njit(cache=True, nogil=True)
def corner_distance(pose, goal):
    """Mean distance of the corners of a T at `pose` from those of a T at `goal` [px]."""
    c, s, gc, gs = np.cos(pose[2]), np.sin(pose[2]), np.cos(goal[2]), np.sin(goal[2])
    total = 0.0
    for k in range(len(OUTLINE)):
        x, y = OUTLINE[k]
        dx = pose[0] + c * x - s * y - goal[0] - gc * x + gs * y
        dy = pose[1] + s * x + c * y - goal[1] - gs * x - gc * y
        total += np.sqrt(dx * dx + dy * dy)
    return total / len(OUTLINE)


@njit(cache=True, nogil=True)
def _gap(x, y, rectangle):
    """Distance of a point from a rectangle, both in the frame of the T."""
    dx = max(rectangle[0] - x, 0.0, x - rectangle[1])
    dy = max(rectangle[2] - y, 0.0, y - rectangle[3])
    return np.sqrt(dx * dx + dy * dy)


@njit(cache=True, nogil=True)
def _free(ax, ay, bx, by):
    """Whether the agent passes from a to b, in the frame of the T, without touching it."""
    count = int(np.sqrt((bx - ax) ** 2 + (by - ay) ** 2) / 5.0) + 1
    for k in range(1, count + 1):
        x, y = ax + (bx - ax) * k / count, ay + (by - ay) * k / count
        if min(_gap(x, y, BAR), _gap(x, y, STEM)) < RADIUS + _CLEAR:
            return False
    return True


@njit(cache=True, nogil=True)
def _route(ax, ay, bx, by, way):
    """Way points from a to b around the T, all in its frame, into `way` (12, 2); returns how many."""
    if _free(ax, ay, bx, by):
        way[0, 0], way[0, 1] = bx, by
        return 1
    n, first = len(LOOP), -1
    nearest = np.inf
    for k in range(n):
        distance = np.sqrt((LOOP[k, 0] - ax) ** 2 + (LOOP[k, 1] - ay) ** 2)
        if not _free(ax, ay, LOOP[k, 0], LOOP[k, 1]):
            distance += 1000.0
        if distance < nearest:
            first, nearest = k, distance
    best, best_count = np.inf, 0
    trial = np.empty((n + 2, 2))
    for turn in (1, -1):
        count, length, k = 0, 0.0, first
        px, py = ax, ay
        for _ in range(n):
            trial[count, 0], trial[count, 1] = LOOP[k, 0], LOOP[k, 1]
            length += np.sqrt((LOOP[k, 0] - px) ** 2 + (LOOP[k, 1] - py) ** 2)
            px, py = LOOP[k, 0], LOOP[k, 1]
            count += 1
            if _free(px, py, bx, by):
                break
            k = (k + turn) % n
        trial[count, 0], trial[count, 1] = bx, by
        length += np.sqrt((bx - px) ** 2 + (by - py) ** 2)
        count += 1
        if length < best:
            best, best_count = length, count
            way[:count] = trial[:count]
    return best_count


@njit(cache=True, nogil=True)
def primitive(agent, pose, contact, length, targets):
    """Targets (LONGEST, 2) of one push of `length` [px] at `contact` (5,) from where the agent is; returns how many."""
    c, s = np.cos(pose[2]), np.sin(pose[2])
    dx, dy = agent[0] - pose[0], agent[1] - pose[1]
    ax, ay = c * dx + s * dy, -s * dx + c * dy
    reach = RADIUS + _GAP
    way = np.empty((len(LOOP) + 3, 2))
    points = _route(ax, ay, contact[0] + reach * contact[2], contact[1] + reach * contact[3], way)
    count, px, py = 0, ax, ay
    for k in range(points + 1):
        stride = _STRIDE
        if k < points:
            bx, by = way[k, 0], way[k, 1]
        else:
            bx = contact[0] + (RADIUS - length) * contact[2]
            by = contact[1] + (RADIUS - length) * contact[3]
            stride = _STRIDE / 2
        distance = np.sqrt((bx - px) ** 2 + (by - py) ** 2)
        steps = max(1, int(np.ceil(distance / stride)))
        for j in range(1, steps + 1):
            if count == LONGEST - _SETTLE:
                return -1
            x, y = px + (bx - px) * j / steps, py + (by - py) * j / steps
            targets[count, 0] = min(max(pose[0] + c * x - s * y, 0.0), SIDE)
            targets[count, 1] = min(max(pose[1] + s * x + c * y, 0.0), SIDE)
            count += 1
        px, py = bx, by
    for _ in range(_SETTLE):
        targets[count] = targets[count - 1]
        count += 1
    return count


@njit(cache=True, nogil=True)
def _lay(function, space, agent, block, state):
    """Put a table into `state` (7,), with nothing left of what happened on it before."""
    agent[_P], agent[_P + 1], agent[_V], agent[_V + 1] = -900.0, -900.0, 0.0, 0.0
    block[_P], block[_P + 1], block[_V], block[_V + 1], block[_A], block[_W] = 256.0, 256.0, 0.0, 0.0, 0.0, 0.0
    for _ in range(4):  # Chipmunk remembers contacts for three steps
        call_step(function, space, DT)  # pyright: ignore[reportCallIssue]
    for k in range(4):
        agent[_P + k] = state[k]
    c, s = np.cos(state[6]), np.sin(state[6])
    block[_P], block[_P + 1], block[_A] = state[4] - s * 45.0, state[5] + c * 45.0, state[6]
    block[_V], block[_V + 1], block[_W] = 0.0, 0.0, 0.0


@njit(cache=True, nogil=True)
def simulate(function, space, agent_address, block_address, state, targets, count, goal, threshold, final):
    """Roll `targets` out from `state` (7,); the T's last pose into `final` (3,); returns the steps taken, fewer at success."""
    agent, block = address_doubles(agent_address, _WORDS), address_doubles(block_address, _WORDS)
    _lay(function, space, agent, block, state)
    for k in range(count):
        for _ in range(SUBSTEPS):
            for d in range(2):
                pull = STIFFNESS * (targets[k, d] - agent[_P + d]) + DAMPING * (0.0 - agent[_V + d])
                agent[_V + d] += pull * DT
            call_step(function, space, DT)  # pyright: ignore[reportCallIssue]
        c, s = np.cos(block[_A]), np.sin(block[_A])
        final[0], final[1], final[2] = block[_P] + s * 45.0, block[_P + 1] - c * 45.0, block[_A]
        if coverage(final, goal) > threshold:
            return k + 1
    return count


@njit(cache=True, nogil=True, parallel=True)
def tried(function, spaces, agents, blocks, state, goal, threshold, points, step_cost, targets, counts, costs):
    """Cost of every push of one table: for each of `points` (C, 5) and each of LENGTHS; targets, counts and costs are filled."""
    left = min(max(corner_distance(state[4:], goal), 4.0), 90.0)
    here = corner_distance(state[4:], goal)
    for n in prange(len(costs)):
        length = max(left * LENGTHS[n % len(LENGTHS)], 1.0)
        counts[n] = primitive(state[:2], state[4:], points[n // len(LENGTHS)], length, targets[n])
        costs[n] = np.inf
        if counts[n] > 0:
            final = np.empty(3)
            count = simulate(function, spaces[n], agents[n], blocks[n], state, targets[n], counts[n], goal, threshold, final)
            done = coverage(final, goal) > threshold
            moved = abs(corner_distance(final, goal) - here) > 0.05
            if done or moved:
                counts[n] = count
                costs[n] = (-10.0 if done else corner_distance(final, goal)) + step_cost * count


class Planner:
    """Tables to try pushes on; `best` chooses one."""

    def __init__(self, spacing: float, edges: list[int], step_cost: float, threshold: float) -> None:
        points = contacts(spacing)
        self.points = points[np.isin(points[:, 4], edges)] if edges else points
        self.step_cost, self.threshold = step_cost, threshold
        self.trials = len(self.points) * len(LENGTHS)
        self.tables = Tables(self.trials)
        for n in range(self.trials):
            self.tables.place(n, (50.0, 50.0), (256.0, 256.0, 0.0))

    def tried(self, state: Array, goal: Array) -> tuple[Array, NDArray[np.int64], Array]:
        """Targets (N, LONGEST, 2), their counts (N,) and costs (N,) of all pushes from `state` (7,) towards `goal` (3,)."""
        targets = np.zeros((self.trials, LONGEST, 2))
        counts, costs = np.zeros(self.trials, np.int64), np.zeros(self.trials)
        tables, a = self.tables, self.tables.addresses
        tried(tables.function, a[0], a[1], a[2], state, goal, self.threshold, self.points, self.step_cost, targets, counts, costs)
        return targets, counts, costs
