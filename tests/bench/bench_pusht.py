"""PushT beside gym-pusht: the same numbers, how fast, and the recorded people replayed; the demonstrator's skill and speed.

python -m tests.bench.bench_pusht [data=<pusht_cchi_v7_lowdim.npz>]          (needs `pip install gym-pusht`)

Bars: replay's median error below 1e-3 px, worst episode below 1 px; 4 times gym-pusht's steps/s on one core with coverage,
30 times with 64 tables on two cores; the demonstrator succeeds in 99 % and gives 3,000 demonstrations a core-hour.
"""

import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot.core.config import build
from robot.learn.evaluator import Evaluator, EvaluatorConfig, revision
from robot.learn.statistics import interval
from sim import gym
from sim.envs.pusht_gym import GymTables
from sim.pusht.geometry import coverages
from sim.pusht.physics import Tables

GOAL = np.array([256.0, 256.0, np.pi / 4])


def replay(data: Path) -> np.ndarray:
    """Largest error of each recorded episode (N,), of positions and of points 60 px from the T's origin [px]."""
    with np.load(data) as file:
        ends, states, actions = file["episode_ends"], file["state"].astype(np.float64), file["action"].astype(np.float64)
    starts = np.concatenate([[0], ends[:-1]])
    tables, worst = Tables(len(ends)), np.zeros(len(ends))
    for i, first in enumerate(starts):
        tables.place(i, states[first, :2], states[first, 2:])
    for k in range(int((ends - starts).max()) - 1):
        rows = np.minimum(starts + k, ends - 1)
        ours = tables.step(actions[rows])
        running = starts + k + 1 < ends
        theirs = states[np.minimum(rows + 1, ends - 1)]
        turn = np.abs((ours[:, 6] - theirs[:, 4] + np.pi) % (2 * np.pi) - np.pi)
        error = np.maximum(np.abs(ours[:, [0, 1, 4, 5]] - theirs[:, :4]).max(1), 60 * turn)
        worst = np.where(running, np.maximum(worst, error), worst)
    return worst


def agreement(sequences: int = 100, steps: int = 100) -> dict[str, float]:
    """Largest difference of states and coverages from gym-pusht's over random action sequences."""
    rng = np.random.default_rng(0)
    ours, theirs = Tables(sequences), GymTables(sequences)
    for i in range(sequences):
        start = rng.integers(50, 450, 2), [*rng.integers(100, 400, 2), rng.uniform(-np.pi, np.pi)]
        ours.place(i, *start, turn_last=True)
        theirs.place(i, *(np.array(part) for part in start), turn_last=True, friction=0.0)
    worst = {"state_px": 0.0, "coverage": 0.0, "moved_px": 0.0}
    begin = theirs.state.copy()
    for k in range(steps):
        if k % 5 == 0:
            targets = rng.uniform(50, 450, (sequences, 2))
        worst["state_px"] = max(worst["state_px"], float(np.abs(ours.step(targets) - theirs.step(targets)).max()))
        covered = coverages(ours.state[:, 4:], np.tile(GOAL, (sequences, 1)))
        worst["coverage"] = max(worst["coverage"], float(np.abs(covered - theirs.coverage).max()))
    worst["moved_px"] = float(np.abs(begin - theirs.state)[:, 4:6].mean())
    return worst


def rates(seconds: float = 2.0) -> dict[str, float]:
    """Steps a second with coverage, the best of three rounds in which all take turns."""
    rng = np.random.default_rng(1)
    subjects: dict[str, Any] = {
        "gym_pusht": GymTables(1), "ours_one_table": Tables(1), "ours_64_tables": Tables(64),
        "ours_64_tables_all_cores": Tables(64, 0),
    }  # fmt: skip
    for tables in subjects.values():
        for i in range(len(tables.state)):
            start = np.array(rng.uniform(50, 450, 2)), np.array([*rng.uniform(150, 350, 2), rng.uniform(-3, 3)])
            tables.place(i, *start, turn_last=True, friction=0.0)
    envs = {"env_64_worlds_all_cores": build(gym.config("pusht", num_envs=64), "env")}
    envs["env_64_worlds_all_cores"].reset(seed=0)
    best = dict.fromkeys([*subjects, *envs], 0.0)
    for _ in range(3):
        for name, tables in subjects.items():
            best[name] = max(best[name], _rate(lambda t: _step(tables, t), len(tables.state), seconds, rng))  # noqa: B023
        for name, env in envs.items():
            best[name] = max(best[name], _rate(lambda t: env.step(torch.from_numpy(t)), 64, seconds, rng))  # noqa: B023
    return best


def _step(tables: Any, targets: np.ndarray) -> None:
    tables.step(targets)
    if isinstance(tables, Tables):
        coverages(tables.state[:, 4:], np.tile(GOAL, (len(tables.state), 1)))


def _rate(work: Any, count: int, seconds: float, rng: np.random.Generator) -> float:
    start, steps, calls = time.perf_counter(), 0, 0
    while time.perf_counter() - start < seconds:
        if calls % 10 == 0:
            targets = rng.uniform(50, 450, (count, 2))
        work(targets)
        steps, calls = steps + count, calls + 1
    return steps / (time.perf_counter() - start)


def demonstrator(seed: int, episodes: int) -> dict[str, Any]:
    """Success of the push planner, and its demonstrations a core-hour; threads of compiled code are counted by CPU time."""
    env = build(gym.config("pusht", threads=1), "env")
    expert = build({**_expert()}, "policy", env=env)
    expert.plan({}, expert.initial_memory(64))
    start = time.process_time()
    report = Evaluator(EvaluatorConfig(episodes, seed, 0, 0, None)).run(expert, env, quiet=True)
    hours = (time.process_time() - start) / 3600
    mean, low, high = interval(report.columns["success"])
    return {
        "episodes": episodes, "seed": seed, "success": [round(100 * v, 1) for v in (mean, low, high)],
        "seconds": round(float(report.columns["time"].mean()), 2), "demonstrations_per_core_hour": round(episodes / hours),
    }  # fmt: skip


def _expert() -> dict[str, Any]:
    from omegaconf import OmegaConf

    from robot.core.paths import CONFIGS

    node = OmegaConf.to_container(OmegaConf.load(CONFIGS / "policy" / "pusht_expert.yaml"))
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items() if key != "defaults"}


def main() -> None:
    given = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    report: dict[str, Any] = {"bench": "pusht", "machine": platform.processor() or platform.machine()}
    if "data" in given:
        errors = replay(Path(given["data"]))
        worst = {"median": float(np.median(errors)), "worst": float(errors.max()), "episodes": len(errors)}
        report["replay_px"] = {**worst, "holds": bool(np.median(errors) < 1e-3 and errors.max() < 1.0)}
    report["against_gym_pusht"] = agreement()
    speed = rates()
    ratio = {name: round(value / speed["gym_pusht"], 1) for name, value in speed.items()}
    report["steps_per_second"] = {name: round(value) for name, value in speed.items()}
    report["times_gym_pusht"] = {**ratio, "holds": ratio["ours_one_table"] >= 4 and ratio["ours_64_tables_all_cores"] >= 30}
    report["demonstrator"] = [demonstrator(100_000, 50), demonstrator(200_000, 500)]
    print(json.dumps({**report, "load": os.getloadavg()[0], "revision": revision()}, indent=1))


if __name__ == "__main__":
    main()
