"""Depth noise: repeatable, world by world, and of the size its config says."""

import numpy as np
import pytest

from sim.sensors.noise import DepthNoise, DepthNoiseConfig

NONE = {"relative": 0.0, "invalid": 0.0, "holes": 0.0, "hole_size": 0.05, "disparity": 0.0, "edges": 0.0, "scale": 0.0}
ALL = {"relative": 0.01, "invalid": 0.02, "holes": 1.0, "hole_size": 0.05, "disparity": 0.006, "edges": 0.2, "scale": 0.01}


def scenery(count: int) -> np.ndarray:
    """Two walls, at 2 and 4 m, and a patch without return."""
    depth = np.full((count, 48, 64), 2.0, np.float32)
    depth[:, :, 32:] = 4.0
    depth[:, :5, :5] = 0.0
    return depth


def spoil(depth: np.ndarray, seeds: list[int], steps: list[int], **values: float) -> np.ndarray:
    out = depth.copy()
    DepthNoise(DepthNoiseConfig(**{**NONE, **values})).apply(out, np.array(seeds, np.uint64), np.array(steps))
    return out


def test_no_noise_changes_nothing():
    np.testing.assert_array_equal(spoil(scenery(2), [1, 2], [0, 0]), scenery(2))


def test_noise_repeats_and_no_world_depends_on_another():
    batch = spoil(scenery(3), [5, 6, 7], [2, 9, 4], **ALL)
    np.testing.assert_array_equal(batch, spoil(scenery(3), [5, 6, 7], [2, 9, 4], **ALL))
    np.testing.assert_array_equal(batch[1:2], spoil(scenery(1), [6], [9], **ALL))


@pytest.mark.parametrize(("seed", "step"), [(6, 9), (5, 8), (9, 5)])
def test_other_seeds_and_steps_give_other_noise(seed: int, step: int):
    one, other = spoil(scenery(1), [5], [9], relative=0.01), spoil(scenery(1), [seed], [step], relative=0.01)
    correlation = np.corrcoef((one - scenery(1)).ravel(), (other - scenery(1)).ravel())[0, 1]
    assert abs(correlation) < 0.1


def test_range_error_is_normal_of_the_given_width():
    depth = np.full((40, 48, 64), 3.0, np.float32)
    error = (spoil(depth, list(range(40)), [0] * 40, relative=0.01) / 3.0 - 1.0) / 0.01
    assert error.mean() == pytest.approx(0.0, abs=0.02)
    assert error.std() == pytest.approx(1.0, abs=0.01)
    assert (np.abs(error) > 2).mean() == pytest.approx(0.0455, abs=0.008)
    for pair in (error[:, :, 1:] * error[:, :, :-1], error[:, 1:] * error[:, :-1], error[1:] * error[:-1]):
        assert pair.mean() == pytest.approx(0.0, abs=0.02), "neighbours in the image and in the batch are independent"


def test_missing_pixels_are_as_many_as_asked_for():
    depth = np.full((20, 48, 64), 3.0, np.float32)
    assert (spoil(depth, list(range(20)), [0] * 20, invalid=0.05) == 0).mean() == pytest.approx(0.05, abs=0.005)


def test_no_return_stays_no_return():
    assert (spoil(scenery(2), [1, 2], [3, 3], **ALL)[:, :5, :5] == 0).all()


def test_scale_is_one_factor_an_episode():
    twice = spoil(scenery(2), [5, 5], [0, 7], scale=0.05)
    np.testing.assert_array_equal(twice[0], twice[1])
    factors = spoil(np.full((400, 1, 1), 1.0, np.float32), list(range(400)), [0] * 400, scale=0.05).ravel()
    assert factors.std() == pytest.approx(0.05, abs=0.006)


def test_disparity_steps_grow_with_the_square_of_range():
    depth = np.linspace(0.5, 5.0, 3072, dtype=np.float32).reshape(1, 48, 64)
    coarse = spoil(depth, [1], [0], disparity=0.01)
    np.testing.assert_allclose(1 / coarse / 0.01, np.round(1 / coarse / 0.01), atol=1e-3)
    assert (np.abs(coarse - depth) <= 0.51 * 0.01 * depth**2 * 1.05).all()


def test_holes_are_as_many_as_asked_for():
    depth = np.full((300, 48, 64), 3.0, np.float32)
    holes = spoil(depth, list(range(300)), [0] * 300, holes=0.5) == 0
    assert holes.any(axis=(1, 2)).mean() == pytest.approx(1 - np.exp(-0.5), abs=0.1)
    assert holes.sum(axis=(1, 2)).max() < 0.2 * 48 * 64


def test_edges_bleed_only_where_depth_jumps():
    changed = spoil(scenery(30), list(range(30)), [0] * 30, edges=0.5) != scenery(30)
    assert changed[:, :, 32].mean() == pytest.approx(0.5, abs=0.05)
    assert not np.delete(changed, 32, axis=2).any()
