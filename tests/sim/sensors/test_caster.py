"""The caster against MuJoCo and open3d on the exported scene, against closed forms, and against itself in other batches."""

import math

import numpy as np
import pytest

from robot.core.errors import ObservationError, SceneError
from sim.navigation import fields
from sim.navigation.pool import ScenePool
from sim.navigation.scene import CELL, Scene
from sim.navigation.scenes import FAMILIES, generate
from sim.sensors.caster import DepthCaster
from tests.bench.references import MujocoCaster, Open3dCaster, rays

RANGE = 5.0
NOBODY = np.zeros((1, 0, 4), np.float32)


def room(side: int = 160) -> Scene:
    """8 m x 8 m, 3 m walls, no ceiling, one 0.7 m table top over x in [4, 5), y in [3.5, 4.5)."""
    solids = np.zeros((side, side, 4, 2), np.uint8)
    solids[[0, -1], :, 0, 1] = 150
    solids[:, [0, -1], 0, 1] = 150
    solids[70:90, 80:100, 0] = 33, 35
    return Scene(solids, np.zeros((side, side, 4), np.uint8), math.inf, "room", "train", 0)


def caster_for(scene: Scene, camera: tuple[float, float, float], size: tuple[int, int], threads: int = 1) -> DepthCaster:
    pool = ScenePool(1, 400)
    pool.put(0, scene)
    caster = DepthCaster(pool, 1, *size, RANGE, threads)
    caster.set_camera(np.array([0]), *(np.array([value]) for value in camera))
    return caster


def cast(caster: DepthCaster, poses: np.ndarray, discs: np.ndarray | None = None) -> np.ndarray:
    out = np.empty((len(poses), *caster.size), np.float32)
    discs = np.zeros((len(poses), 0, 4), np.float32) if discs is None else discs
    caster.cast(np.zeros(len(poses), np.int32), poses, discs, out)
    return out


@pytest.mark.parametrize("pitch", [0.0, -0.3, -0.6])
@pytest.mark.parametrize("reference", [MujocoCaster, Open3dCaster])
def test_depth_equals_independent_casters_on_the_exported_scene(reference, pitch: float):
    if reference is Open3dCaster:
        pytest.importorskip("open3d", exc_type=ImportError)
    rng = np.random.default_rng(0)
    size, camera = (48, 64), (0.9, pitch, 1.5)
    errors = []
    for k, family in enumerate(FAMILIES):
        scene = generate(30 + k, "train", family)
        free = np.argwhere(fields.clearance(fields.occupied(scene.solids, 1.35)) > 0.4)
        chosen = free[rng.integers(len(free), size=3)]
        poses = np.column_stack([(chosen[:, ::-1] + 0.5) * CELL, rng.uniform(-3, 3, 3)])
        depth, other = cast(caster_for(scene, camera, size), poses), reference(scene)
        assert (depth >= 0).all()
        assert (depth <= RANGE).all()
        for image, pose in zip(depth, poses, strict=True):
            errors.append(np.abs(image.ravel() - other.cast(*rays(pose, camera, size), RANGE)))
    error = np.array(errors)
    assert np.median(error) < 0.005
    assert (error > 0.05).mean() < (0.005 if pitch == 0.0 else 0.06), "silhouettes of a pitched camera are half a walk off"


def test_a_wall_ahead_and_the_floor_have_closed_forms():
    caster = caster_for(room(), (0.5, 0.0, math.pi / 2), (64, 64))
    image = cast(caster, np.array([[4.0, 6.0, math.pi / 2]]))[0]  # 1.95 m from the wall at y = 7.95
    np.testing.assert_allclose(image[:32], 1.95, atol=1e-4)
    up = -(np.arange(64) + 0.5 - 32) / 32
    floor = 0.5 / -up[60]
    np.testing.assert_allclose(image[60], floor, rtol=1e-5)


def test_a_table_shows_its_top_from_above_and_its_underside_from_below():
    pose = np.array([[3.0, 4.0, 0.0]])
    above = cast(caster_for(room(), (1.2, 0.0, math.pi / 2), (64, 64)), pose)[0]
    up = -(np.arange(64) + 0.5 - 32) / 32
    hits = np.abs(above[:, 32] - 0.5 / np.maximum(-up, 1e-6)) < 1e-3  # plane z = 0.70 seen from 1.2 m
    assert hits.sum() >= 3
    below = cast(caster_for(room(), (0.3, 0.0, math.pi / 2), (64, 64)), pose)[0]
    under = np.abs(below[:, 32] - 0.36 / np.maximum(up, 1e-6)) < 1e-3  # plane z = 0.66 seen from 0.3 m
    assert under.sum() >= 2


def test_a_person_is_a_cylinder():
    caster = caster_for(room(), (0.5, 0.0, math.pi / 2), (64, 64))
    person = np.array([[[6.0, 4.0, 0.25, 1.7], [0, 0, 0, 0]]], np.float32)
    image = cast(caster, np.array([[5.0, 4.0, 0.0]]), person)[0]
    slope = -(32 + 0.5 - 32) / 32
    near = (1 - math.sqrt(1 - (1 + slope**2) * (1 - 0.25**2))) / (1 + slope**2)
    assert image[20, 32] == pytest.approx(near, abs=1e-3)
    assert image[20, 0] == pytest.approx(cast(caster, np.array([[5.0, 4.0, 0.0]]))[0][20, 0])


def test_images_do_not_depend_on_batch_or_threads():
    scene = generate(3, "test", "home")
    free = np.argwhere(fields.clearance(fields.occupied(scene.solids, 1.35)) > 0.3)
    rng = np.random.default_rng(1)
    poses = np.column_stack([(free[rng.integers(len(free), size=9)][:, ::-1] + 0.5) * CELL, rng.uniform(-3, 3, 9)])
    one = caster_for(scene, (0.6, -0.2, 1.5), (48, 64), threads=1)
    two = caster_for(scene, (0.6, -0.2, 1.5), (48, 64), threads=2)
    whole = cast(two, poses)
    np.testing.assert_array_equal(whole, np.concatenate([cast(one, pose[None]) for pose in poses]))


def test_bad_cameras_and_slots_are_refused():
    caster = caster_for(room(), (0.5, 0.0, 1.5), (8, 8))
    out = np.empty((1, 8, 8), np.float32)
    with pytest.raises(SceneError, match="slots must be within 0 and 0"):
        caster.cast(np.array([3]), np.zeros((1, 3)), NOBODY, out)
    with pytest.raises(ObservationError, match="finite"):
        caster.cast(np.array([0]), np.full((1, 3), np.nan), NOBODY, out)
    with pytest.raises(ObservationError, match="5 degrees of the vertical"):
        caster.set_camera(np.array([0]), np.array([0.5]), np.array([-1.4]), np.array([1.5]))
    pool = ScenePool(1, 100)
    with pytest.raises(SceneError, match="does not fit into slots of 100 x 100"):
        pool.put(0, room())
