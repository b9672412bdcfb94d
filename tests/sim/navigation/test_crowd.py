"""Walkers keep off walls, walk at their pace, stop for a robot, and depend on nothing but their world's seed."""

import numpy as np
import pytest

from robot.core.errors import ConfigError
from sim.navigation import fields
from sim.navigation.crowd import DENSITIES, Crowd
from sim.navigation.scene import CELL
from sim.navigation.scenes import generate


def _walk(worlds: int, seconds: float, robots: np.ndarray | None = None, which: int = 0):
    scene = generate(5, "train", "hall")
    free = fields.clearance(fields.occupied(scene.solids, 1.7))
    crowd = Crowd(worlds, 24)
    for world in range(worlds):
        crowd.reset(world, free, "high", np.random.default_rng(world + which), (2.0, 2.0, 1.5))
    track = [crowd.discs.copy()]
    for _ in range(round(seconds / 0.05)):
        crowd.step(0.05, np.full((worlds, 2), -100.0) if robots is None else robots)
        track.append(crowd.discs.copy())
    return np.array(track), free


def test_nobody_walks_into_walls_or_faster_than_people_do():
    track, free = _walk(1, 60.0)
    present = track[0, 0, :, 2] > 0
    assert present.sum() >= 5
    xy = track[:, 0, present, :2]
    rows, cols = (xy[..., 1] / CELL).astype(int), (xy[..., 0] / CELL).astype(int)
    assert (free[rows, cols] > track[0, 0, present, 2] - 1e-3).all()
    speed = np.linalg.norm(np.diff(xy, axis=0), axis=-1) / 0.05
    assert speed.max() < 1.21
    assert (np.linalg.norm(xy[-1] - xy[0], axis=-1) > 0.5).mean() > 0.5, "most must have gone somewhere"


def test_a_world_depends_on_its_own_seed_only():
    many, _ = _walk(3, 5.0)
    one, _ = _walk(1, 5.0, which=2)
    np.testing.assert_array_equal(many[:, 2], one[:, 0])
    assert not np.array_equal(many[:, 0], many[:, 1])


def test_a_walker_stops_for_a_robot_in_front_of_it():
    track, _ = _walk(1, 0.05)
    first, then = track[0, 0, 0], track[1, 0, 0]
    ahead = (then - first)[:2] / np.linalg.norm((then - first)[:2])
    stopped, _ = _walk(1, 0.05, robots=(first[:2] + 0.7 * ahead)[None].astype(np.float64))
    np.testing.assert_array_equal(stopped[1, 0, 0], first)


def test_densities_are_ordered_and_named():
    scene = generate(5, "train", "hall")
    free = fields.clearance(fields.occupied(scene.solids, 1.7))
    counts = []
    for density in DENSITIES:
        crowd = Crowd(1, 24)
        crowd.reset(0, free, density, np.random.default_rng(0), (2.0, 2.0, 1.5))
        counts.append(int((crowd.discs[0, :, 2] > 0).sum()))
    assert counts[0] == 0
    assert counts == sorted(set(counts))
    with pytest.raises(ConfigError, match="low, medium, high"):
        Crowd(1, 4).reset(0, free, "crush", np.random.default_rng(0), (0.0, 0.0, 0.0))
