"""Milliseconds of one NavDP decision for one robot, 16 candidates, one thread: onnxruntime beside torch on the same inputs.

python -m tests.bench.bench_policy [run folder or folder with policy.onnx]
"""

import json
import platform
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from policies import onnx
from policies.policy import Policy
from robot.core.config import build, typed
from robot.core.paths import CONFIGS
from robot.learn.checkpoint import load_policy
from robot.learn.evaluator import revision
from sim.navigation.config import NavigationConfig, interface


def small() -> Policy:
    """The small preset with random weights: as fast as a trained one."""
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cfg = compose("train", ["policy=navdp"])
    return build(cfg.policy, "policy", interface=interface(typed(NavigationConfig, cfg.env, "env"))).eval()


def times(policy: Policy, count: int = 60) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    observation = onnx.example(policy.interface, 1, generator)
    memory, noise = policy.initial_memory(1), torch.randn(1, *policy.noise_shape(), generator=generator)
    spent = []
    for _ in range(count + 5):
        start = time.perf_counter()
        with torch.no_grad():
            memory = policy.plan(observation, memory, noise).memory
        spent.append(1e3 * (time.perf_counter() - start))
    return {f"p{q}_ms": round(float(np.percentile(spent[5:], q)), 2) for q in (50, 99)}


def main() -> None:
    torch.set_num_threads(1)
    policy = load_policy(sys.argv[1])[0] if len(sys.argv) > 1 else small()
    with tempfile.TemporaryDirectory() as folder:
        file = onnx.export(policy, Path(folder))
        result = {"onnxruntime": times(onnx.OnnxPolicy(onnx.OnnxConfig(str(file), 1))), "torch": times(policy)}
        result["size_mb"] = round(file.stat().st_size / 1e6, 2)
        result["largest_difference"] = onnx.parity(policy, file)
    result["ratio"] = round(result["torch"]["p50_ms"] / result["onnxruntime"]["p50_ms"], 2)
    about = {"machine": platform.processor() or platform.machine(), "revision": revision(), "candidates": policy.noise_shape()[0]}
    print(json.dumps({"benchmark": "policy", **about, "results": result}, indent=1))


if __name__ == "__main__":
    main()
