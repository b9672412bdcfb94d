"""What does real physics cost? One policy, the same episodes, driven by ideal kinematics and by wheels in MuJoCo.

    python -m robot.examples.sim_to_sim_gap policy=expert episodes=100
    python -m robot.examples.sim_to_sim_gap policy=assets/pretrained/navdp env.physics.friction=0.4 env.depth=mujoco

Takes the keys of robot.evaluate. Both worlds draw scenes, starts and goals from the same seeds, so the difference is paired.
"""

import sys
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from robot.core.cli import entry

MEASURES = ("success", "spl", "collision", "time")


@entry("evaluate")
def compare(cfg: DictConfig) -> None:
    """Evaluate one policy in `navigation` and in `navigation_mujoco` on the same episodes and print both and the difference."""
    from hydra.core.hydra_config import HydraConfig

    from robot.learn.statistics import interval, paired

    node: Any = OmegaConf.to_container(cfg.env, resolve=True)
    node["split"] = cfg.split
    for key in ("episodes", "seed"):
        if cfg[key] is not None:
            OmegaConf.update(cfg, f"evaluator.{key}", cfg[key])
    node["num_envs"] = min(node["num_envs"], cfg.evaluator.episodes)
    name = HydraConfig.get().runtime.choices["policy"]
    ideal = play(cfg, name, kinematic(node))
    real = play(cfg, name, node)
    print(f"{name}, {len(ideal['episode'])} episodes: mean [95 % interval]")
    print(f"{'':10}" + "".join(f"{title:>27}" for title in ("kinematic", "mujoco", "mujoco - kinematic")))
    for measure in MEASURES:
        cells = interval(ideal[measure]), interval(real[measure]), paired(real[measure], ideal[measure])
        print(f"{measure:10}" + "".join(f"{f'{mean:.3f} [{low:.3f}, {high:.3f}]':>27}" for mean, low, high in cells))


def kinematic(node: dict[str, Any]) -> dict[str, Any]:
    """The same world without physics: what `navigation` takes of the keys of `navigation_mujoco`."""
    from sim.envs.navigation import Navigation, NavigationConfig

    shared = {field.name: node[field.name] for field in fields(NavigationConfig)}
    return {"_target_": f"{Navigation.__module__}.{Navigation.__qualname__}", **shared}


def play(cfg: DictConfig, name: str, node: dict[str, Any]) -> dict[str, Any]:
    """Columns by measure, a row an episode."""
    from robot.core.config import build
    from robot.learn import runs

    env = build(node, "env")
    try:
        return build(cfg.evaluator, "evaluator").run(runs.make_policy(cfg.policy, name, env), env).columns
    finally:
        env.close()


def main(arguments: Sequence[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else list(arguments)
    compare(["env=navigation_mujoco", "evaluator.latency_plans=0", *given])


if __name__ == "__main__":
    main()
