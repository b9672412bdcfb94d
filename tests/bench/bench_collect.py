"""The navigation data engine on one core: `python -m tests.bench.bench_collect [--scenes N]`.

From an integer seed to trajectories: scene, occupancy and clearance, a cost-to-go field a goal, the expert's path, and an
84x84 depth frame every 4 cm of it in whole millimetres (uint16). One process, one thread; rates are per core-hour of CPU
time, so that other processes on the machine do not count. Prints JSON.

The bar is 80,000 trajectories per core-hour. NavDP's engine makes 2,500 a day on one GPU (arXiv 2505.08712v1).
"""

import argparse
import json
import math
import os
import platform
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
from numba import njit

from sim.navigation import fields as maps
from sim.navigation.pool import ScenePool
from sim.navigation.scene import CELL, Scene
from sim.navigation.scenes import FAMILIES, generate
from sim.sensors.caster import DepthCaster

BAR = 80_000
PUBLISHED = 2_500 / 24
SPACING = 0.04
"""Distance between frames [m]."""
SIDE = 84
"""Image side [px]."""
LONGEST = 25.0
"""Longest path [m]."""
SHORTEST = 3.0
"""Shortest path [m]."""
RADIUS, HEIGHT, CAMERA, PITCH, HFOV = 0.25, 0.45, 0.3, 0.0, math.pi / 2
"""The wheeled robot: footprint, body and camera height [m], pitch and field of view [rad]."""
MARGIN, WEIGHT = 0.3, 3.0
"""Clearance preference of the expert, as in configs/env/navigation.yaml."""


@njit(cache=True, nogil=True)
def path_poses(field: np.ndarray, x: float, y: float, goal: np.ndarray, points: np.ndarray, poses: np.ndarray) -> int:
    """Camera poses (x, y, yaw along the path) every SPACING of the expert's path; returns how many."""
    length = maps.descend(field, x, y, goal[0], goal[1], SPACING, points)
    count = min(int(length / SPACING), points.shape[0] - 2)
    for k in range(count):
        ahead = points[min(k + 2, count)]
        poses[k, 0] = points[k, 0]
        poses[k, 1] = points[k, 1]
        poses[k, 2] = math.atan2(ahead[1] - points[k, 1], ahead[0] - points[k, 0])
    return count


class Engine:
    """Buffers and the stages; `seconds` holds the CPU time of each."""

    def __init__(self) -> None:
        self.most = int(LONGEST / SPACING)
        self.pool = ScenePool(1, 400)
        self.caster = DepthCaster(self.pool, 1, SIDE, SIDE, 5.0, 1)
        self.caster.set_camera(*(np.array([value]) for value in (0, CAMERA, PITCH, HFOV)))
        self.points, self.poses = np.empty((self.most + 2, 2)), np.empty((self.most, 3))
        self.slots = np.zeros(self.most, np.int32)
        self.discs = np.zeros((self.most, 0, 4), np.float32)
        self.depth = np.empty((self.most, SIDE, SIDE), np.float32)
        self.stored = np.empty((self.most, SIDE, SIDE), np.uint16)
        self.seconds: dict[str, float] = defaultdict(float)
        self.trajectories = self.frames = 0
        self.metres = 0.0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds[stage] += time.process_time() - start

    def run(self, seed: int, goals: int, starts: int) -> None:
        """All trajectories of one scene."""
        rng = np.random.default_rng(seed)
        with self.timed("scene"):
            scene = generate(seed, "train", FAMILIES[seed % len(FAMILIES)])
            self.pool.put(0, scene)
        with self.timed("clearance"):
            free = maps.clearance(maps.occupied(scene.solids, HEIGHT))
            roomy = np.argwhere(free > RADIUS + 0.1)
        for _ in range(goals):
            self._goal(scene, free, roomy, starts, rng)

    def _goal(self, scene: Scene, free: np.ndarray, roomy: np.ndarray, starts: int, rng: np.random.Generator) -> None:
        with self.timed("cost_to_go"):
            goal = (roomy[rng.integers(len(roomy)), ::-1] + 0.5) * CELL
            field = maps.cost_to_go(free, RADIUS + 0.02, goal[0], goal[1], MARGIN, WEIGHT)
            cost = field[roomy[:, 0], roomy[:, 1]]
            far = np.flatnonzero((cost > SHORTEST) & (cost < LONGEST))
        for _ in range(starts if len(far) else 0):
            with self.timed("path"):
                x, y = (roomy[far[rng.integers(len(far))], ::-1] + 0.5) * CELL
                count = path_poses(field, x, y, goal, self.points, self.poses)
            with self.timed("depth"):
                self.caster.cast(self.slots[:count], self.poses[:count], self.discs[:count], self.depth[:count])
            with self.timed("pack"):
                np.multiply(self.depth[:count], np.float32(1000), out=self.depth[:count])
                np.rint(self.depth[:count], out=self.depth[:count])
                self.stored[:count] = self.depth[:count]
            self.trajectories += 1
            self.frames += count
            self.metres += count * SPACING

    def report(self) -> dict[str, object]:
        total = sum(self.seconds.values())
        rate = 3600 * self.trajectories / total
        return {
            "trajectories_per_core_hour": round(rate),
            "bar": BAR,
            "passes": rate >= BAR,
            "times_published_gpu_hour": round(rate / PUBLISHED),
            "frames_per_core_second": round(self.frames / total),
            "frames_per_core_second_rendering": round(self.frames / self.seconds["depth"]),
            "mean_path_m": round(self.metres / self.trajectories, 2),
            "frames_per_trajectory": round(self.frames / self.trajectories, 1),
            "trajectories": self.trajectories,
            "share": {stage: round(seconds / total, 4) for stage, seconds in self.seconds.items()},
            "ms_per_trajectory": {stage: round(1e3 * s / self.trajectories, 3) for stage, s in self.seconds.items()},
        }


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    revision = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "revision": revision,
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=30, help="scenes, of all families in turn")
    parser.add_argument("--goals", type=int, default=10, help="goals a scene, each with a cost-to-go field of its own")
    parser.add_argument("--starts", type=int, default=2, help="trajectories a goal")
    options = parser.parse_args()
    Engine().run(10_000, 1, 1)  # compiles
    engine = Engine()
    start = time.perf_counter()
    for seed in range(options.scenes):
        engine.run(seed, options.goals, options.starts)
    wall = time.perf_counter() - start
    print(json.dumps({**engine.report(), **vars(options), "wall_s": round(wall, 2), "threads": 1, **machine()}, indent=2))


if __name__ == "__main__":
    main()
