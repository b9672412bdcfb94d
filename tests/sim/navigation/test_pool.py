"""The pool holds scenes as the caster wants them."""

import numpy as np
import pytest

from robot.core.errors import SceneError
from sim.navigation.pool import SKIP_CAP, ScenePool
from sim.navigation.scene import LAYERS, Scene


def scene(ny: int = 30, nx: int = 20, filled: float = 0.02) -> Scene:
    rng = np.random.default_rng(ny + nx)
    solids = np.zeros((ny, nx, LAYERS, 2), np.uint8)
    solids[rng.random((ny, nx)) < filled, 0] = 3, 50
    return Scene(solids, rng.integers(16, size=(ny, nx, LAYERS), dtype=np.uint8), 2.5, "x", "train", 0)


def test_words_hold_the_intervals_lowest_byte_first():
    pool, one = ScenePool(2, 40), scene()
    one.solids[4, 5] = [(1, 2), (3, 4), (5, 6), (7, 8)]
    pool.put(1, one)
    assert pool.cells[1, 4, 5] == 0x0807060504030201
    np.testing.assert_array_equal(pool.colours[1, :30, :20], one.colours)
    assert pool.shape[1].tolist() == [30, 20]
    assert pool.ceiling[1] == 2.5
    assert pool.top[1] == pytest.approx(1.0)
    assert not pool.cells[0].any()


@pytest.mark.parametrize("quadrant", range(4))
def test_skip_is_the_largest_empty_square_ahead(quadrant):
    pool, one = ScenePool(1, 60), scene(60, 50)
    pool.put(0, one)
    solid = one.solids[..., 1].any(-1)
    ahead = solid[:: -1 if quadrant & 2 else 1, :: -1 if quadrant & 1 else 1]
    sides = pool.skip[0, quadrant, :60, :50][:: -1 if quadrant & 2 else 1, :: -1 if quadrant & 1 else 1]
    for i in range(60):
        for j in range(50):
            side = int(sides[i, j])
            assert not ahead[i : i + side, j : j + side].any()
            assert side == SKIP_CAP or ahead[i : i + side + 1, j : j + side + 1].any()


def test_an_empty_scene_is_free_as_far_as_the_cap():
    pool = ScenePool(1, 60)
    pool.put(0, scene(50, 50, 0.0))
    assert (pool.skip[0, :, :50, :50] == SKIP_CAP).all()


def test_a_smaller_scene_leaves_nothing_of_a_larger_one():
    pool = ScenePool(1, 60)
    pool.put(0, scene(60, 60, 0.5))
    pool.put(0, scene(10, 12))
    assert not pool.cells[0, 10:].any()
    assert not pool.cells[0, :, 12:].any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(SceneError, match="slot 2 does not exist; the pool has 2"):
        ScenePool(2, 40).put(2, scene())
    with pytest.raises(SceneError, match="30 x 20 cells does not fit into slots of 25 x 25"):
        ScenePool(1, 25).put(0, scene())
