"""Run an exported policy on a robot: `python -m robot.deploy policy=raptor driver=sim_quadrotor`."""

from omegaconf import DictConfig

from robot.core.cli import entry


@entry("deploy")
def main(cfg: DictConfig) -> None:
    """Read, think, guard, command, record, at the robot's own rate, until the duration is over or someone stops it.

    policy is the name of a pretrained one, a folder with policy.onnx, or an .onnx file. Every command passes the limits in
    hardware/robots/<robot>/limits.yaml. At the terminal Enter stops the robot, r releases and arms it, q ends the run.

    Examples:
      python -m robot.deploy policy=raptor driver=sim_quadrotor duration=10
      python -m robot.deploy policy=diffusion_policy driver=sim_pusht duration=30
      python -m robot.deploy policy=<run>/onnx driver=<robot> dry_run=true
    """
    from pathlib import Path

    from hardware.deployment import deployed
    from hardware.operator import Operator
    from robot.core.config import build

    with deployed(cfg, build(cfg.driver, "driver")) as runtime:
        runtime.arm()
        with Operator(runtime, cfg.duration, f"{Path(cfg.policy.path).stem} on {cfg.driver.robot}") as operator:
            operator.run()
    print(operator.report())


if __name__ == "__main__":
    main()
