"""Export a trained policy to ONNX: `python -m robot.export policy=<run folder>`."""

from omegaconf import DictConfig

from robot.core.cli import entry


@entry("export")
def main(cfg: DictConfig) -> None:
    """Write policy.onnx, the whole decision in one graph with the Interface inside, or raptor.h; both are checked against torch.

    Examples:
      python -m robot.export policy=runs/navdp-navigation/<time>
      python -m robot.export policy=runs/navdp-navigation/<time> output=assets/pretrained/navdp
      python -m robot.export policy=runs/raptor-quadrotor_train/<time> target=c
    """
    from pathlib import Path

    from robot.core.config import build
    from robot.learn import runs

    policy = build(cfg.policy, "policy")
    folder = Path(cfg.output) if cfg.output else Path(cfg.policy.path) / cfg.target
    print(runs.export(policy, folder, cfg.target))
    if cfg.target == "onnx":
        print(f"next      python -m robot.evaluate policy={folder}")


if __name__ == "__main__":
    main()
