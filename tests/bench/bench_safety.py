"""A million commands of adversaries through the gate, and what a call costs; beside the clamps of others, as their formulas are.

python -m tests.bench.bench_safety [runs=1000 length=1000 guard=100000]

Random search: `runs` robots of random limits, each against `length` commands (jumps, limits, infinities, nonsense, waves), then
it must stop. Through the guard: actions of any shape, type and age. Bars: no violation; at most 25 us a call for 7 joints.
"""

import json
import math
import os
import random
import statistics
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np

from hardware import safety
from hardware.collision import Collision, Joint, Sphere
from hardware.drivers.base import Reading
from hardware.fakes.keys import keys
from hardware.guard import Action, Guard, Mode
from hardware.limits import Channel, Family, Limits, Safe
from robot.core.interface import Field, Interface
from tests.hardware.test_safety import ARM, adversary, attack, broken

KEYS = {"runs": 1000, "length": 1000, "guard": 100_000}
JOINTS = 7
DT = 0.002


def search(runs: int, length: int) -> dict[str, Any]:
    """How many robots an adversary broke."""
    failed = []
    for seed in range(10_000, 10_000 + runs):
        try:
            attack(seed, length)
        except AssertionError as error:
            failed.append(str(error)[:200])
    return {"commands": runs * length, "violations": len(failed), "first": failed[:3]}


def arm() -> tuple[Limits, Interface]:
    names = tuple(f"joint{k}" for k in range(JOINTS))
    channels = [Channel(n, "rad", ARM.low, ARM.high, ARM.rate, ARM.rate2, ARM.rate3) for n in names]
    seen = (Field("joints", (JOINTS,), "float32", "rad", names=names),)
    interface = Interface(seen, Field("targets", (JOINTS,), "float32", "rad", names=names), DT)
    return Limits(Family.joints, Safe.hold, DT, 0.02, 0.02, math.inf, [], channels, [], None, None, None), interface


def nonsense(rng: random.Random, numbers: np.random.Generator) -> Any:
    """What no policy should say."""
    return rng.choice(
        [
            numbers.uniform(-4, 4, JOINTS), numbers.uniform(-4, 4, JOINTS).astype(np.float32), np.full(JOINTS, math.nan),
            np.full(JOINTS, 1e300), np.full(JOINTS, -math.inf), np.full(JOINTS, 5e-324), numbers.uniform(-1, 1, (1, JOINTS)),
            numbers.uniform(-1, 1, JOINTS - 1), np.zeros(0), np.array(["x"] * JOINTS), np.array([None] * JOINTS, object),
            numbers.integers(-9, 9, JOINTS), np.full(JOINTS, 1 + 1j), np.full(JOINTS, True), 0.5, "no", None, [0.1] * JOINTS, {},
        ]
    )  # fmt: skip


def guarded(count: int) -> dict[str, Any]:
    """Whatever is wanted, of whatever age, what leaves the guard."""
    limits, interface = arm()
    rng, numbers = random.Random(0), np.random.default_rng(0)
    guard, now, sent = Guard(limits, interface), 1.0, [[] for _ in range(JOINTS)]
    where, faults, refused = np.zeros(JOINTS), 0, 0
    violations: list[str] = []

    def judge() -> None:
        for k, values in enumerate(sent):
            found = broken(values[1:], ARM, DT, values[0]) if values else None
            if found:
                violations.append(f"channel {k}: {found}")
            sent[k] = []

    for _ in range(count):
        now += DT
        reading = Reading({"joints": where.astype(np.float32)}, now - rng.choice([0.0, 0.0, 0.0, 0.001]), where)
        if guard.mode in (Mode.idle, Mode.hold, Mode.stopped) and rng.random() < 0.02:
            judge()  # a new episode begins from rest where it is
            guard.release()
            guard.arm(reading, now)
            sent = [[value] for value in where.tolist()]
        wanted = nonsense(rng, numbers) if rng.random() < 0.05 else where + numbers.normal(0, 0.05, JOINTS)
        age = rng.choice([0.0, 0.001, 0.005]) if rng.random() < 0.99 else rng.choice([1.0, -1.0, math.nan, math.inf])
        command = guard.tick(now, reading, Action(wanted, now - age))
        faults += guard.mode is Mode.hold
        refused += command is None
        if command is not None:
            for k, value in enumerate(command):
                sent[k].append(value)
            where = np.array(command)
    judge()
    return {"ticks": count, "in_hold": faults, "nothing_sent": refused, "violations": len(violations), "first": violations[:3]}


