"""The caster against MuJoCo and open3d on the exported scene, against closed forms, and against itself in other batches."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from robot.core.errors import ObservationError, SceneError
from sim.navigation import fields
from sim.navigation.pool import ScenePool
from sim.navigation.scene import CELL, Scene
from sim.navigation.scenes import FAMILIES, generate
from sim.sensors.caster import PAINTS, DepthCaster
from sim.sensors.walk import ACROSS_X, CLOTH, FLOOR, SKY, TOP
from tests.bench.references import MujocoCaster, Open3dCaster, rays

RANGE = 5.0
NOBODY = np.zeros((1, 0, 4), np.float32)


def room(side: int = 160, table: bool = True) -> Scene:
    """8 m x 8 m, 3 m walls, no ceiling, one 0.7 m table top over x in [4, 5), y in [3.5, 4.5)."""
    solids = np.zeros((side, side, 4, 2), np.uint8)
    solids[[0, -1], :, 0, 1] = 150
    solids[:, [0, -1], 0, 1] = 150
    colours = np.zeros((side, side, 4), np.uint8)
    if table:
        solids[70:90, 80:100, 0] = 33, 35
        colours[70:90, 80:100, 0] = 1
    return Scene(solids, colours, math.inf, "room", "train", 0)


def places(scene: Scene, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random poses (count, 3) with 0.4 m of room."""
    free = np.argwhere(fields.clearance(fields.occupied(scene.solids, 1.35)) > 0.4)
    chosen = free[rng.integers(len(free), size=count)]
    return np.column_stack([(chosen[:, ::-1] + 0.5) * CELL, rng.uniform(-3, 3, count)])


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


@pytest.mark.parametrize(("pitch", "size"), [(0.0, (84, 84)), (-0.3, (48, 64)), (-0.6, (84, 84)), (0.2, (48, 64))])
@pytest.mark.parametrize("reference", [MujocoCaster, Open3dCaster])
def test_depth_equals_independent_casters_on_the_exported_scene(reference, pitch: float, size: tuple[int, int]):
    """A level camera is exact; of a pitched one, silhouettes are half a walk off, and nothing else."""
    if reference is Open3dCaster:
        pytest.importorskip("open3d", exc_type=ImportError)
    rng = np.random.default_rng(0)
    camera, errors = (0.9, pitch, 1.5), []
    for k, family in enumerate(FAMILIES):
        scene = generate(30 + k, "train", family)
        poses = places(scene, 2, rng)
        depth, other = cast(caster_for(scene, camera, size), poses), reference(scene)
        assert (depth >= 0).all()
        assert (depth <= RANGE).all()
        errors += [
            np.abs(image.ravel() - other.cast(*rays(pose, camera, size), RANGE)) for image, pose in zip(depth, poses, strict=True)
        ]
    error = np.array(errors)
    assert np.median(error) < 1e-5
    assert (error > 0.05).mean() < (0.0005 if pitch == 0.0 else 0.015)
    assert (error > 0.001).mean() < (0.002 if pitch == 0.0 else 0.03)


@pytest.mark.parametrize("pitch", [0.0, -0.4])
def test_jumps_over_empty_space_miss_nothing(pitch: float):
    rng = np.random.default_rng(2)
    for k, family in enumerate(FAMILIES):
        scene = generate(40 + k, "test", family)
        caster, poses = caster_for(scene, (0.6, pitch, 1.5), (48, 64)), places(scene, 5, rng)
        quick = cast(caster, poses)
        caster.pool.skip[:] = caster.pool.skip > 0
        slow = cast(caster, poses)
        assert (quick != slow).mean() < 1e-4, "only rays through a cell's corner may choose the other side"


def test_equal_neighbours_cast_as_one_body_are_the_same_as_one_by_one():
    scene = generate(41, "train", "office")
    caster, poses = caster_for(scene, (1.1, -0.4, 1.5), (48, 64)), places(scene, 8, np.random.default_rng(3))
    merged = cast(caster, poses)
    rows, cols = np.indices(scene.solids.shape[:2])
    caster.pool.colours[0, : rows.shape[0], : rows.shape[1]] = ((rows + cols) % 2)[..., None]  # no two neighbours are equal
    np.testing.assert_array_equal(merged, cast(caster, poses))


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


