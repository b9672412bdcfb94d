"""The weights of a composition (policy=gpc) from held-out demonstrations, no roll-outs; and whether parents may be composed.

    python -m robot.examples.compose_weights parents=<run>,<run> root=<dataset> env=pusht

parents: run folders; root: demonstrations that no parent was trained on; also frames, samples, steps, seed, and clash, the
disagreement (0: the same behaviour, 1: certain and different ones) from which parents are refused; clash=1 composes anything.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from robot.core.errors import ConfigError, TillerError

KEYS = {"parents": "", "root": "", "env": "pusht", "frames": "4096", "samples": "8", "steps": "10", "seed": "0", "clash": "0.15"}


def compose(keys: dict[str, str]) -> str:
    """The report: errors, weights, disagreement, and the command that evaluates the composition."""
    import torch

    import sim.gym
    from policies.composition import fit
    from policies.gpc import Gpc, GpcConfig, Operator
    from robot.core.config import build
    from robot.learn.sources import Episodes, EpisodesConfig

    parents, steps, seed = keys["parents"].split(","), int(keys["steps"]), int(keys["seed"])
    env = build(sim.gym.config(keys["env"], num_envs=1), "env")
    config = GpcConfig(parents, [1.0] * len(parents), None, Operator.convex, 1.0, steps, 1.0, 1)
    gpc = Gpc(config, env.interface, env).eval()
    source = Episodes(EpisodesConfig(keys["root"], 0, int(keys["frames"]), None), env)
    source.open(Path(), seed)
    found = fit(gpc, source.batch(0, gpc), steps, int(keys["samples"]), torch.Generator().manual_seed(seed))
    names = [f"{k}: {parent}" for k, parent in enumerate(parents)]
    lines = [f"{'error of velocity beyond the best':<44}{'disagreement with 0, 1, …':>28}"]
    for name, own, apart in zip(names, torch.eye(len(parents)), found.disagreement.tolist(), strict=True):
        lines.append(f"{name[-44:]:<44}{'  '.join(f'{value:.3f}' for value in apart):>28}   {found.error(own):.5f}")
    lines.append(f"{'composed, one weight for all times':<44}{'':>28}   {found.error(found.weights):.5f}")
    worst = float(found.disagreement.max())
    if worst > float(keys["clash"]):
        raise ConfigError(
            "\n".join(lines)
            + f"\nthe parents disagree by {worst:.3f}, more than clash={keys['clash']}: they behave differently, and a "
            "mean of two behaviours is neither; use the better one, or train both on the same demonstrations"
        )
    rows = [[float(t), *level] for t, level in zip(found.times, found.levels.tolist(), strict=True)]
    told = ",".join("[" + ",".join(f"{value:.3f}" for value in row) + "]" for row in rows)
    weights = ",".join(f"{value:.3f}" for value in found.weights.tolist())
    start = f"python -m robot.evaluate policy=gpc env={keys['env']} 'policy.parents=[{keys['parents']}]'"
    return "\n".join([*lines, f"next: {start} 'policy.weights=[{weights}]'", f"  or: {start} 'policy.levels=[{told}]'"])


def main(arguments: Sequence[str] | None = None) -> None:
    parts = (part.partition("=") for part in (sys.argv[1:] if arguments is None else arguments))
    given = {key: value for key, _, value in parts}
    if not given or given.keys() & {"--help", "-h"}:
        print(__doc__)
        return
    try:
        if unknown := given.keys() - KEYS.keys():
            raise ConfigError(f"unknown key '{min(unknown)}'; there are {', '.join(KEYS)}")
        if not given.get("root") or "," not in given.get("parents", ""):
            raise ConfigError("root=<dataset> and parents=<run>,<run> are needed")
        print(compose({**KEYS, **given}))
    except (TillerError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
