"""A policy for a first day with any joints: fingers close and open one after the other, from wherever they are.

    python -m robot.examples.export_gait driver=dynamixel output=runs/gait
    python -m hardware.fakes.dynamixel & python -m robot.deploy policy=runs/gait driver=dynamixel driver.device=<its device>

It shows everything around a policy: memory in the graph, the robot's own Interface in the file, limits that round corners.
"""

# test: output=gait
import math
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from policies import onnx
from policies.policy import Memory, Observation, Plan, Policy
from robot.core.config import build
from robot.core.interface import Interface
from robot.core.paths import CONFIGS

KEYS = {"driver": "dynamixel", "output": "runs/gait", "period": "4.0", "swing": "0.5", "ease": "2.0", "fingers": "4"}


class Gait(Policy):
    """Memory: age [s] of the episode, and the joints at its beginning, from which it eases into the gait."""

    phase: Tensor

    def __init__(self, interface: Interface, period: float, swing: float, ease: float, fingers: int) -> None:
        """period [s]; swing, half of the travel [rad]; ease, time to get into it [s]; fingers, equal groups of joints."""
        super().__init__(interface)
        self.period, self.swing, self.ease = period, swing, ease
        self.count = interface.action.shape[0]
        group = torch.arange(self.count) * fingers // self.count
        self.register_buffer("phase", 2 * math.pi * group / fingers)

    def initial_memory(self, batch: int) -> Memory:
        return {"age": torch.zeros(batch, 1), "origin": torch.zeros(batch, self.count)}

    def plan(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> Plan:
        age = memory["age"]
        origin = torch.where(age == 0, observation["joints"], memory["origin"])
        share = (age / self.ease).clamp(max=1.0)
        share = share * share * (3 - 2 * share)
        wave = self.swing * (1 - torch.cos(2 * math.pi * age / self.period - self.phase))
        actions = (1 - share) * origin + share * wave
        return Plan(actions[:, None], {"age": age + self.interface.dt, "origin": origin})

    def export(self) -> nn.Module:
        return _Graph(self)


class _Graph(nn.Module):
    def __init__(self, policy: Gait) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: dict[str, Tensor], memory: Memory, noise: Tensor) -> dict[str, Tensor]:
        plan = self.policy.plan(observation, memory)
        return {"action": plan.actions, **plan.memory}


def main(arguments: list[str]) -> None:
    given = {**KEYS, **dict(argument.split("=", 1) for argument in arguments)}
    node: Any = OmegaConf.load(CONFIGS / "driver" / f"{given['driver']}.yaml")
    robot = build(node, "driver").interface
    seen = tuple(field for field in robot.observation if field.name == "joints")
    period, swing, ease = (float(given[key]) for key in ("period", "swing", "ease"))
    policy = Gait(Interface(seen, robot.action, robot.dt), period, swing, ease, int(given["fingers"]))
    file = onnx.export(policy, Path(given["output"]))
    print(f"{file}, differs from torch by {onnx.parity(policy, file):.1e} at most")


if __name__ == "__main__":
    main(sys.argv[1:])
