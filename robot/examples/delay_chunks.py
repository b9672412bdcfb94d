"""What does thinking cost? One policy, the same episodes, plans that come late, and the ways to bridge that.

    python -m robot.examples.delay_chunks policy=<run folder> env=pusht episodes=200 seed=300000
    python -m robot.examples.delay_chunks policy=<run folder> env=pusht evaluator.execution.every=4 delays=0,2 modes=async

Takes the keys of robot.evaluate, and delays (control periods) and modes. A cell holds success [%], score, and the border jerk:
the mean third difference of the actions where one plan gives way to another. `ensemble` asks for plans as often as it can.
"""

# test: episodes=2 delays=0,2 evaluator.execution.every=4 env.time_limit=4.0 env.threads=1
import sys
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from robot.core.cli import entry
from robot.core.errors import ConfigError

OWN = {"delays": "0,1,2,3,4", "modes": "wait,async,ensemble,realtime"}


def table(cfg: DictConfig, delays: list[int], modes: list[str]) -> None:
    """Print a row a mode, a column a delay."""
    from hydra.core.hydra_config import HydraConfig

    from robot.core.config import build
    from robot.learn import runs

    for key in ("episodes", "seed"):
        if cfg[key] is not None:
            OmegaConf.update(cfg, f"evaluator.{key}", cfg[key])
    cfg.env.num_envs = min(cfg.env.num_envs, cfg.evaluator.episodes)
    env = build(cfg.env, "env")
    policy = runs.make_policy(cfg.policy, HydraConfig.get().runtime.choices["policy"], env)
    print(f"{cfg.evaluator.episodes} episodes: success, score, border jerk [{env.interface.action.unit}/s^3]")
    print(f"{'mode':<10}" + "".join(f"{f'delay {delay}':>24}" for delay in delays))
    for mode in modes:
        row = (cell(cfg, mode, delay, policy, env) for delay in delays)
        print(f"{mode:<10}", end="")
        try:
            for text in row:
                print(f"{text:>24}", end="", flush=True)
            print()
        except ConfigError as error:
            print(f"  {error}")


def cell(cfg: DictConfig, mode: str, delay: int, policy: Any, env: Any) -> str:
    """What the evaluator finds for one mode and delay."""
    from robot.core.config import build
    from robot.learn.realtime import Jerk

    node: Any = OmegaConf.to_container(cfg.evaluator, resolve=True)
    node["execution"] |= {"mode": mode, "delay": delay}
    if mode == "ensemble" and node["execution"]["every"] is None:
        node["execution"]["every"] = max(1, delay)
    jerk = Jerk(env.interface.dt)
    metrics = build(node, "evaluator").run(policy, env, quiet=True, watch=jerk).metrics()
    score = f"{metrics['score']['mean']:.3f}" if "score" in metrics else "-"
    return f"{100 * metrics['success']['mean']:.1f}  {score}  {jerk.border:7.0f}"


def main(arguments: Sequence[str] | None = None) -> None:
    given = sys.argv[1:] if arguments is None else list(arguments)
    own = OWN | {key: value for key, _, value in (part.partition("=") for part in given) if key in OWN}
    delays = [int(value) for value in own["delays"].split(",")]

    @entry("evaluate")
    def compare(cfg: DictConfig) -> None:
        """Evaluate one policy whose plans come late, in several modes, on the same episodes."""
        table(cfg, delays, own["modes"].split(","))

    rest = [part for part in given if part.partition("=")[0] not in OWN]
    defaults = ["policy=diffusion_policy", "env=pusht", "evaluator.latency_plans=0"]
    compare([d for d in defaults if not any(part.startswith(d.partition("=")[0] + "=") for part in rest)] + rest)


if __name__ == "__main__":
    main()
