"""The tracker: limits hold whatever is asked, paths are followed, goals behind are reached, batches do not mix."""

import itertools

import numpy as np
import pytest

from robot.core import tracking

DT = 0.05
LIMITS = np.array([[0.8, 1.5, 1.0, 4.0]])


def drive(points: np.ndarray, seconds: float, delay: float = 0.0) -> np.ndarray:
    """Poses (steps, 3) of a base that does exactly what it is told `delay` [s] ago."""
    pose, velocity = np.zeros((1, 3)), np.zeros((1, 2))
    queue = [velocity] * round(delay / DT)
    poses = [pose]
    for _ in range(round(seconds / DT)):
        velocity = tracking.track(points, pose, velocity, LIMITS, DT, delay)
        queue.append(velocity)
        pose = tracking.predict(pose, queue.pop(0), DT)
        poses.append(pose)
    return np.concatenate(poses)


def path(*corners: tuple[float, float]) -> np.ndarray:
    """A polyline (1, N, 2) from the origin over the corners, points 0.16 m apart."""
    ends = np.array([(0.0, 0.0), *corners])
    pieces = [np.linspace(a, b, max(2, round(np.linalg.norm(b - a) / 0.16) + 1))[1:] for a, b in itertools.pairwise(ends)]
    return np.concatenate([ends[:1], *pieces])[None]


def test_no_command_leaves_the_limits() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    limits = rng.uniform(0.2, 3.0, (n, 4))
    points = tracking.waypoints(rng.normal(0, 0.5, (n, 24, 3)))
    velocity = np.stack([rng.uniform(0, limits[:, 0]), rng.uniform(-limits[:, 1], limits[:, 1])], 1)
    command = tracking.track(points, rng.normal(0, 2, (n, 3)), velocity, limits, DT, rng.uniform(0, 0.3, n))
    assert np.isfinite(command).all()
    assert (command[:, 0] >= 0).all()
    assert (command[:, 0] <= limits[:, 0]).all()
    assert (np.abs(command[:, 1]) <= limits[:, 1]).all()
    assert (np.abs(command - velocity) <= limits[:, 2:] * DT + 1e-12).all()


@pytest.mark.parametrize("delay", [0.0, 0.1])
@pytest.mark.parametrize(
    "corners", [((3.0, 0.0),), ((1.5, 0.0), (1.5, 1.5)), ((-2.0, 0.1),), ((-1.0, -1.0), (-1.0, -2.0)), ((0.0, 2.0),)]
)
def test_paths_are_followed_to_their_end(corners: tuple[tuple[float, float], ...], delay: float) -> None:
    points = path(*corners)
    poses = drive(points, 12.0, delay)
    assert np.linalg.norm(poses[-1, :2] - corners[-1]) < 0.1
    assert np.linalg.norm(poses[-1, :2] - poses[-20, :2]) < 0.01, "it has stopped"
    gaps = np.linalg.norm(poses[:, None, :2] - points, axis=-1).min(1)
    assert gaps.max() < 0.2


def test_a_path_of_zeros_means_stop() -> None:
    velocity = np.array([[0.5, 0.3]])
    for _ in range(30):
        velocity = tracking.track(np.zeros((1, 25, 2)), np.zeros((1, 3)), velocity, LIMITS, DT)
    np.testing.assert_allclose(velocity, 0.0, atol=1e-12)


def test_prediction_is_the_exact_arc() -> None:
    rng = np.random.default_rng(1)
    pose, velocity = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    velocity[:10, 1] = 0.0
    fine = pose.copy()
    for _ in range(20_000):
        middle = fine[:, 2] + 0.5 * velocity[:, 1] * 5e-5
        fine += 5e-5 * np.stack([velocity[:, 0] * np.cos(middle), velocity[:, 0] * np.sin(middle), velocity[:, 1]], 1)
    np.testing.assert_allclose(tracking.predict(pose, velocity, 1.0), fine, atol=1e-8)


def test_projection_finds_the_nearest_point() -> None:
    points = path((1.0, 0.0), (1.0, 1.0))
    s, along = tracking.project(points, np.array([[1.2, 0.5]]))
    assert s[0] == pytest.approx(1.5)
    assert along[0, -1] == pytest.approx(2.0)
    np.testing.assert_allclose(tracking.interpolate(points, along, s), [[1.0, 0.5]], atol=1e-12)


def test_robots_of_a_batch_do_not_mix() -> None:
    rng = np.random.default_rng(2)
    points = tracking.waypoints(rng.normal(0, 0.2, (8, 24, 3)))
    pose, velocity, limits = rng.normal(size=(8, 3)), rng.uniform(0, 0.5, (8, 2)), rng.uniform(0.5, 2, (8, 4))
    together = tracking.track(points, pose, velocity, limits, DT)
    alone = [tracking.track(points[i : i + 1], pose[i : i + 1], velocity[i : i + 1], limits[i : i + 1], DT) for i in range(8)]
    np.testing.assert_array_equal(together, np.concatenate(alone))