def cylinder(disc: np.ndarray, pose: np.ndarray, camera: tuple[float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Depth (H, W) of an upright cylinder by marching: the first of many points of each ray that is inside."""
    origin, directions = rays(pose, camera, size)
    steps = np.arange(0.0, 3.0, 1e-3)
    points = origin + directions[:, None] * steps[:, None]
    across = np.hypot(points[..., 0] - disc[0], points[..., 1] - disc[1])
    inside = (across < disc[2]) & (points[..., 2] > 0) & (points[..., 2] < disc[3])
    return np.where(inside.any(1), steps[inside.argmax(1)], 0.0).reshape(size)


@pytest.mark.parametrize(("height", "pitch"), [(0.5, 0.0), (1.2, -0.5), (1.0, 0.0)])
def test_people_and_carts_are_cylinders(height: float, pitch: float):
    """One tall, one low, one absent, one behind a wall, one behind the camera."""
    discs = np.array([[6, 4.1, 0.25, 1.7], [5.4, 3.5, 0.2, 0.7], [5, 4, 0, 1], [9, 4, 0.3, 1.7], [4, 4, 0.3, 1.7]], np.float32)
    camera, size, pose = (height, pitch, math.pi / 2), (32, 32), np.array([[4.6, 4.0, 0.0]])
    caster = caster_for(room(table=False), camera, size)
    empty, image = cast(caster, pose)[0], cast(caster, pose, discs[None])[0]
    expected = empty.copy()
    for disc in discs[:2]:
        alone = cylinder(disc, pose[0], camera, size)
        expected = np.where((alone > 0) & ((alone < expected) | (expected == 0)), alone, expected)
    assert (expected != empty).mean() > 0.05
    assert (np.abs(image - expected) > 3e-3).mean() < 0.01, "marching misses the grazed rim, and no more"


def test_beyond_the_range_is_zero():
    image = cast(caster_for(room(table=False), (0.5, 0.0, 0.5), (16, 16)), np.array([[0.5, 4.0, 0.0]]))[0]
    assert (image[:8] == 0).all(), "the wall is 7.45 m away"
    floor = 0.5 / ((np.arange(8) + 0.5) * 2 * math.tan(0.25) / 16)
    np.testing.assert_allclose(image[8:, 3], np.where(floor <= RANGE, floor, 0), rtol=1e-5)


def test_colours_name_the_surface_and_leave_depth_alone():
    caster, pose = caster_for(room(), (1.2, -0.2, 1.2), (48, 64)), np.array([[2.0, 4.0, 0.0]])
    depth, rgb = np.empty((1, 48, 64), np.float32), np.empty((1, 48, 64, 3), np.uint8)
    person = np.array([[[3.0, 3.6, 0.2, 1.7]]], np.float32)
    caster.cast(np.zeros(1, np.int32), pose, person, depth, rgb)
    np.testing.assert_array_equal(depth, cast(caster, pose, person))
    shown = {tuple(colour) for colour in rgb.reshape(-1, 3).tolist()}
    wall, table, floor, cloth, sky = (tuple(PAINTS[paint].tolist()) for paint in (ACROSS_X, 4 + TOP, FLOOR, CLOTH, SKY))
    assert {wall, table, floor, cloth} <= shown
    assert sky not in shown, "the walls are 3 m high"
    assert tuple(rgb[0, 0, 8].tolist()) == wall
    assert depth[0, 0, 8] == 0.0, "colour reaches further than depth"


def test_images_do_not_depend_on_batch_or_threads():
    scene = generate(3, "test", "home")
    poses = places(scene, 9, np.random.default_rng(1))
    one = caster_for(scene, (0.6, -0.2, 1.5), (48, 64), threads=1)
    many = caster_for(scene, (0.6, -0.2, 1.5), (48, 64), threads=3)
    whole = cast(many, poses)
    np.testing.assert_array_equal(whole, np.concatenate([cast(one, pose[None]) for pose in poses]))
    with ThreadPoolExecutor(4) as pool:
        for other in pool.map(lambda _: cast(many, poses), range(8)):
            np.testing.assert_array_equal(whole, other)


def test_each_world_has_its_own_camera():
    pool, pose = ScenePool(2, 160), np.array([[4.0, 4.0, 0.3]])
    for slot in range(2):
        pool.put(slot, room())
    caster = DepthCaster(pool, 2, 8, 16, RANGE, 1)
    caster.set_camera(np.arange(2), np.array([0.5, 0.8]), np.array([0.0, -0.3]), np.array([1.5, 1.2]))
    before = cast(caster, pose)
    caster.set_camera(np.array([1]), np.array([0.6]), np.array([-0.1]), np.array([1.3]))
    both = np.empty((2, 8, 16), np.float32)
    caster.cast(np.array([1, 0]), np.repeat(pose, 2, 0), np.zeros((2, 0, 4), np.float32), both)
    np.testing.assert_array_equal(both[1], before[0])
    np.testing.assert_array_equal(both[0], cast(caster_for(room(), (0.6, -0.1, 1.3), (8, 16)), pose)[0])


def test_bad_cameras_and_slots_are_refused():
    caster = caster_for(room(), (0.5, 0.0, 1.5), (8, 8))
    out = np.empty((1, 8, 8), np.float32)
    with pytest.raises(SceneError, match="slots must be within 0 and 0"):
        caster.cast(np.array([3]), np.zeros((1, 3)), NOBODY, out)
    with pytest.raises(ObservationError, match="finite"):
        caster.cast(np.array([0]), np.full((1, 3), np.nan), NOBODY, out)
    with pytest.raises(ObservationError, match="discs must be"):
        caster.cast(np.array([0]), np.zeros((1, 3)), np.full((1, 1, 4), np.inf, np.float32), out)
    with pytest.raises(ObservationError, match=r"out must be contiguous float32 \(1, 8, 8\)"):
        caster.cast(np.array([0]), np.zeros((1, 3)), NOBODY, out.astype(np.float64))
    with pytest.raises(SceneError, match="never mounted"):
        DepthCaster(caster.pool, 1, 8, 8).cast(np.array([0]), np.zeros((1, 3)), NOBODY, out)
    with pytest.raises(ObservationError, match="5 degrees of the vertical"):
        caster.set_camera(np.array([0]), np.array([0.5]), np.array([-1.4]), np.array([1.5]))
    pool = ScenePool(1, 100)
    with pytest.raises(SceneError, match="does not fit into slots of 100 x 100"):
        pool.put(0, room())
