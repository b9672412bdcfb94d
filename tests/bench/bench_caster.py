"""Depth images a second on one core, beside mj_multiRay and open3d (embree) on the same exported scenes, in the same run.

python -m tests.bench.bench_caster

Rates are per second of CPU time, the best of three rounds in which all take turns, so that other processes on the machine
count little. Bars at 84x84: 10 times open3d, 40 times mj_multiRay, a median error below 5 mm against both.
"""

import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robot.learn.evaluator import revision
from sim.navigation import fields
from sim.navigation.pool import ScenePool
from sim.navigation.scene import CELL, Scene
from sim.navigation.scenes import FAMILIES, generate
from sim.sensors.caster import DepthCaster
from tests.bench.references import MujocoCaster, Open3dCaster, rays

CAMERAS = {"84x84": ((84, 84), math.radians(90)), "160x120": ((120, 160), math.radians(79))}
MOUNTS = {"wheeled": (0.3, 0.0), "quadruped": (0.45, math.radians(-10)), "humanoid": (1.25, math.radians(-30))}
"""Camera height [m] and pitch [rad]."""
PEERS = {"mj_multiRay": (MujocoCaster, 40.0), "open3d": (Open3dCaster, 10.0)}
"""The other casters, and how many times faster than each ours has to be."""
RANGE, COUNT, THEIRS = 5.0, 32, 2
"""Range [m], images a scene, and how many of them the others make a turn."""


def places(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Random poses (COUNT, 3) with half a metre of room."""
    free = np.argwhere(fields.clearance(fields.occupied(scene.solids, 1.35)) > 0.5)
    chosen = free[rng.integers(len(free), size=COUNT)]
    return np.column_stack([(chosen[:, ::-1] + 0.5) * CELL, rng.uniform(-np.pi, np.pi, COUNT)])


def rates(workers: dict[str, Callable[[], int]], seconds: float = 0.3) -> dict[str, float]:
    """Images per second of CPU time; a worker makes some and returns how many."""
    best = dict.fromkeys(workers, 0.0)
    for _ in range(3):
        for name, work in workers.items():
            start, images = time.process_time(), 0
            while time.process_time() - start < seconds:
                images += work()
            best[name] = max(best[name], images / (time.process_time() - start))
    return best


class World:
    """The scenes, in the pool and in the other casters."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        scenes = [generate(100 + k, "train", family) for k, family in enumerate(FAMILIES)]
        self.pool = ScenePool(len(scenes), 400)
        for k, scene in enumerate(scenes):
            self.pool.put(k, scene)
        self.poses = np.stack([places(scene, rng) for scene in scenes])
        self.peers = {name: [kind(scene) for scene in scenes] for name, (kind, _) in PEERS.items()}

    def measure(self, size: tuple[int, int], hfov: float, height: float, pitch: float) -> dict[str, float]:
        count = len(self.poses)
        caster = DepthCaster(self.pool, count, *size, RANGE, threads=1)
        caster.set_camera(np.arange(count), *(np.full(count, value) for value in (height, pitch, hfov)))
        slots, poses = np.repeat(np.arange(count), COUNT), self.poses.reshape(-1, 3)
        nobody, out = np.zeros((len(slots), 0, 4), np.float32), np.zeros((len(slots), *size), np.float32)
        beams = [[rays(pose, (height, pitch, hfov), size) for pose in group[:THEIRS]] for group in self.poses]
        mine = out.reshape(count, COUNT, -1)[:, :THEIRS]

        def ours() -> int:
            caster.cast(slots, poses, nobody, out)
            return len(slots)

        def theirs(peers: list) -> np.ndarray:
            return np.array([[peer.cast(*beam, RANGE) for beam in group] for peer, group in zip(peers, beams, strict=True)])

        ours()
        result = {}
        for name, peers in self.peers.items():
            error = np.abs(mine - theirs(peers))
            result[f"median_error_mm_{name}"] = 1e3 * float(np.median(error))
            result[f"off_by_5cm_percent_{name}"] = 100 * float((error > 0.05).mean())
        workers = {name: lambda peers=peers: theirs(peers).shape[0] * THEIRS for name, peers in self.peers.items()}
        speed = rates({"tiller": ours, **workers})
        return {**speed, **{f"ratio_{name}": speed["tiller"] / speed[name] for name in PEERS}, **result}


def passes(row: dict[str, float]) -> bool:
    return all(row[f"ratio_{name}"] >= bar and row[f"median_error_mm_{name}"] < 5.0 for name, (_, bar) in PEERS.items())


def machine() -> dict[str, object]:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"cpu": names[0] if names else platform.machine(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2)}


def main() -> None:
    world = World()
    rows = {
        f"{image} {robot}": world.measure(size, hfov, height, pitch)
        for image, (size, hfov) in CAMERAS.items()
        for robot, (height, pitch) in MOUNTS.items()
    }
    results = {name: {key: float(f"{value:.4g}") for key, value in row.items()} for name, row in rows.items()}
    done = {name: passes(row) for name, row in rows.items()}
    about = {"benchmark": "caster", "unit": "images per core-second", "revision": revision(), **machine()}
    print(json.dumps({**about, "passes": done, "results": results}, indent=1))


if __name__ == "__main__":
    main()
