"""The demonstrator of the arm: a sequence of phases, each with a place to go to, that reads observations alone.

    approach   above the object, open, turned as its faces are        carry     above the bin
    descend    around it                                              lower     until the can stands
    close      until the fingers have met it                          release   until they are open
    lift       straight up; for task=lift the end                     retreat   straight up, and wait

An object that is lost on the way sends it back to the approach.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robot.core.errors import ConfigError
from sim.arm.config import Task, bounds
from sim.arm.model import OPENING
from sim.envs.arm import Arm
from sim.experts.navigation import Decision


class Style(Enum):
    direct = "direct"
    high = "high"


class Manner(NamedTuple):
    """A way to do it."""

    above: float
    """Height of the hand above the object before it descends [m]."""
    carry: float
    """Height to which the object is lifted above where it stood [m]."""
    turned: bool
    """Grasp the pair of faces, or the direction of a standing can, a quarter turn from the nearest."""


MANNERS = {Style.direct: Manner(0.07, 0.09, False), Style.high: Manner(0.16, 0.17, True)}
SIDEWAYS = 0.006
"""The hand is above the object or the bin's middle when it is so near in x and y [m]."""
NEAR = 0.012
"""It has come to a height when it is so near [m]."""
TURNED = 0.06
"""And to a heading [rad]."""
SLIPPED = 0.035
"""An object whose centre is further from where the hand grasped it has been lost [m]."""
CAN_GRASP = 0.02
"""A standing can is grasped so much above its centre [m], so that the palm does not touch its lid."""
GONE = 0.06
"""After the release the hand rises by this [m]."""
FREE = 0.005
"""Fingers that are nearer than this to fully open have let go [m]."""
STOPPED = 0.001
"""Fingers that close by less than this in a control period have met the object [m]."""
WAIT = 12
"""Periods after which a phase that did not come to its end is left."""
STANDING = 0.85
"""Cosine of the tilt up to which a can stands."""


class Phase(IntEnum):
    approach = 0
    descend = 1
    close = 2
    lift = 3
    carry = 4
    lower = 5
    release = 6
    retreat = 7


@dataclass
class ArmExpertConfig:
    style: Style
    """direct: low over the table, nearest faces. high: wide arcs, the other pair of faces. Two demonstrators of one task."""
    speed: float
    """A target is at most as far from the hand as this makes in a control period [m/s]; the hand moves at two thirds of it."""
    turn: float
    """The same for its heading [rad/s]."""
    noise_scale: float
    """Standard deviation of what is added to the targets in x, y and z where `noise` is given [m], 0 for none."""


