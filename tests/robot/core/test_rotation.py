"""Rotations against scipy, an independent implementation, and against the axioms of a group."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robot.core import rotation as rot

TINY = 1e-12


@pytest.fixture
def q() -> np.ndarray:
    """Random rotations, half turns about every axis, the identity, tiny and near-half turns, as (n, 4) wxyz."""
    rng = np.random.default_rng(0)
    random = rng.normal(size=(500, 4))
    half_turns = np.array([[0.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 1, 0], [0, -1, 2, 3]])
    small = rot.from_rotvec(rng.normal(size=(50, 3)) * 10.0 ** rng.uniform(-12, -3, size=(50, 1)))
    near = rot.multiply(half_turns[:, None], small[None, :10]).reshape(-1, 4)
    return rot.normalize(np.concatenate([random, half_turns, [[1.0, 0, 0, 0]], small, near]))


def scipy(q: np.ndarray) -> Rotation:
    return Rotation.from_quat(rot.to_xyzw(q))


def same(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(np.abs((a * b).sum(-1)), 1.0, atol=TINY)


def test_orders_of_elements() -> None:
    assert rot.from_xyzw([1, 2, 3, 4]).tolist() == [4, 1, 2, 3]
    assert rot.to_xyzw([4, 1, 2, 3]).tolist() == [1, 2, 3, 4]


def test_matrix_agrees_with_scipy(q) -> None:
    np.testing.assert_allclose(rot.to_matrix(q), scipy(q).as_matrix(), atol=TINY)
    same(rot.from_matrix(rot.to_matrix(q)), q)


def test_rotvec_agrees_with_scipy(q) -> None:
    vector = rot.to_rotvec(q)
    np.testing.assert_allclose(rot.to_matrix(rot.from_rotvec(vector)), scipy(q).as_matrix(), atol=TINY)
    np.testing.assert_allclose(np.linalg.norm(vector, axis=-1), scipy(q).magnitude(), atol=1e-9)
    same(rot.from_rotvec(vector), rot.from_xyzw(Rotation.from_rotvec(vector).as_quat()))


@pytest.mark.parametrize("angle", [1e-3, 1e-7, 1e-9, 1e-12, 0.0])
def test_rotvec_keeps_small_angles(angle: float) -> None:
    vector = angle * np.array([0.6, 0.0, 0.8])
    np.testing.assert_allclose(rot.to_rotvec(rot.from_rotvec(vector)), vector, rtol=1e-12)


def test_rotate_and_multiply_agree_with_scipy(q) -> None:
    v = np.random.default_rng(1).normal(size=(len(q), 3))
    np.testing.assert_allclose(rot.rotate(q, v), scipy(q).apply(v), atol=1e-11)
    same(rot.multiply(q, q[::-1]), rot.from_xyzw((scipy(q) * scipy(q[::-1])).as_quat()))


def test_group_axioms(q) -> None:
    a, b, c = q, q[::-1], np.roll(q, 7, axis=0)
    np.testing.assert_allclose(rot.multiply(rot.multiply(a, b), c), rot.multiply(a, rot.multiply(b, c)), atol=TINY)
    np.testing.assert_allclose(rot.multiply(a, rot.inverse(a)), np.eye(4)[:1].repeat(len(a), 0), atol=TINY)
    np.testing.assert_allclose(rot.to_matrix(rot.multiply(a, b)), rot.to_matrix(a) @ rot.to_matrix(b), atol=TINY)


def test_yaw(q) -> None:
    yaw = np.linspace(-3.1, 3.1, 41)
    np.testing.assert_allclose(rot.to_yaw(rot.from_yaw(yaw)), yaw, atol=TINY)
    np.testing.assert_allclose(rot.rotate(rot.from_yaw(np.pi / 2), [1.0, 0, 0]), [0, 1, 0], atol=TINY)
    random = q[:500]
    np.testing.assert_allclose(rot.to_yaw(random), scipy(random).as_euler("ZYX")[:, 0], atol=1e-9)


def test_distance_is_the_angle_of_the_difference(q) -> None:
    np.testing.assert_allclose(rot.distance(q, q[::-1]), (scipy(q).inv() * scipy(q[::-1])).magnitude(), atol=1e-9)


def test_wrap() -> None:
    angle = np.linspace(-20, 20, 999)
    wrapped = rot.wrap(angle)
    assert wrapped.min() >= -np.pi
    assert wrapped.max() < np.pi
    np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * angle), atol=1e-12)


def test_batches_broadcast(q) -> None:
    batch = q[:12].reshape(3, 4, 4)
    vectors = np.arange(36.0).reshape(3, 4, 3)
    for i, j in np.ndindex(3, 4):
        np.testing.assert_array_equal(rot.rotate(batch, vectors)[i, j], rot.rotate(batch[i, j], vectors[i, j]))
        np.testing.assert_array_equal(rot.from_matrix(rot.to_matrix(batch))[i, j], rot.from_matrix(rot.to_matrix(batch[i, j])))
    assert rot.multiply(batch, q[0]).shape == (3, 4, 4)
