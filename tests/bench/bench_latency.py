"""Milliseconds of one PushT decision, the whole chunk, batch 1, one thread: what samplers and wrappers cost in onnxruntime.

python -m tests.bench.bench_latency [name=<run folder> …]     e.g. one_step=runs/one_step-pusht/<time>; others have random weights

Bars: one step below 1 ms, ten flow steps below 5 ms, one step at least 100 times faster than 100 steps of the published U-Net
in the same run. Of the samplers with a hundred steps one is timed, as its graph with one step, a hundred times over.
"""

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policies import onnx
from policies.held import hold
from policies.policy import Policy
from robot.core.config import build
from robot.learn.evaluator import revision
from sim import gym

FOUR = {"policy": "diffusion_policy", "generative": {"sample_steps": 4}}
ONCE = {"sample_steps": 1, "train_steps": 100, "stochastic": False}
SUBJECTS: dict[str, tuple[Any, int]] = {
    "one_step": ({"policy": "one_step", "base": {"policy": "diffusion_policy"}}, 1),
    "regression": ({"policy": "regression_policy"}, 1),
    "mip": ({"policy": "mip_policy"}, 1),
    "flow, 4 steps": (FOUR, 1),
    "flow, 10 steps": ({"policy": "diffusion_policy"}, 1),
    "dsrl, 4 steps": ({"policy": "dsrl", "base": FOUR}, 1),
    "expo, 4 and 4 edited, 4 steps": ({"policy": "expo", "base": FOUR}, 1),
    "vgps, 16 candidates, 4 steps": ({"policy": "vgps", "base": FOUR}, 1),
    "diffusion, 100 steps": ({"policy": "diffusion_policy", "generative": {"kind": "diffusion", **ONCE}}, 100),
    "published transformer, 100 steps": ({"policy": "diffusion_transformer", "generative": ONCE}, 100),
    "published U-Net, 100 steps": ({"policy": "diffusion_unet", "generative": ONCE}, 100),
}
"""What is held, and how often its graph runs in a decision."""


def times(policy: Policy, repeats: int, seconds: float = 2.0) -> dict[str, float]:
    """Percentiles of a decision [ms], over so many seconds of decisions."""
    generator = torch.Generator().manual_seed(0)
    observation = onnx.example(policy.interface, 1, generator)
    memory, noise = policy.initial_memory(1), torch.randn(1, *policy.noise_shape(), generator=generator)
    spent: list[float] = []
    while len(spent) < 25 or sum(spent) < 1e3 * seconds:
        start = time.perf_counter()
        with torch.no_grad():
            policy.plan(observation, memory, noise)
        spent.append(1e3 * (time.perf_counter() - start))
    return {f"p{q}_ms": round(repeats * float(np.percentile(spent[5:], q)), 3) for q in (50, 95)}


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    trained = dict(argument.split("=", 1) for argument in arguments)
    interface = build(gym.config("pusht", num_envs=1), "env").interface
    results: dict[str, dict[str, float]] = {}
    for name, (given, repeats) in SUBJECTS.items():
        policy = hold(trained.get(name, given), name, interface)
        with tempfile.TemporaryDirectory() as folder:
            file = onnx.export(policy, Path(folder))
            results[name] = times(onnx.OnnxPolicy(onnx.OnnxConfig(str(file), 1)), repeats)
            results[name] |= {"parameters": sum(p.numel() for p in policy.parameters()), "graph_runs": repeats}
            results[name]["random_weights"] = name not in trained
    slow = results["published U-Net, 100 steps"]["p50_ms"]
    for row in results.values():
        row["times_faster_than_unet"] = round(slow / row["p50_ms"], 1)
    about = {"machine": platform.processor() or platform.machine(), "load": os.getloadavg()[0], "revision": revision()}
    print(json.dumps({"benchmark": "latency", **about, "results": results}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
