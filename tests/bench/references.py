"""Independent ray casters on an exported scene: MuJoCo's mj_multiRay and open3d's RaycastingScene. For tests and benchmarks."""

import math

import mujoco
import numpy as np

from sim.navigation.export import to_mesh, to_mjcf
from sim.navigation.scene import Scene


def rays(pose: np.ndarray, camera: tuple[float, float, float], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and directions (H * W, 3) in frame w, one metre long along the optical axis; camera = height, pitch, view."""
    height, pitch, hfov = camera
    rows, cols = size
    slope = 2.0 * math.tan(0.5 * hfov) / cols
    left = np.broadcast_to(-(np.arange(cols) + 0.5 - 0.5 * cols) * slope, (rows, cols))
    up = np.broadcast_to((-(np.arange(rows) + 0.5 - 0.5 * rows) * slope)[:, None], (rows, cols))
    c, s = math.cos(pitch), math.sin(pitch)
    ahead, rise = c - s * up, s + c * up
    yaw_c, yaw_s = math.cos(pose[2]), math.sin(pose[2])
    directions = np.stack([yaw_c * ahead - yaw_s * left, yaw_s * ahead + yaw_c * left, rise], -1).reshape(-1, 3)
    return np.array([pose[0], pose[1], height]), directions


class MujocoCaster:
    def __init__(self, scene: Scene) -> None:
        self.model = mujoco.MjModel.from_xml_string(to_mjcf(scene))
        self.data = mujoco.MjData(self.model)
        mujoco.mj_forward(self.model, self.data)

    def cast(self, origin: np.ndarray, directions: np.ndarray, max_range: float) -> np.ndarray:
        """z-depth (N,) [m], 0 beyond max_range; directions are one metre long along the axis, so distances scale to depth."""
        count = len(directions)
        geom, distance = np.zeros(count, np.int32), np.zeros(count)
        mujoco.mj_multiRay(
            self.model, self.data, origin, directions.ravel(), None, 1, -1, geom, distance, None, count, mujoco.mjMAXVAL
        )
        return np.where((distance < 0) | (distance > max_range), 0.0, distance)


class Open3dCaster:
    def __init__(self, scene: Scene) -> None:
        import open3d

        self.core = open3d.core
        vertices, faces = to_mesh(scene)
        self.scene = open3d.t.geometry.RaycastingScene(nthreads=1)
        self.scene.add_triangles(self.core.Tensor(vertices.astype(np.float32)), self.core.Tensor(faces.astype(np.uint32)))

    def cast(self, origin: np.ndarray, directions: np.ndarray, max_range: float) -> np.ndarray:
        beams = np.concatenate([np.broadcast_to(origin, directions.shape), directions], axis=1).astype(np.float32)
        distance = self.scene.cast_rays(self.core.Tensor(beams), nthreads=1)["t_hit"].numpy()
        return np.where(distance <= max_range, distance, 0.0)
