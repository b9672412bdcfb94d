"""A policy's file, a driver and the settings of configs/deploy.yaml, put together for one run and taken apart in order."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hardware.drivers.base import Driver
from hardware.fit import fit
from hardware.guard import Guard
from hardware.limits import load
from hardware.recorder import Recorder
from hardware.runtime import Runtime, hurry, settle
from hardware.thinker import Thinker
from hardware.watchdog import Watchdog
from robot.core.clock import Clock
from robot.core.config import build
from robot.core.errors import ConfigError


@contextmanager
def deployed(cfg: Any, driver: Driver) -> Iterator[Runtime]:
    """The robot connected, the policy loaded in its process and compared with it; the watchdog watches, nothing is armed.

    Args:
        cfg: configs/deploy.yaml or configs/node.yaml, composed.
        driver: not open yet.

    Raises:
        ConfigError: the policy is no exported one, or SCHED_FIFO is asked for where the system refuses it.
        InterfaceError: the policy or the limits are for another robot.
        DriverError: the robot cannot be reached.
    """
    if "path" not in cfg.policy or not cfg.policy._target_.startswith("policies.onnx"):
        raise ConfigError("policy: a robot runs exported policies; export a run with: python -m robot.export policy=<run>")
    limits = load(cfg.limits or cfg.driver.robot)
    guard = Guard(limits, driver.interface)
    output = Path(cfg.output or f"runs/deploy/{cfg.driver.robot}/{time.strftime('%Y-%m-%d_%H-%M-%S')}")
    if cfg.realtime and not hurry():
        raise ConfigError("realtime: the system refuses SCHED_FIFO; be root, have LimitRTPRIO, or say realtime=false")
    with ExitStack() as stack:
        watchdog = Watchdog((lambda: None) if cfg.dry_run else driver.will(), cfg.watchdog)
        stack.callback(watchdog.close)
        thinker = Thinker(cfg.policy.path, cfg.seed)
        stack.callback(thinker.close)
        spec = thinker.spec
        known = {"dt": spec.interface.dt, "steps": spec.steps, "servo": limits.dt, "robot": driver.interface}
        controller = build(cfg.controller, "controller", **known)
        fit(spec.interface, driver.interface, controller.accepts)
        recorder = Recorder(output, driver.interface, {"robot": cfg.driver.robot, "policy": str(cfg.policy.path)})
        stack.callback(recorder.close)
        estop = build(cfg.estop, "estop") if cfg.get("estop") else None
        if estop is not None:
            stack.callback(estop.close)
        stack.enter_context(driver)
        runtime = Runtime(driver, guard, thinker, controller, Clock(cfg.spin), recorder, watchdog, cfg.dry_run, estop)
        settle()
        yield runtime
