"""RAPTOR flies a vehicle of the table and the flight becomes a video.

    python -m robot.examples.fly_raptor vehicle=x500 task=figure_eight
    python -m robot.examples.fly_raptor vehicle=crazyflie start=wild seconds=6 seed=3 output=tumble.mp4

vehicle: a name of configs/vehicle, or sampled; task: hold, figure_eight, lissajous, random; start: calm, wild;
policy: a folder with policy.onnx; also seed, seconds, period, output.
"""

import difflib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from robot.core.errors import ConfigError, TillerError
from robot.core.paths import PRETRAINED

# test: vehicle=x500 task=figure_eight seconds=1 output=flight.mp4
KEYS = {
    "vehicle": "crazyflie", "task": "hold", "start": "calm", "policy": str(PRETRAINED / "raptor"), "seed": "0",
    "seconds": "10", "period": "5.5", "output": "flight.mp4",
}  # fmt: skip
STARTS = {"calm": {}, "wild": {"angle": math.pi, "velocity": 3.0, "rate": 10.0, "guidance": 0.0}}


def fly(keys: dict[str, str]) -> str:
    """Fly, film, and say how it went."""
    import sim.gym
    from policies.onnx import OnnxConfig, OnnxPolicy
    from robot.core.config import build
    from robot.learn.flight_film import Flight, film

    seconds, period = float(keys["seconds"]), float(keys["period"])
    if keys["start"] not in STARTS:
        raise ConfigError(f"start: no '{keys['start']}'; there are {', '.join(STARTS)}")
    node = sim.gym.config(
        "quadrotor", num_envs=1, vehicle=keys["vehicle"], time_limit=seconds + 1, start=STARTS[keys["start"]],
        reference={"task": keys["task"], "period": [period, period], "size": [2.0, 1.0, 0.5]}, limits={"terminate": False},
    )  # fmt: skip
    env = build(node, "env")
    policy = OnnxPolicy(OnnxConfig(keys["policy"], 1))
    observation, _ = env.reset(seed=int(keys["seed"]))
    memory, rows = policy.initial_memory(1), []
    for _ in range(round(seconds / env.config.dt)):
        plan = policy.plan(observation, memory)
        memory = plan.memory
        where, _ = env.reference.at(env.steps * env.config.dt)
        rows.append((env.state[0].clone(), where[0], plan.actions[0, 0], memory["hidden"][0]))
        observation, *_ = env.step(plan.actions[:, 0])
    states, references, actions, hidden = (torch.stack(column).numpy() for column in zip(*rows, strict=True))
    title = f"{keys['vehicle']}, {1000 * float(env.params['mass']):.0f} g, {keys['task'].replace('_', ' ')}"
    flight = Flight(title, env.config.dt, states, references, actions, hidden, env.params["rotor_positions"][0].numpy())
    path = film(flight, Path(keys["output"]))
    error = ((states[:, :3] - references) ** 2).sum(1) ** 0.5
    return f"{title}: {error[len(error) // 2 :].mean():.3f} m off in the second half, {error[-1]:.3f} m at the end: {path}"


def main(arguments: Sequence[str] | None = None) -> None:
    words = sys.argv[1:] if arguments is None else arguments
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    if given.keys() & {"--help", "-h"}:
        print(__doc__)
        return
    for key in given.keys() - KEYS.keys():
        close = difflib.get_close_matches(key, KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KEYS)}"
        print(f"error: unknown key '{key}'; {hint}", file=sys.stderr)
        sys.exit(2)
    try:
        print(fly({**KEYS, **given}))
    except (TillerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
