"""Fields against independent references: scipy's distance transform, closed forms, exact geometry."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from sim.navigation import fields
from sim.navigation.scene import CELL


def _room(ny: int = 120, nx: int = 160) -> np.ndarray:
    blocked = np.zeros((ny, nx), np.bool_)
    blocked[[0, -1]] = True
    blocked[:, [0, -1]] = True
    return blocked


def test_clearance_is_the_euclidean_distance_transform():
    rng = np.random.default_rng(0)
    blocked = _room() | (rng.random((120, 160)) < 0.01)
    reference = np.maximum(distance_transform_edt(~blocked) - 0.5, 0.0) * CELL
    np.testing.assert_allclose(fields.clearance(blocked), reference, atol=1e-5)


def test_cost_to_go_in_the_open_is_the_distance():
    free = np.full((200, 200), 9.0, np.float32)
    cost = fields.cost_to_go(free, 0.25, 5.025, 5.025, 0.3, 3.0)
    y, x = np.mgrid[:200, :200]
    distance = np.hypot((x + 0.5) * CELL - 5.025, (y + 0.5) * CELL - 5.025)
    far = distance > 1.0
    assert np.abs(cost[far] / distance[far] - 1.0).max() < 0.06
    assert np.abs(cost[far] / distance[far] - 1.0).mean() < 0.02


def test_path_around_a_wall_has_the_length_of_the_taut_string():
    blocked = _room(160, 160)
    blocked[0:100, 79:81] = True
    free = fields.clearance(blocked)
    radius, margin = 0.25, 0.05
    cost = fields.cost_to_go(free, radius, 6.0, 2.0, margin, 0.0)
    out = np.empty((600, 2))
    length = fields.descend(cost, 2.0, 2.0, 6.0, 2.0, 0.05, out)
    tip = np.array([4.0, 5.0 + radius])
    taut = 2 * np.hypot(*(tip - [2.0, 2.0]))
    assert taut - 0.1 < length < taut * 1.04
    np.testing.assert_allclose(out[-1], [6.0, 2.0])


def test_optimal_paths_keep_the_disc_off_solids():
    rng = np.random.default_rng(1)
    blocked = _room()
    for _ in range(12):
        y, x = rng.integers(15, 100), rng.integers(15, 140)
        blocked[y : y + 8, x : x + 8] = True
    free = fields.clearance(blocked)
    roomy = np.argwhere(free > 0.4)
    for _ in range(10):
        goal, start = ((roomy[rng.integers(len(roomy))][::-1] + 0.5) * CELL for _ in range(2))
        cost = fields.cost_to_go(free, 0.27, goal[0], goal[1], 0.3, 3.0)
        if fields.sample(cost, *start) > 100:
            continue
        out = np.empty((400, 2))
        fields.descend(cost, start[0], start[1], goal[0], goal[1], 0.05, out)
        assert not any(fields.touches(blocked, x, y, 0.2) for x, y in out)
        np.testing.assert_allclose(out[-1], goal, atol=1e-9)


def test_a_goal_behind_a_closed_wall_is_far():
    blocked = _room()
    blocked[:, 80:82] = True
    cost = fields.cost_to_go(fields.clearance(blocked), 0.2, 2.0, 3.0, 0.3, 3.0)
    assert cost[60, 120] == fields.FAR
    assert cost[60, 20] < 5


def test_cost_leads_out_of_the_inflated_band():
    free = fields.clearance(_room())
    cost = fields.cost_to_go(free, 0.4, 4.0, 3.0, 0.3, 3.0)
    column = cost[60, 1:9]
    assert (np.diff(column) < 0).all(), "the cost must fall from the wall towards free space"


@pytest.mark.parametrize(("x", "hit"), [(1.0, False), (0.31, False), (0.29, True)])
def test_contact_is_exact_to_the_cell_edge(x: float, hit: bool):
    assert fields.touches(_room(), x, 3.0, 0.25) == hit


def test_actions_are_deltas_in_the_robot_frame():
    points = np.array([[1.0, 2.0], [1.0, 3.0], [1.0, 3.0]])
    out = np.empty((3, 3))
    fields.as_action(points, np.array([1.0, 1.0, np.pi / 2]), out)
    np.testing.assert_allclose(out, [[1, 0, 0], [1, 0, 0], [0, 0, 0]], atol=1e-12)


def test_a_table_blocks_the_tall_only():
    solids = np.zeros((4, 4, 4, 2), np.uint8)
    solids[1, 1, 0] = 35, 38  # 0.70 to 0.76 m
    solids[2, 2, 0] = 0, 2  # a 4 cm sill
    assert not fields.occupied(solids, 0.45).any()
    assert fields.occupied(solids, 1.35)[1, 1]
    assert not fields.occupied(solids, 1.35)[2, 2]
