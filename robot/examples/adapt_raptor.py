"""What does RAPTOR find out about the vehicle it flies, and how fast? A figure, and how well a linear probe reads its memory.

    python -m robot.examples.adapt_raptor vehicles=1000 output=adaptation.png
    python -m robot.examples.adapt_raptor policy=runs/raptor-quadrotor_thousand/<time>/onnx force=0.3

policy: a folder with policy.onnx; force: largest outer force as in env.vehicles.force; also vehicles, seed, seconds, output.
"""

import difflib
import sys
from collections.abc import Sequence

import numpy as np

from robot.core.errors import ConfigError, TillerError
from robot.core.paths import PRETRAINED

# test: vehicles=32 seconds=0.6 output=adaptation.png
KEYS = {
    "policy": str(PRETRAINED / "raptor"), "vehicles": "1000", "seed": "0", "seconds": "4", "force": "0",
    "output": "adaptation.png",
}  # fmt: skip
PRINTED = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Times of the printed table [s]."""


def adapt(keys: dict[str, str]) -> str:
    """Fly all vehicles from calm starts, probe the memory, draw."""
    import sim.gym
    from policies.onnx import OnnxConfig, OnnxPolicy
    from robot.core.config import build
    from robot.learn.adaptation import draw, fly, probes

    seconds, count = float(keys["seconds"]), int(keys["vehicles"])
    if count < 16 or seconds < 0.1:
        raise ConfigError(f"vehicles={count}, seconds={seconds}: at least 16 vehicles and 0.1 s are needed")
    node = sim.gym.config(
        "quadrotor", num_envs=count, vehicle="sampled", time_limit=seconds + 1, vehicles={"force": float(keys["force"])},
        limits={"terminate": False},
    )  # fmt: skip
    env = build(node, "env")
    flights = fly(OnnxPolicy(OnnxConfig(keys["policy"], 1)), env, seconds, int(keys["seed"]))
    last = min(2.0, seconds - flights.dt)
    times = np.unique(np.r_[np.arange(0, min(0.5, last), 0.02), np.linspace(min(0.5, last), last, 16)].round(2))
    found = {n: (probes(flights, n, times, True), probes(flights, n, times, False)) for n in flights.quantities}
    path = draw(flights, times, found, keys["output"])
    shown = [t for t in PRINTED if t <= last + 1e-9]
    lines = [f"{'held-out R2 at':<36}" + "".join(f"{f'{t:g} s':>22}" for t in shown)]
    for name in flights.quantities:
        for label, memory in (("memory", True), ("observation alone", False)):
            cells = "".join(
                f"{f'{p.r2:.2f} [{p.low:.2f}, {p.high:.2f}]':>22}" for p in probes(flights, name, np.array(shown), memory)
            )
            lines.append(f"{f'{name}, {label}':<36}{cells}")
    return "\n".join([*lines, f"{count} vehicles: {path}"])


def main(arguments: Sequence[str] | None = None) -> None:
    parts = (part.partition("=") for part in (sys.argv[1:] if arguments is None else arguments))
    given = {key: value for key, _, value in parts}
    if given.keys() & {"--help", "-h"}:
        print(__doc__)
        return
    for key in given.keys() - KEYS.keys():
        close = difflib.get_close_matches(key, KEYS, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KEYS)}"
        print(f"error: unknown key '{key}'; {hint}", file=sys.stderr)
        sys.exit(2)
    try:
        print(adapt({**KEYS, **given}))
    except (TillerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
