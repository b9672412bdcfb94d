"""What disturbs a flight, and whom: the student, a cascade that knows the vehicle, and, if there are any, the vehicle's teachers.

python -m tests.bench.bench_robustness [policy.onnx or folder] [--teachers <run folder>] [--vehicles 1024] [--seed 1000000]
python -m tests.bench.bench_robustness --table                        (each vehicle of configs/vehicle instead)

Hold for five seconds from the starts of RAPTOR's protocol, with its outer forces, without termination. "Lost": more than 1 m off
at the end; errors are means over those not lost. Intervals are 95 %. With --teachers all fly the vehicles that those learnt on.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import sim.gym
from policies.onnx import OnnxConfig, OnnxPolicy
from policies.policy import Policy
from robot.core.config import build
from robot.core.paths import CONFIGS, PRETRAINED
from robot.learn.evaluator import Evaluator, EvaluatorConfig, revision
from robot.learn.statistics import interval, paired
from sim.envs.quadrotor import Quadrotor
from sim.quadrotor import vehicle

CONDITIONS: dict[str, dict[str, Any]] = {
    "nominal": {},
    "wind to 5 m/s on each axis, drag 0.3/s": {"wind": 5.0, "drag": 0.3},
    "push of 2 m/s": {"event": {"push": 2.0}},
    "payload of 30 %": {"event": {"payload": 0.3}},
    "a motor loses 20 %": {"event": {"loss": 0.2}},
    "latency of 20 ms": {"latency": 2},
    "noise: 5 mm, 0.01, 0.05 m/s, 0.05 rad/s": {"noise": {"position": 0.005, "rotation": 0.01, "velocity": 0.05, "rate": 0.05}},
}
"""Keys of the env. Drag as measured for small quadrotors (0.2 to 0.5/s; Faessler et al., RA-L 2018); noise of motion capture
with an IMU. Events come at two seconds."""
Make = Callable[[Quadrotor], Policy]


def teachers(run: Path) -> Make:
    """The specialists of a distillation, those that failed their examination among them."""
    kept = torch.load(run / "teachers.pt", weights_only=True)
    node = OmegaConf.load(run / "config.yaml").data.school.policy

    def make(env: Quadrotor) -> Policy:
        team = build({**node, "size": len(kept["inertia"])}, "teachers", interface=env.interface, env=env)
        team.load_state_dict(kept["weights"])
        return team.choose(env.assigned[:: env.num_envs // env.config.fleet])

    return make


def pilots(policy: str, run: Path | None) -> dict[str, Make]:
    with initialize_config_dir(str(CONFIGS), version_base=None):
        cascade = compose("train", ["policy=cascade"]).policy
    made: dict[str, Make] = {
        "student": lambda env: OnnxPolicy(OnnxConfig(policy, 1)),
        "cascade": lambda env: build(cascade, "cascade", interface=env.interface, env=env),
    }
    return made if run is None else {**made, "teachers": teachers(run)}


def fly(make: Make, count: int, seed: int, keys: dict[str, Any]) -> dict[str, np.ndarray]:
    """A flight in each of `count` worlds: measures by name, (count,) each."""
    env = build(sim.gym.config("quadrotor", num_envs=count, **{"limits": {"terminate": False}, **keys}), "env")
    evaluator = Evaluator(EvaluatorConfig(count, seed, 0, 0, None))
    return evaluator.run(make(env), env, quiet=True).columns


def row(name: str, made: dict[str, Make], count: int, seed: int, keys: dict[str, Any]) -> dict[str, Any]:
    flights = {pilot: fly(make, count, seed, keys) for pilot, make in made.items()}
    out: dict[str, Any] = {"condition": name, "n": count, "seed": seed}
    for pilot, columns in flights.items():
        kept = columns["final_error"][columns["lost"] == 0]
        out[pilot] = {
            "lost_percent": [round(100 * v, 1) for v in interval(columns["lost"])],
            "final_m": [round(v, 4) for v in interval(kept)],
            "p95_m": round(float(np.percentile(kept, 95)), 4) if len(kept) else None,
            "return": round(float(columns["return"].mean()), 1),
        }
        if pilot != "student":
            difference = paired(flights["student"]["lost"], columns["lost"])
            out[pilot]["student_lost_more_percent"] = [round(100 * v, 1) for v in difference]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", nargs="?", default=str(PRETRAINED / "raptor"))
    parser.add_argument("--teachers", type=Path, default=None, help="run folder with teachers.pt")
    parser.add_argument("--table", action="store_true", help="each vehicle of configs/vehicle, with RAPTOR's limits")
    parser.add_argument("--vehicles", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1_000_000)
    given = parser.parse_args()
    made, common = pilots(given.policy, given.teachers), {}
    if given.teachers:
        env = OmegaConf.load(given.teachers / "config.yaml").env
        common = {"fleet": env.fleet, "fleet_seed": env.fleet_seed, "vehicles": OmegaConf.to_container(env.vehicles)}
    conditions = CONDITIONS
    if given.table:
        conditions = {name: {"vehicle": name, "limits": {"terminate": True}} for name in vehicle.names()}
    print(json.dumps({"bench": "robustness", "policy": Path(given.policy).name, "revision": revision()}))
    rows = []
    for name, keys in conditions.items():
        rows.append(row(name, made, given.vehicles, given.seed, {**common, **keys}))
        print(json.dumps(rows[-1]), flush=True)
    for each in rows:
        cells = [f"{each['condition']:<42}"]
        cells += [f"{p}: lost {each[p]['lost_percent'][0]:5.1f} %  error {each[p]['final_m'][0]:.4f} m" for p in made]
        print("   ".join(cells))


if __name__ == "__main__":
    main()
