"""Depth images a second on one core, beside mj_multiRay and open3d (embree) on the same exported scenes, in the same run.

python -m tests.bench.bench_caster
"""

import json
import math
import platform
import time
from collections.abc import Callable

import numpy as np

from robot.learn.evaluator import revision
from sim.navigation import fields
from sim.navigation.pool import ScenePool
from sim.navigation.scene import CELL
from sim.navigation.scenes import FAMILIES, generate
from sim.sensors.caster import DepthCaster
from tests.bench.references import MujocoCaster, Open3dCaster, rays

CAMERAS = {"84x84": ((84, 84), math.radians(90)), "160x120": ((120, 160), math.radians(79))}
RANGE, HEIGHT = 5.0, 0.3


def poses_in(scene, count: int, rng: np.random.Generator) -> np.ndarray:
    """Random poses (count, 3) with half a metre of room."""
    free = np.argwhere(fields.clearance(fields.occupied(scene.solids, 1.35)) > 0.5)
    chosen = free[rng.integers(len(free), size=count)]
    return np.column_stack([(chosen[:, ::-1] + 0.5) * CELL, rng.uniform(-np.pi, np.pi, count)])


def rate(work: Callable[[], int], seconds: float) -> float:
    """Images per second of CPU time, best of three."""
    best = 0.0
    for _ in range(3):
        start, images = time.process_time(), 0
        while time.process_time() - start < seconds:
            images += work()
        best = max(best, images / (time.process_time() - start))
    return best


def measure(size: tuple[int, int], hfov: float, pitch: float) -> dict[str, float]:
    rng = np.random.default_rng(0)
    scenes = [generate(100 + k, "train", family) for k, family in enumerate(FAMILIES)]
    pool = ScenePool(len(scenes), 400)
    for k, scene in enumerate(scenes):
        pool.put(k, scene)
    caster = DepthCaster(pool, len(scenes), *size, RANGE, threads=1)
    n = len(scenes)
    caster.set_camera(np.arange(n), np.full(n, HEIGHT), np.full(n, pitch), np.full(n, hfov))
    poses = [poses_in(scene, 32, rng) for scene in scenes]
    slots, places = np.repeat(np.arange(n), 32), np.concatenate(poses)
    discs, out = np.zeros((len(slots), 0, 4), np.float32), np.zeros((len(slots), *size), np.float32)

    def ours() -> int:
        caster.cast(slots, places, discs, out)
        return len(slots)

    ours()
    result = {"tiller": rate(ours, 1.0)}
    for name, kind in (("mj_multiRay", MujocoCaster), ("open3d", Open3dCaster)):
        others = [kind(scene) for scene in scenes]
        beams = [[rays(pose, (HEIGHT, pitch, hfov), size) for pose in group[:4]] for group in poses]
        reference = [other.cast(o, d, RANGE) for other, group in zip(others, beams, strict=True) for o, d in group]
        mine = [out[32 * k + j].ravel() for k in range(n) for j in range(4)]
        error = np.abs(np.array(mine) - np.array(reference))
        result[f"median_error_mm_{name}"] = 1e3 * float(np.median(error))
        result[f"off_by_5cm_percent_{name}"] = 100 * float((error > 0.05).mean())

        def theirs(others=others, beams=beams) -> int:
            for other, group in zip(others, beams, strict=True):
                for origin, directions in group:
                    other.cast(origin, directions, RANGE)
            return sum(len(group) for group in beams)

        result[name] = rate(theirs, 1.0)
        result[f"ratio_{name}"] = result["tiller"] / result[name]
    return result


def main() -> None:
    rows = {
        f"{name}, pitch {pitch}": {k: round(v, 3) for k, v in measure(size, hfov, pitch).items()}
        for name, (size, hfov) in CAMERAS.items()
        for pitch in (0.0, -0.26)
    }
    about = {"machine": platform.processor() or platform.machine(), "revision": revision(), "unit": "images per core-second"}
    print(json.dumps({"benchmark": "caster", **about, "results": rows}, indent=1))


if __name__ == "__main__":
    main()
