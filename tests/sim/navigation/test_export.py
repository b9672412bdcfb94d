"""What is exported is the scene: rasterised back it is the same, MuJoCo loads it, its mesh is closed."""

import mujoco
import numpy as np
import pytest

from sim.navigation import export
from sim.navigation.scene import CELL, Z_STEP
from sim.navigation.scenes import FAMILIES, generate


def _rasterise(parts: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Sorted intervals (ny, nx, 4, 2) of boxes that do not overlap."""
    solids = np.zeros((*shape, 4, 2), np.uint8)
    used = np.zeros(shape, int)
    cells = np.round(parts / np.array([CELL, CELL, Z_STEP, CELL, CELL, Z_STEP])).astype(int)
    for x0, y0, z0, x1, y1, z1 in cells[np.argsort(cells[:, 2], kind="stable")]:
        for y in range(y0, y1):
            for x in range(x0, x1):
                solids[y, x, used[y, x]] = z0, z1
                used[y, x] += 1
    return solids


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_rasterise_back_to_the_scene(family: str):
    scene = generate(11, "train", family)
    parts, colours = export.boxes(scene)
    np.testing.assert_array_equal(_rasterise(parts, scene.solids.shape[:2]), scene.solids)
    assert len(parts) == len(colours)
    assert len(parts) < (scene.solids[..., 1] > 0).sum() / 4, "neighbours must have been merged"


@pytest.mark.parametrize("family", FAMILIES)
def test_mujoco_loads_the_scene(family: str):
    scene = generate(12, "test", family)
    model = mujoco.MjModel.from_xml_string(export.to_mjcf(scene))
    extra = 1 + np.isfinite(scene.ceiling)
    assert model.ngeom == len(export.boxes(scene)[0]) + extra


def test_the_mesh_is_closed_and_turned_outwards(tmp_path):
    scene = generate(13, "train", "home")
    vertices, faces = export.to_mesh(scene)
    parts, _ = export.boxes(scene)
    solid = faces[: 12 * len(parts)]
    a, b, c = (vertices[solid[:, k]] for k in range(3))
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(np.prod(parts[:, 3:] - parts[:, :3], axis=1).sum())
    edges = np.sort(np.concatenate([solid[:, [0, 1]], solid[:, [1, 2]], solid[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    text = export.save_obj(scene, tmp_path / "scene.obj").read_text().splitlines()
    assert sum(line.startswith("f ") for line in text) == len(faces)
