"""Our student beside the policy that RAPTOR's authors released, both in l2f, the simulator that it was trained in.

python -m tests.bench.bench_raptor [policy.onnx or folder] [--vehicles 1024]          (needs `pip install l2f foundation-policy`)

Both fly the same vehicles from the same starts. "Lost": more than 1 m off at the end, without termination; "failed": l2f's
limits were left. Errors are means over those not lost or failed. Intervals are 95 %. The first two rows have four times as
many vehicles.
"""

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf

from policies.onnx import OnnxConfig, OnnxPolicy
from robot.core.config import typed
from robot.core.paths import CONFIGS, PRETRAINED
from robot.learn.evaluator import revision
from robot.learn.statistics import interval, paired
from sim.quadrotor import tasks
from sim.quadrotor.vehicle import Distribution, DistributionConfig, arm_length
from tests.bench.peer_l2f import L2F

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Protocol_:
    """Starts, steps and what is followed."""

    name: str
    steps: int = 500
    force: bool = False
    limits: bool = False
    arms: float = 0.0
    position: float = 0.5
    angle: float = 1.0
    velocity: float = 1.0
    rate: float = 1.0
    guidance: float = 0.1
    period: float = 0.0
    fleets: int = 1


PROTOCOLS = [
    Protocol_("hold, forces", force=True, limits=True, fleets=4),
    Protocol_("hold", limits=True, fleets=4),
    Protocol_("hold from 10 arm lengths, forces", force=True, limits=True, position=0.0, arms=10.0),
    *(Protocol_(f"hold, tilt to {deg} deg", angle=math.radians(deg), guidance=0.0) for deg in (60, 90, 120, 180)),
    Protocol_("wild: 180 deg, 3 m/s, 10 rad/s", angle=math.pi, velocity=3.0, rate=10.0, guidance=0.0),
    Protocol_("thrown: 60 deg, 5 m/s, 5 rad/s", angle=math.pi / 3, velocity=5.0, rate=5.0, guidance=0.0),
    *(
        Protocol_(f"figure eight of {period} s", 1000, position=0.0, angle=0.0, velocity=0.0, rate=0.0, period=period)
        for period in (10.0, 5.5, 3.5)
    ),
    Protocol_("hold for 60 s", steps=6000),
]


class Pilot(Protocol):
    def reset(self, count: int) -> None: ...

    def act(self, observation: Floats) -> Floats: ...


class Released:
    """The released policy, from its own package."""

    def __init__(self) -> None:
        from foundation_policy import Raptor

        self.policy: Any = Raptor()

    def reset(self, count: int) -> None:
        self.policy.reset()

    def act(self, observation: Floats) -> Floats:
        return np.clip(self.policy.evaluate_step(observation), -1, 1).astype(np.float32)


class Ours:
    """A policy.onnx of ours."""

    def __init__(self, path: str) -> None:
        self.policy = OnnxPolicy(OnnxConfig(path, 1))

    def reset(self, count: int) -> None:
        self.memory = self.policy.initial_memory(count)

    def act(self, observation: Floats) -> Floats:
        x = torch.from_numpy(observation)
        parts = x.split([3, 9, 3, 3, 4], dim=1)
        seen = dict(zip(self.policy.interface.names, parts, strict=True))
        seen["rotation"] = seen["rotation"].unflatten(1, (3, 3))
        plan = self.policy.plan(seen, self.memory)
        self.memory = plan.memory
        return plan.actions[:, 0].numpy()


def reference(protocol: Protocol_, count: int) -> tasks.Reference:
    path = tasks.Reference(count)
    if protocol.period:
        config = tasks.ReferenceConfig(tasks.Task.figure_eight, [protocol.period] * 2, [2.0, 1.0, 0.0], 1.0)
        path.begin(torch.arange(count), config, torch.full((count, tasks.ReferenceConfig.DRAWS), 0.5))
    return path


def fly(peer: L2F, pilot: Pilot, protocol: Protocol_, reach: Floats) -> dict[str, Floats]:
    """Final error, root of the mean square, return, whether it failed or was lost, by vehicle."""
    path = reference(protocol, peer.count)
    failed, squares, total = np.zeros(peer.count, bool), np.zeros(peer.count), np.zeros(peer.count)
    final, last = np.zeros(peer.count), np.zeros((peer.count, 4), np.float32)
    pilot.reset(peer.count)
    seen = relative(peer.observe(), path, 0)
    for k in range(protocol.steps):
        action = pilot.act(seen)
        peer.step(action)
        seen = relative(peer.observe(), path, k + 1)
        error = np.linalg.norm(seen[:, :3], axis=1)
        going = ~failed
        if protocol.limits:
            speed, rate = np.abs(seen[:, 12:15]), np.abs(seen[:, 15:18])
            over = (np.abs(seen[:, :3]) > reach[:, None]).any(1) | (speed > 2).any(1) | (rate > 35).any(1)
            total -= 100.0 * (going & over)
            failed |= over
        yaw = 2 * np.arccos(np.clip(1 - np.abs(heading(seen)), -1, 1))
        total += going * (1.5 - error - 0.1 * yaw - np.linalg.norm(action - last, axis=1))
        final, last = np.where(np.isfinite(error), error, np.inf), action
        squares += np.minimum(final, 1e3) ** 2
    lost = failed if protocol.limits else final > 1
    return {"lost": lost, "final": final, "rmse": np.sqrt(squares / protocol.steps), "return": total}