class ArmExpert:
    """See the module. All it knows of the env are the task, the meaning of actions and the control period."""

    alone = True

    def __init__(self, config: ArmExpertConfig, env: Arm) -> None:
        if not isinstance(env, Arm):
            raise ConfigError("policy=arm_expert demonstrates env=arm_lift and env=arm_can only")
        if min(config.speed, config.turn) <= 0 or config.noise_scale < 0:
            raise ConfigError(
                f"policy: speed={config.speed}, turn={config.turn} must be positive, noise_scale={config.noise_scale} at least 0"
            )
        self.config, self.interface, self.manner = config, env.interface, MANNERS[config.style]
        self.places = env.config.task is Task.can
        self.reach = config.speed * env.config.dt, config.turn * env.config.dt
        self.low, self.high = (torch.from_numpy(bound).float() for bound in bounds(env.config.workspace))

    def initial_memory(self, batch: int) -> dict[str, Tensor]:
        """phase; periods in it; heading of the grasp [rad]; the last opening [m]; the object's height when it was grasped, and
        its place from the hand then (B, 3) [m]."""
        scalars = {name: torch.zeros(batch) for name in ("phase", "count", "yaw", "opening", "height")}
        return {**scalars, "offset": torch.zeros(batch, 3)}

    def noise_shape(self) -> tuple[int, ...]:
        return (3,) if self.config.noise_scale > 0 else ()

    def plan(self, observation: Any, memory: dict[str, Tensor], noise: Tensor | None = None) -> Decision:
        return Decision(*self.act(observation, memory, noise))

    def act(self, observation: Any, memory: dict[str, Tensor], noise: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """One action (B, 1, 5) of each world; `noise` (B, 3) is added to it, standard normal."""
        hand, thing = observation["hand_position"], observation["object_position"]
        now = {name: value.clone() for name, value in memory.items()}
        phase = now["phase"].long()
        searching = phase <= Phase.descend
        now["yaw"] = torch.where(searching, self._heading(observation), now["yaw"])
        now["height"] = torch.where(searching, thing[:, 2], now["height"])
        now["offset"] = torch.where((phase <= Phase.close)[:, None], thing - hand, now["offset"])
        phase = self._next(observation, now, phase)
        now["count"] = torch.where(phase == now["phase"], now["count"] + 1, 0.0)
        now["opening"] = observation["gripper"][:, 0].clone()
        now["phase"] = phase.float()
        place, yaw = self._waypoints(observation, now)[torch.arange(len(phase)), phase], now["yaw"]
        target = torch.cat([self._towards(observation, place, yaw), self._fingers(phase)[:, None]], 1)
        if noise is not None and self.config.noise_scale > 0:
            target[:, :3] += self.config.noise_scale * noise
        action = 2 * (target - self.low) / (self.high - self.low) - 1
        return action.clamp(-1.0, 1.0)[:, None], now

    def _next(self, observation: Any, memory: dict[str, Tensor], phase: Tensor) -> Tensor:
        """The phase to be in: the next where this one has done its work, the first where the object was lost."""
        hand, thing, rows = observation["hand_position"], observation["object_position"], torch.arange(len(phase))
        gap = self._waypoints(observation, memory)[rows, phase] - hand
        beside, high = gap[:, :2].norm(dim=1), gap[:, 2].abs()
        turned = (memory["yaw"] - _hand_yaw(observation)).abs() < TURNED
        opening, waited = observation["gripper"][:, 0], memory["count"] >= WAIT
        met = (memory["count"] >= 2) & (memory["opening"] - opening < STOPPED)
        there = (beside < SIDEWAYS) & (high < NEAR)
        down = high < NEAR
        ended = torch.zeros_like(down)
        done = torch.stack(
            [
                there & turned,
                there,
                met,
                down if self.places else ended,
                there,
                (high < SIDEWAYS) | waited,
                opening > OPENING - FREE,
                ended,
            ],
            1,
        )
        after = phase + done[rows, phase].long()
        carrying = (phase >= Phase.lift) & (phase <= Phase.lower)
        lost = carrying & ((thing - hand - memory["offset"]).norm(dim=1) > SLIPPED)
        astray = (phase == Phase.descend) & ((beside > 4 * SIDEWAYS) | waited)
        idle = (phase == Phase.retreat) & waited
        return torch.where(lost | astray | idle, int(Phase.approach), after)

    def _waypoints(self, observation: Any, memory: dict[str, Tensor]) -> Tensor:
        """Where each phase leads the hand, (B, 8, 3) [m]."""
        thing, target, hand = (observation[f"{name}_position"] for name in ("object", "target", "hand"))
        grasp = thing.clone()
        standing = _axis(observation)[:, 2].abs() > STANDING
        grasp[:, 2] += CAN_GRASP * standing if self.places else 0.0
        stood = memory["height"]
        above, lifted = grasp.clone(), grasp.clone()
        above[:, 2] = grasp[:, 2] + self.manner.above
        offset = memory["offset"]
        lifted[:, :2] = hand[:, :2]
        lifted[:, 2] = stood + self.manner.carry - offset[:, 2]
        over = target - offset
        over[:, 2] = lifted[:, 2]
        down = over.clone()
        down[:, 2] = stood - offset[:, 2] + 0.004
        away = hand.clone()
        away[:, 2] = stood - offset[:, 2] + GONE
        return torch.stack([above, grasp, hand, lifted, over, down, hand, away], 1)

    def _towards(self, observation: Any, place: Tensor, yaw: Tensor) -> Tensor:
        """A target (B, 4) between the hand and where it shall be (B, 3), (B,), as far away as the speeds allow."""
        hand, heading = observation["hand_position"], _hand_yaw(observation)
        way, turn = place - hand, yaw - heading
        share = (self.reach[0] / way.norm(dim=1, keepdim=True).clamp_min(1e-6)).clamp_max(1.0)
        return torch.cat([hand + share * way, (heading + turn.clamp(-self.reach[1], self.reach[1]))[:, None]], 1)

    def _fingers(self, phase: Tensor) -> Tensor:
        """The opening to ask for (B,) [m]."""
        return torch.where((phase >= Phase.close) & (phase <= Phase.lower), 0.0, OPENING)

    def _heading(self, observation: Any) -> Tensor:
        """Heading (B,) [rad] of a hand that grasps the object across two of its faces, within ±pi/2."""
        columns = observation["object_rotation"].reshape(-1, 2, 3)
        if not self.places:
            level = columns[..., :2].norm(dim=-1)
            edge = torch.where((level[:, 0] >= level[:, 1])[:, None], columns[:, 0], columns[:, 1])
            nearest = _fold(torch.atan2(edge[:, 1], edge[:, 0]), torch.pi / 2)
            return self._quarter(nearest) if self.manner.turned else nearest
        axis = _axis(observation)
        along = _fold(torch.atan2(axis[:, 1], axis[:, 0]), torch.pi)
        straight = self._quarter(torch.zeros_like(along)) if self.manner.turned else torch.zeros_like(along)
        return torch.where(axis[:, 2].abs() > STANDING, straight, along)

    def _quarter(self, yaw: Tensor) -> Tensor:
        """A quarter turn from `yaw` (B,), towards zero; the hand's two fingers are alike."""
        return yaw - torch.pi / 2 * torch.where(yaw >= 0, 1.0, -1.0)


def _fold(angle: Tensor, period: float) -> Tensor:
    """The same direction of something with this symmetry, within ± half the period."""
    return (angle + period / 2).remainder(period) - period / 2


def _hand_yaw(observation: Any) -> Tensor:
    """Heading (B,) [rad] of the hand from its y axis."""
    across = observation["hand_rotation"][:, 3:]
    return torch.atan2(-across[:, 0], across[:, 1])


def _axis(observation: Any) -> Tensor:
    """The object's own z axis (B, 3) in frame w."""
    x, y = observation["object_rotation"].reshape(-1, 2, 3).unbind(1)
    return torch.linalg.cross(x, y)
