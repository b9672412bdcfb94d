"""From plans of several actions, which come late and overlap, to what the robot should do right now."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hardware.drivers.base import Reading
from hardware.fit import equal
from hardware.guard import Action
from hardware.thinker import Thought
from robot.core.interface import Field


class Controller(Protocol):
    """What the servo loop asks of the layer between plans and commands."""

    config: Any
    """Has `wait`: how long a period may wait for a plan it has just asked for [s]."""
    plan: Thought | None
    """That is followed now."""

    def accepts(self, asked: Field, offered: Field) -> list[str]:
        """What is wrong with a policy's action for a robot's command, in words."""
        ...

    def reset(self) -> None: ...

    def due(self, now: float) -> bool:
        """Whether a new plan should be asked for."""
        ...

    def asked(self, reading: Reading) -> None:
        """A plan is being made from this."""
        ...

    def take(self, plan: Thought, now: float) -> None:
        """Follow a new plan from now on; one that rests on older measurements than the present one is no news."""
        ...

    def wanted(self, now: float, reading: Reading | None) -> Action | None:
        """What should be done now; None before there is a plan."""
        ...


@dataclass
class ChunksConfig:
    execute: int
    """Actions of a plan that are carried out before the next plan is due, 0 for all of them."""
    interpolate: bool
    """Move in a straight line from action to action, instead of holding each for its period."""
    blend: float
    """Time over which a new plan takes over from the old one [s], 0 for at once."""
    ahead: float
    """How long before it is due a new plan is asked for [s]: what the policy takes to think."""
    wait: float
    """How long a period may wait for a plan it has just asked for [s]: 0 where the policy is slower than the servo period."""


class Chunks:
    """Plans by time: action k of a plan is for the period that begins k * dt after the measurement that the plan rests on.

    A plan that comes late begins in its middle: what it says of the past is past.
    """

    def __init__(self, config: ChunksConfig, dt: float, steps: int, servo: float) -> None:
        """dt: the policy's control period [s]; steps: actions of a plan; servo: time between commands [s]."""
        self.config, self.dt, self.slack = config, dt, servo / 2
        self.count = min(config.execute or steps, steps)
        self.plan: Thought | None = None
        self.before: Thought | None = None
        self.since = -np.inf

    def accepts(self, asked: Field, offered: Field) -> list[str]:
        return equal(asked, offered)

    def reset(self) -> None:
        """Forget all plans."""
        self.plan = self.before = None

    def due(self, now: float) -> bool:
        return self.plan is None or now >= self.plan.stamp + self.count * self.dt - self.config.ahead - self.slack

    def asked(self, reading: Reading) -> None:
        """Plans say all that is needed."""

    def take(self, plan: Thought, now: float) -> None:
        if self.plan is None or plan.stamp > self.plan.stamp:
            self.before, self.plan, self.since = self.plan, plan, now

    def wanted(self, now: float, reading: Reading | None = None) -> Action | None:
        """Past its end a plan has nothing to say, and its age grows."""
        if self.plan is None:
            return None
        values = self._of(self.plan, now)
        if self.before is not None and self.config.blend > 0 and now < self.since + self.config.blend:
            share = (now - self.since) / self.config.blend
            values = share * values + (1 - share) * self._of(self.before, now)
        return Action(values, self._rests(now))

    def _of(self, plan: Thought, now: float) -> np.ndarray:
        last = len(plan.actions) - 1
        if not self.config.interpolate:  # the servo loop's jitter must not repeat one action and skip the next
            return plan.actions[min(max(int((now - plan.stamp + self.slack) / self.dt), 0), last)]
        at = min(max((now - plan.stamp) / self.dt, 0.0), float(last))
        first = min(int(at), max(last - 1, 0))
        return plan.actions[first] + (at - first) * (plan.actions[min(first + 1, last)] - plan.actions[first])

    def _rests(self, now: float) -> float:
        """Age is counted from when the plan's last carried-out action was due to end, or as long as it lasts, from now."""
        assert self.plan is not None
        return min(now, self.plan.stamp + self.count * self.dt)
