"""A composition of two generators beside both: every weight on a grid, the weights from held-out data, `and`, `or`.

python -m tests.bench.bench_compose parents=<run>,<run> root=<held-out demonstrations> [env=pusht episodes=1000 grid=10 …]

Differences are over the same starts, with t intervals. Bars: at the weights from held-out data never below the better parent
beyond the interval, and these weights within 0.1 of the best ones of the grid.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from policies.composition import Fit, fit
from policies.gpc import Gpc, GpcConfig, Operator
from robot.core.config import build
from robot.core.paths import CONFIGS
from robot.learn.evaluator import Evaluator, EvaluatorConfig, revision
from robot.learn.sources import Episodes, EpisodesConfig
from robot.learn.statistics import interval, paired
from sim import gym
from sim.env import Env

KEYS = {
    "env": "pusht", "episodes": "1000", "seed": "2000000", "frames": "4096", "samples": "8", "steps": "10", "temperature": "1.0",
    "execute": "8", "num_envs": "250", "grid": "10", "only": "", "parents": "", "root": "",
}  # fmt: skip


def weigh(keys: dict[str, str], parents: list[str], env: Env) -> Fit:
    """What held-out demonstrations say."""
    gpc = Gpc(
        GpcConfig(parents, [1.0] * len(parents), None, Operator.convex, 1.0, int(keys["steps"]), 1.0, 1), env.interface, env
    )
    source = Episodes(EpisodesConfig(keys["root"], 0, int(keys["frames"]), None), env)
    source.open(Path(), 0)
    generator = torch.Generator().manual_seed(0)
    return fit(gpc.eval(), source.batch(0, gpc), int(keys["steps"]), int(keys["samples"]), generator)


def subjects(found: Fit, parts: int, only: str) -> dict[str, dict[str, Any]]:
    """Name of each composition and how its config differs; the first weight, of `parts` + 1 ones, is that of the first parent.

    `only` names those to play beside the parents, with commas between; empty for all.
    """
    grid = [k / parts for k in range(parts + 1)]
    out: dict[str, dict[str, Any]] = {f"w={w:.3g}": {"weights": [w, 1 - w]} for w in grid}
    out["closed form"] = {"weights": found.weights.tolist()}
    rows = [[float(t), *level] for t, level in zip(found.times, found.levels.tolist(), strict=True)]
    out["closed form by time"] = {"levels": rows}
    out |= {"and": {"operator": Operator.both}, "or": {"operator": Operator.either}}
    named = {*only.split(","), "w=0", "w=1"}
    return {name: change for name, change in out.items() if not only or name in named}


def main(arguments: list[str]) -> None:
    keys = {**KEYS, **dict(argument.split("=", 1) for argument in arguments)}
    parents = keys["parents"].split(",")
    with initialize_config_dir(str(CONFIGS / "test"), version_base=None):
        final = OmegaConf.to_container(compose(keys["env"]))
    assert isinstance(final, dict)
    changed = {**{str(key): value for key, value in final.items()}, "threads": 1, "num_envs": int(keys["num_envs"])}
    env = build(gym.config(keys["env"], **changed), "env")
    found = weigh(keys, parents, env)
    evaluator = Evaluator(EvaluatorConfig(int(keys["episodes"]), int(keys["seed"]), 0, 0, None))
    rows, success, plays = {}, {}, subjects(found, int(keys["grid"]), keys["only"])
    for name, change in plays.items():
        plain = {"weights": [0.5, 0.5], "levels": None, "operator": Operator.convex, "sharpness": 1.0}
        shared = {"steps": int(keys["steps"]), "temperature": float(keys["temperature"]), "execute": int(keys["execute"])}
        policy = Gpc(GpcConfig(parents=parents, **{**plain, **shared, **change}), env.interface, env).eval()
        start = time.perf_counter()
        report = evaluator.run(policy, env, quiet=True)
        success[name] = report.columns["success"]
        rows[name] = {"success": interval(success[name]), "seconds": round(time.perf_counter() - start, 1)}
        if "score" in report.columns:
            rows[name]["score"] = interval(report.columns["score"])
        print(name, rows[name], file=sys.stderr, flush=True)
    better = max(("w=0", "w=1"), key=lambda name: success[name].mean())
    for name, row in rows.items():
        row["beyond_better_parent"] = paired(success[name], success[better])
    grid = {name: change["weights"][0] for name, change in plays.items() if name.startswith("w=")}
    best = max(grid, key=lambda name: success[name].mean())
    about = {
        "parents": parents, "revision": revision(), "better": better, "best_grid_weight": grid[best],
        "closed_form_weight": round(float(found.weights[0]), 3), "disagreement": round(float(found.disagreement[0, 1]), 3),
        "predicted_error": {name: round(found.error(torch.tensor([w, 1 - w])), 5) for name, w in grid.items()},
        "levels": np.round(found.levels[:, 0].numpy(), 3).tolist(),
    }  # fmt: skip
    print(json.dumps({"benchmark": "compose", **about, "keys": keys, "results": rows}, indent=1, default=float))


if __name__ == "__main__":
    main(sys.argv[1:])