def cost() -> dict[str, float]:
    """Microseconds of a call for 7 joints, three derivatives limited: a smooth policy, and adversaries."""
    limits, _ = arm()
    bounds, rng = safety.bounds(limits), random.Random(1)
    smooth = [[0.8 * math.sin(0.7 * k * DT + j) for j in range(JOINTS)] for k in range(5000)]
    wild = list(zip(*[[math.nan if x is None else x for x in adversary(rng, ARM, DT, 5000)] for _ in range(JOINTS)], strict=True))
    found = {}
    for name, rows in (("smooth", smooth), ("adversaries", wild)):
        state, took = safety.rest(rows[0] if name == "smooth" else [0.0] * JOINTS), []
        for row in rows:
            start = time.perf_counter()
            _, state, _ = safety.step(row, state, bounds, DT)
            took.append(1e6 * (time.perf_counter() - start))
        found |= {f"{name}_mean_us": statistics.fmean(took), f"{name}_p50_us": statistics.median(took)}
        found[f"{name}_p99_us"] = float(np.percentile(took, 99))
    return found


def bodies() -> dict[str, float]:
    """Microseconds of a guard's period where the way of braking is looked along: seven joints, nine spheres, all moving fast."""
    limits, interface = arm()
    joints = [
        Joint(c.name, limits.channels[k - 1].name if k else "base", [0.0, 0.0, 0.2], [1.0, 0.0, 0.0, 0.0], [k % 2, 0, 1 - k % 2])
        for k, c in enumerate(limits.channels)
    ]
    spheres = [Sphere(f"on {joint.channel}", joint.channel, [0.0, 0.0, 0.1], 0.05) for joint in joints]
    spheres += [Sphere("foot", "base", [0.0, 0.0, 0.0], 0.05), Sphere("tip", joints[-1].channel, [0.0, 0.0, 0.25], 0.05)]
    found = {}
    for name, body in (("without", None), ("with", Collision(0.0, joints, spheres, []))):
        guard, now, took = Guard(replace(limits, collision=body), interface), 1.0, []
        where = np.zeros(JOINTS)
        guard.arm(Reading({"joints": where.astype(np.float32)}, now, where), now)
        for k in range(2000):
            now += DT
            reading = Reading({"joints": where.astype(np.float32)}, now, where)
            action = Action([0.3 * math.sin(4.0 * k * DT + j) - 0.3 * math.sin(j) for j in range(JOINTS)], now)
            start = time.perf_counter()
            guard.tick(now, reading, action)
            took.append(1e6 * (time.perf_counter() - start))
        found |= {f"{name}_p50_us": statistics.median(took), f"{name}_p99_us": float(np.percentile(took, 99))}
        found[f"{name}_held"] = guard.mode is Mode.hold
    return found


def others() -> dict[str, str]:
    """What the same nonsense does to the formulas of others (facts of their public code), in words."""
    present, most = 0.3, 0.1

    def lerobot(goal: float) -> float:  # ensure_safe_goal_position: a difference clamped by min and max
        return present + max(min(goal - present, most), -most)

    def ros2_control(goal: float) -> float | None:  # a NaN is no command, and what was sent before stays
        return None if math.isnan(goal) else min(max(goal, present - most), present + most)

    def polymetis(goal: float) -> float:  # comparisons, which are false for NaN
        return present + most if goal > present + most else present - most if goal < present - most else goal

    told = {}
    for rule in (lerobot, ros2_control, polymetis):
        told[rule.__name__] = ", ".join(f"{value} -> {rule(value)}" for value in (math.nan, math.inf, 1e300))
    return told


def main(arguments: list[str]) -> None:
    given = keys(KEYS, arguments)
    results = {
        "search": search(given["runs"], given["length"]),
        "guard": guarded(given["guard"]),
        "cost": cost(),
        "bodies": bodies(),
        "others": others(),
    }
    print(json.dumps({"benchmark": "safety", "load": os.getloadavg(), "keys": given, **results}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
