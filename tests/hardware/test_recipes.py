"""Policies on devices, each in processes of their own: what the device saw is the device's word."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np

from hardware.limits import load
from robot.core.paths import ROOT

PATIENCE = 40.0
"""A busy machine may take so long to start a process [s]."""


class Device:
    def __init__(self, process, where):
        self.process, self.where = process, where

    def report(self):
        self.process.send_signal(signal.SIGTERM)
        return json.loads(self.process.communicate(timeout=PATIENCE)[0].splitlines()[-1])


@contextmanager
def fake(module, *arguments):
    command = [sys.executable, "-m", f"hardware.fakes.{module}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        yield Device(process, process.stdout.readline().split()[1])
    finally:
        process.kill()
        process.communicate()


@contextmanager
def deployed(tmp_path, *arguments):
    command = [sys.executable, "-m", "robot.deploy", *arguments, f"output={tmp_path / 'run'}", "watchdog=2.0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def running(tmp_path):
    """Wait until commands leave."""
    events, end = tmp_path / "run" / "events.jsonl", time.monotonic() + PATIENCE
    while not (events.exists() and "running" in events.read_text()):
        assert time.monotonic() < end, "it does not begin"
        time.sleep(0.02)


def hand(tmp_path, device, *more):
    limits = patient(tmp_path, "leap_hand")
    return deployed(tmp_path, "policy=hand_gait", "driver=dynamixel", f"driver.device={device.where}", f"limits={limits}", *more)


def patient(tmp_path, robot):
    """The robot's limits, but for the patience with a machine that other tests share."""
    told = (ROOT / "hardware" / "robots" / robot / "limits.yaml").read_text()
    path = tmp_path / "patient.yaml"
    path.write_text(re.sub(r"^(command_age|observation_age): [\d.]+", r"\1: 3.0", told, flags=re.MULTILINE))
    return path


def test_a_hand_opens_and_closes_within_its_limits(tmp_path):
    with fake("dynamixel", "dt=0.002") as device:
        with hand(tmp_path, device, "driver.watchdog=2.0", "duration=4") as process:
            told, errors = process.communicate(timeout=PATIENCE)
        seen = device.report()
    assert process.returncode == 0, errors
    assert "4 s are over" in told
    assert seen["commands"] > 50
    assert seen["not_finite"] == seen["out_of_range"] == seen["refused"] == seen["damaged"] == 0
    assert seen["torque"] == [1] * 16  # it holds where it was stopped
    assert max(seen["positions"]) > 0.1
    limits = load("leap_hand")
    high = np.array([channel.high for channel in limits.channels])
    assert (np.abs(seen["positions"]) <= high + 1e-3).all()


def test_a_hand_whose_servo_loop_is_killed_stops_by_its_own_watchdog(tmp_path):
    with fake("dynamixel", "dt=0.002") as device:
        with hand(tmp_path, device, "driver.watchdog=0.5") as process:
            running(tmp_path)
            time.sleep(0.5)
            os.kill(process.pid, signal.SIGKILL)
            time.sleep(1.5)
        seen = device.report()
    assert len([what for _, what in seen["events"] if what.startswith("watchdog")]) == 16
    assert seen["out_of_range"] == seen["not_finite"] == 0
