"""Run an exported policy as a node of a ROS graph: `python -m robot.node bridge=ros2 policy=navdp`."""

from omegaconf import DictConfig

from robot.core.cli import entry


@entry("node")
def main(cfg: DictConfig) -> None:
    """Subscribe to the robot's sensors, think, guard, publish commands, states and diagnostics. No ROS installation is needed.

    The same servo loop and limits as robot.deploy. Orders come on /<name>/transition: activate, deactivate, shutdown;
    /<name>/state and /diagnostics say how it is. Which topics: configs/driver/ros_*.yaml.

    Examples:
      python -m robot.node bridge=ros2 policy=navdp
      python -m robot.node bridge=rosbridge policy=navdp bridge.url=ws://127.0.0.1:9090
      python -m robot.node bridge=ros2 policy=<run>/onnx driver=ros_joints driver.command.topic=/arm/targets
    """
    from pathlib import Path

    from omegaconf import OmegaConf

    from hardware.deployment import deployed
    from hardware.operator import Operator
    from hardware.ros.lifecycle import Lifecycle, flat
    from robot.core.config import build

    cfg.driver.bridge = cfg.bridge
    driver = build(cfg.driver, "driver")
    with (
        deployed(cfg, driver) as runtime,
        Operator(runtime, cfg.duration, f"{Path(cfg.policy.path).stem} on {cfg.driver.robot}") as operator,
    ):
        config = flat(OmegaConf.to_container(cfg, resolve=True))  # type: ignore[arg-type]
        lifecycle = Lifecycle(runtime, driver.bridge, cfg.name, config, operator.end)
        operator.beside.append(lifecycle.tick)
        print(f"{cfg.name}: waiting for /{cfg.name}/transition" if not cfg.autostart else f"{cfg.name}: starting", flush=True)
        if cfg.autostart:
            driver.expect()
            runtime.arm()
        operator.run()
    print(operator.report())


if __name__ == "__main__":
    main()
