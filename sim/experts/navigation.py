"""The privileged expert of the navigation world: it knows the scene and takes the optimal path from wherever it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.env import Env


@dataclass
class ExpertConfig:
    crop_cells: int
    """Side of the robot-centred crops of clearance and cost-to-go, in cells."""
    crop_resolution: float
    """Edge of their cells [m]."""
    crop_range: float
    """Cost-to-go relative to the robot's place is clipped to ± this [m]."""


@dataclass
class Decision:
    """What `plan` gives, as a policy's Plan does."""

    actions: Tensor
    memory: dict[str, Tensor]
    candidates: None = None
    values: None = None


class NavigationExpert:
    """Acts like a policy and labels like a teacher; it reads the state of the env it was built with, not the observation."""

    def __init__(self, config: ExpertConfig, env: Env) -> None:
        self.config, self.env, self.interface = config, env, env.interface

    def initial_memory(self, batch: int) -> dict[str, Tensor]:
        return {}

    def noise_shape(self) -> tuple[int, ...]:
        return ()

    def plan(self, observation: Any, memory: dict[str, Tensor], noise: Tensor | None = None) -> Decision:
        return Decision(torch.from_numpy(self.env.expert_action())[:, None], memory)

    def act(self, observation: Any, memory: dict[str, Tensor], noise: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        return self.plan(observation, memory).actions, memory

    def labels(self) -> dict[str, Tensor]:
        """`action` (B, T, 3); `clearance` and `cost` (B, V, V), the cost-to-go being relative to the robot's place [m]."""
        config = self.config
        clearance, cost = self.env.privileged(config.crop_cells, config.crop_resolution)
        middle = config.crop_cells // 2
        here = cost[:, middle - 1 : middle + 1, middle - 1 : middle + 1].mean((1, 2), keepdims=True)
        relative = np.clip(cost - here, -config.crop_range, config.crop_range)
        return {
            "action": torch.from_numpy(self.env.expert_action()),
            "clearance": torch.from_numpy(clearance),
            "cost": torch.from_numpy(relative),
        }