def relative(seen: Floats, path: tasks.Reference, step: int) -> Floats:
    where, speed = path.at(torch.full((len(seen),), 0.01 * step))
    out = seen.copy()
    out[:, :3] -= where.numpy()
    out[:, 12:15] -= speed.numpy()
    return out


def heading(seen: Floats) -> Floats:
    """q_z from the rotation matrix."""
    r = seen[:, 3:12]
    return np.sqrt(np.maximum(0, 1 - r[:, 0] - r[:, 4] + r[:, 8])) / 2


class World:
    """Vehicles of the distribution and where they start, from a seed."""

    def __init__(self, count: int, seed: int) -> None:
        node = OmegaConf.load(CONFIGS / "env" / "quadrotor.yaml")
        rng = torch.Generator().manual_seed(seed)
        draws = torch.rand(count, Distribution.DRAWS, generator=rng)
        self.count, self.starts = count, torch.rand(count, tasks.StartConfig.DRAWS, generator=rng)
        self.base = typed(tasks.StartConfig, node.start, "start")
        self.fleet = Distribution(typed(DistributionConfig, node.vehicles, "vehicles")).sample(draws)
        weight = 1.5 + 3.5 * draws[:, 0]
        self.spread = (0.3 * (weight - 1) * draws[:, 4] * weight * self.fleet["mass"] / 3).numpy()
        self.reach = 20 * arm_length(self.fleet).numpy()

    def fly(self, pilot: Pilot, protocol: Protocol_) -> dict[str, Floats]:
        """Every vehicle once, with the forces that l2f draws for it where the protocol has forces."""
        config = replace(
            self.base, position=protocol.position, position_arms=protocol.arms, angle=protocol.angle,
            velocity=protocol.velocity, rate=protocol.rate, guidance=protocol.guidance,
        )  # fmt: skip
        state = tasks.start(config, self.fleet, self.starts)
        if protocol.period:
            state[:, 7:10] += reference(protocol, self.count).at(torch.zeros(self.count))[1]
        peer = L2F(self.fleet, seed=7, spread=self.spread if protocol.force else None)
        peer.place(state.numpy())
        if protocol.force:
            peer.sample_forces(state.numpy())
        return fly(peer, pilot, protocol, self.reach)


def run(pilots: dict[str, Pilot], count: int) -> list[dict[str, Any]]:
    """A row a protocol."""
    worlds = [World(count, 2_000_000 + k) for k in range(max(protocol.fleets for protocol in PROTOCOLS))]
    rows = []
    for protocol in PROTOCOLS:
        flights = {}
        for name, pilot in pilots.items():
            parts = [world.fly(pilot, protocol) for world in worlds[: protocol.fleets]]
            flights[name] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        rows.append(summary(protocol, flights))
        print(json.dumps(rows[-1]), flush=True)
    return rows


def summary(protocol: Protocol_, flights: dict[str, dict[str, Floats]]) -> dict[str, Any]:
    row: dict[str, Any] = {"protocol": protocol.name, "n": len(next(iter(flights.values()))["lost"])}
    for name, flight in flights.items():
        kept = ~flight["lost"].astype(bool)
        lost = [round(100 * v, 1) for v in interval(flight["lost"].astype(float))]
        measure = "rmse" if protocol.period else "final"
        error = [round(v, 4) for v in interval(flight[measure][kept])]
        p95 = round(float(np.percentile(flight[measure][kept], 95)), 4)
        row[name] = {
            "lost_percent": lost,
            f"{measure}_m": error,
            "p95_m": p95,
            "return": round(float(flight["return"].mean()), 1),
        }
    if len(flights) == 2:
        first, second = (flight["lost"].astype(float) for flight in flights.values())
        row["lost_difference_percent"] = [round(100 * v, 1) for v in paired(first, second)]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policy", nargs="?", default=str(PRETRAINED / "raptor"))
    parser.add_argument("--vehicles", type=int, default=1024)
    given = parser.parse_args()
    pilots: dict[str, Pilot] = {"ours": Ours(given.policy), "released": Released()}
    rows = run(pilots, given.vehicles)
    print(json.dumps({"bench": "raptor", "policy": Path(given.policy).name, "vehicles": given.vehicles, "revision": revision()}))
    for row in rows:
        cells = [f"{row['protocol']:<34}"]
        for name in pilots:
            measure = next(key for key in row[name] if key.endswith("_m") and key != "p95_m")
            cells.append(f"{name}: lost {row[name]['lost_percent'][0]:5.1f} %  {measure[:-2]} {row[name][measure][0]:.4f} m")
        print("   ".join(cells))


if __name__ == "__main__":
    main()
