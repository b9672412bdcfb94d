"""Evaluate a policy: `python -m robot.evaluate policy=classic_planner env=navigation episodes=200`."""

from omegaconf import DictConfig

from robot.core.cli import entry


@entry("evaluate")
def main(cfg: DictConfig) -> None:
    """Play episodes and write results.json, episodes.parquet and, on request, videos.

    policy is a name, a run folder, or a folder with policy.onnx such as assets/pretrained/navdp.

    Examples:
      python -m robot.evaluate policy=expert episodes=200
      python -m robot.evaluate policy=runs/navdp-navigation/<time> episodes=1000 evaluator.videos=4
      python -m robot.evaluate policy=assets/pretrained/navdp env.crowd=medium
      python -m robot.evaluate --multirun policy=straight,dwa,classic_planner
    """
    import sys

    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from robot.core.config import build
    from robot.learn import runs

    choices = HydraConfig.get().runtime.choices
    name, world = runs.played(choices["policy"], cfg.policy), choices["env"]
    for key in ("episodes", "seed"):
        if cfg[key] is not None:
            OmegaConf.update(cfg, f"evaluator.{key}", cfg[key])
    if "split" in cfg.env:
        cfg.env.split = cfg.split
    cfg.env.num_envs = min(cfg.env.num_envs, cfg.evaluator.episodes)
    env = build(cfg.env, "env")
    policy = runs.make_policy(cfg.policy, name, env)
    folder = runs.folder_for(cfg.output, f"evaluate/{name}-{world}", False)
    evaluator = build(cfg.evaluator, "evaluator")
    command = "python -m robot.evaluate " + " ".join(HydraConfig.get().overrides.task)
    header = {"env": world, "command": command, "config": OmegaConf.to_container(cfg, resolve=True)}
    report = runs.evaluate(policy, name, env, evaluator, folder, header)
    runs.draw(report, folder / "videos", "")
    print(runs.line(name, report))
    if report.latency_ms:
        print(f"one decision: p50 {report.latency_ms['p50']:.3g} ms, p99 {report.latency_ms['p99']:.3g} ms")
    print(f"results   {folder / 'results.json'}", file=sys.stdout)


if __name__ == "__main__":
    main()
