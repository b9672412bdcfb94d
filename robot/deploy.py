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
    import sys
    import time
    from contextlib import ExitStack
    from pathlib import Path

    from hardware.guard import Guard
    from hardware.limits import load
    from hardware.operator import Operator
    from hardware.recorder import Recorder
    from hardware.runtime import Runtime, fit, hurry, settle
    from hardware.thinker import Thinker
    from hardware.watchdog import Watchdog
    from robot.core.clock import Clock
    from robot.core.config import build
    from robot.core.errors import ConfigError

    if "path" not in cfg.policy or not cfg.policy._target_.startswith("policies.onnx"):
        raise ConfigError("policy: a robot runs exported policies; export a run with: python -m robot.export policy=<run>")
    driver = build(cfg.driver, "driver")
    limits = load(cfg.limits or cfg.driver.robot)
    guard = Guard(limits, driver.interface)
    output = Path(cfg.output or f"runs/deploy/{cfg.driver.robot}/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    if cfg.realtime and not hurry():
        print("realtime: the system refuses SCHED_FIFO (be root, or have LimitRTPRIO); going on without", file=sys.stderr)
    with ExitStack() as stack:
        watchdog = Watchdog((lambda: None) if cfg.dry_run else driver.will(), cfg.watchdog)
        stack.callback(watchdog.close)
        thinker = Thinker(cfg.policy.path, cfg.seed)
        stack.callback(thinker.close)
        spec = thinker.spec
        fit(spec.interface, driver.interface)
        controller = build(cfg.controller, "controller", dt=spec.interface.dt, steps=spec.steps, servo=limits.dt)
        recorder = Recorder(output, driver.interface, {"robot": cfg.driver.robot, "policy": str(cfg.policy.path)})
        stack.callback(recorder.close)
        stack.enter_context(driver)
        runtime = Runtime(driver, guard, thinker, controller, Clock(), recorder, watchdog, cfg.dry_run)
        settle()
        runtime.arm()
        with Operator(runtime, cfg.duration) as operator:
            operator.run()
    print(f"{operator.report()}\nrecording         {output}")


if __name__ == "__main__":
    main()
