"""Train a policy: `python -m robot.train policy=navdp`."""

from omegaconf import DictConfig

from robot.core.cli import entry


@entry("train")
def main(cfg: DictConfig) -> None:
    """Collect, learn, evaluate on held-out worlds, export to ONNX and write the report.

    Examples:
      python -m robot.train policy=navdp
      python -m robot.train policy=navdp trainer.steps=2000 output=runs/mine
      python -m robot.train policy=navdp output=runs/mine resume=true
    """
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from robot.core.config import build
    from robot.learn import runs
    from robot.learn.report import build_report
    from robot.learn.trainer import seed_weights

    choices = HydraConfig.get().runtime.choices
    name, world = choices["policy"], choices["env"]
    overrides = HydraConfig.get().overrides.task
    command = "python -m robot.train " + " ".join(overrides)
    played = world if any(key.startswith("env=") for key in overrides) else choices["test"]
    run = runs.folder_for(cfg.output, f"{name}-{world}", cfg.resume)
    runs.start(run, cfg)
    env = build(cfg.env, "env")
    source = build(cfg.data, "data", env=env)
    seed_weights(cfg.seed)
    test = build(OmegaConf.merge(cfg.env, cfg.test), "env")
    policy = build(cfg.policy, "policy", interface=env.interface, env=test)
    if cfg.start is not None:
        runs.begin_with(policy, cfg.start)
    trainer = build(cfg.trainer, "trainer")
    evaluator = build(cfg.evaluator, "evaluator")
    trainer.fit(policy, source, run, cfg.seed, lambda actor: evaluator.quick(actor, test, cfg.trainer.evaluate_episodes))
    lines = []
    for other in [name, *cfg.baselines]:
        seed_weights(cfg.seed)
        player = policy if other == name else runs.baseline(other, test, policy)
        if other != name and runs.learns(player):
            trainer.fit(player, build(cfg.data, "data", env=env), run / "baselines" / other, cfg.seed)
        header = {"env": played, "command": command}
        report = runs.evaluate(player, other, test, evaluator, run / "results" / other, header)
        runs.draw(report, run / "videos", other if other != name else "")
        lines.append(runs.line(other, report))
    if cfg.export:
        lines.append(runs.export(policy, run / "onnx"))
    page = build_report(run)
    print(*lines, sep="\n")
    print(f"run       {run}\nreport    {page}")
    print(f"next      python -m robot.evaluate policy={run} env={played} episodes=500")
    print(f"          python -m robot.export policy={run}")


if __name__ == "__main__":
    main()
