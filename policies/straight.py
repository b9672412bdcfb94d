"""Straight to the goal, whatever stands in between; without a goal straight ahead, turning where the view is short."""

from dataclasses import dataclass

import torch
from torch import Tensor

from policies.nn import paths
from policies.nn.deproject import RADIUS, scan_b
from policies.policy import Memory, Observation, Plan, Policy
from robot.core.interface import Interface


@dataclass
class StraightConfig:
    spacing: float
    """Distance between waypoints [m]."""
    floor: float
    """What ends below this height is driven over [m]."""
    turn_distance: float
    """Without a goal, turn when something ahead is nearer than this [m]."""


class Straight(Policy):
    """Memory: turn (B,), the side of the running turn, 0 for none, so that a corner does not make it dither."""

    def __init__(self, config: StraightConfig, interface: Interface) -> None:
        super().__init__(interface)
        self.config = config

    def initial_memory(self, batch: int) -> Memory:
        return {"turn": torch.zeros(batch)}

    def plan(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> Plan:
        count, spacing = self.interface.action.shape[0], self.config.spacing
        goal = observation["goal"]
        zero = torch.zeros_like(goal[:, 0])
        bearing = torch.atan2(goal[:, 1], goal[:, 0])
        to_goal = paths.arcs(zero, goal[:, :2].norm(dim=-1), bearing, count, spacing)
        ahead = paths.arcs(zero, zero + count * spacing, zero, count, spacing)
        turn = self._turn(observation, memory["turn"])
        wander = torch.where((turn == 0)[:, None, None], ahead, paths.turns(turn, count, spacing))
        given = observation["goal_given"][:, 0] > 0.5
        actions = torch.where(given[:, None, None], to_goal, wander)
        return Plan(actions[:, None], {"turn": torch.where(given, zero, turn)})

    def _turn(self, observation: Observation, before: Tensor) -> Tensor:
        """Side to turn to (B,), 0 where the way ahead is free; a turn that runs keeps its side."""
        robot = observation["robot"]
        points, distance = scan_b(observation["depth"], robot, self.config.floor)
        inside = (points[..., 1].abs() < robot[:, RADIUS, None] + 0.05) & (points[..., 0] > 0)
        blocked = (inside & (points[..., 0] < self.config.turn_distance)).any(dim=1)
        half = distance.shape[1] // 2
        room = distance.clamp(max=5.0)
        side = torch.where(room[:, :half].mean(1) >= room[:, half:].mean(1), 1.0, -1.0)
        return torch.where(blocked, torch.where(before != 0, before, side), torch.zeros_like(before))
