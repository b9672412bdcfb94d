"""A scene for other programs: boxes, MJCF, a triangle mesh. All three are exactly what the caster sees.

Equal intervals of neighbouring cells are merged greedily into boxes, which rasterise back to the same scene bit for bit.
"""

import os
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from numba import njit

from sim.navigation.scene import CELL, LAYERS, PALETTE, Z_STEP, Scene

SLAB = 0.1
"""Thickness of the exported ceiling [m]."""


def boxes(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (n, 6) x0, y0, z0, x1, y1, z1 [m, frame w] and palette indices (n,), disjoint, that together are the scene."""
    whole, colours = _merge(np.ascontiguousarray(scene.solids), np.ascontiguousarray(scene.colours))
    return whole * np.array([CELL, CELL, Z_STEP, CELL, CELL, Z_STEP]), colours


@njit(cache=True, nogil=True)
def _merge(solids, colours):  # noqa: C901
    """Greedy rectangles of equal (bottom, top, colour): first along x, then along y. In cells and height steps."""
    ny, nx = solids.shape[:2]
    done = np.zeros((ny, nx, LAYERS), np.bool_)
    out = np.empty((ny * nx * LAYERS, 6), np.float64)
    paint = np.empty(ny * nx * LAYERS, np.uint8)
    n = 0
    for y in range(ny):
        for x in range(nx):
            for k in range(LAYERS):
                z0, z1, c = solids[y, x, k, 0], solids[y, x, k, 1], colours[y, x, k]
                if z1 <= z0 or done[y, x, k]:
                    continue
                right = x
                while right < nx and _find(solids, colours, done, y, right, z0, z1, c) >= 0:
                    right += 1
                low = y + 1
                while low < ny:
                    whole = True
                    for u in range(x, right):
                        if _find(solids, colours, done, low, u, z0, z1, c) < 0:
                            whole = False
                            break
                    if not whole:
                        break
                    low += 1
                for v in range(y, low):
                    for u in range(x, right):
                        done[v, u, _find(solids, colours, done, v, u, z0, z1, c)] = True
                out[n, 0], out[n, 1], out[n, 2] = x, y, z0
                out[n, 3], out[n, 4], out[n, 5] = right, low, z1
                paint[n] = c
                n += 1
    return out[:n].copy(), paint[:n].copy()


@njit(cache=True, nogil=True)
def _find(solids, colours, done, y, x, z0, z1, c):
    """The layer of a cell that holds this very interval and is not merged yet, -1 if none does."""
    for k in range(LAYERS):
        if solids[y, x, k, 0] == z0 and solids[y, x, k, 1] == z1 and colours[y, x, k] == c and not done[y, x, k]:
            return k
    return -1


def to_mjcf(scene: Scene, floor: bool = True) -> str:
    """The scene as MJCF for MuJoCo: one box geom a box, a floor plane, a ceiling where there is one."""
    parts, colours = boxes(scene)
    lines = [f"<mujoco model={quoteattr(f'{scene.family}-{scene.split}-{scene.seed}')}>", "  <worldbody>"]
    width, depth = scene.size
    if floor:
        lines.append(
            f'    <geom name="floor" type="plane" pos="{width / 2:.4f} {depth / 2:.4f} 0" size="{width:.4f} {depth:.4f} 1" '
            'rgba="0.47 0.44 0.39 1"/>'
        )
    if np.isfinite(scene.ceiling):
        lines.append(_geom("ceiling", np.array([0, 0, scene.ceiling, width, depth, scene.ceiling + SLAB]), (225, 225, 225)))
    lines += [_geom(f"solid{k}", box, PALETTE[c]) for k, (box, c) in enumerate(zip(parts, colours, strict=True))]
    return "\n".join([*lines, "  </worldbody>", "</mujoco>", ""])


def _geom(name: str, box: np.ndarray, colour: np.ndarray | tuple[int, ...]) -> str:
    centre, half = (box[:3] + box[3:]) / 2, (box[3:] - box[:3]) / 2
    rgba = " ".join(f"{c / 255:.3f}" for c in colour)
    place, size = (" ".join(f"{v:.5f}" for v in vector) for vector in (centre, half))
    return f'    <geom name="{name}" type="box" pos="{place}" size="{size}" rgba="{rgba} 1"/>'


def to_mesh(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 (V, 3) [m, frame w], triangles int32 (F, 3) counter-clockwise from outside; floor, ceiling last."""
    parts, _ = boxes(scene)
    corner = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)])
    vertices = np.where(corner[None], parts[:, None, 3:], parts[:, None, :3]).reshape(-1, 3)
    sides = np.array(
        [
            (0, 2, 1),
            (1, 2, 3),
            (4, 5, 6),
            (5, 7, 6),
            (0, 1, 4),
            (1, 5, 4),
            (2, 6, 3),
            (3, 6, 7),
            (0, 4, 2),
            (2, 4, 6),
            (1, 3, 5),
            (3, 7, 5),
        ]
    )
    faces = (sides[None] + 8 * np.arange(len(parts))[:, None, None]).reshape(-1, 3)
    width, depth = scene.size
    for height, up in ((0.0, True), (scene.ceiling, False)):
        if np.isfinite(height):
            quad = np.array([(0, 0, height), (width, 0, height), (width, depth, height), (0, depth, height)])
            order = np.array([(0, 1, 2), (0, 2, 3)] if up else [(0, 2, 1), (0, 3, 2)])
            faces = np.concatenate([faces, order + len(vertices)])
            vertices = np.concatenate([vertices, quad])
    return vertices, faces.astype(np.int32)


def save_obj(scene: Scene, path: Path | str) -> Path:
    """Write the mesh as Wavefront OBJ, atomically."""
    target = Path(path)
    vertices, faces = to_mesh(scene)
    draft = target.with_name(target.name + ".tmp")
    with draft.open("w") as file:
        file.writelines(f"v {x:.4f} {y:.4f} {z:.4f}\n" for x, y, z in vertices)
        file.writelines(f"f {a} {b} {c}\n" for a, b, c in faces + 1)
    os.replace(draft, target)
    return target
