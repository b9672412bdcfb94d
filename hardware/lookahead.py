"""Where a robot would come to rest if it braked now, and whether it would touch itself on the way there."""

import numpy as np

from hardware import safety
from hardware.collision import Array, Bodies

RESTING = 1e-9
"""Differences of commands below which a channel stands still [unit/s, unit/s^2]."""


class Lookahead:
    """Remembers the last posture that was looked at and its gaps.

    A joint that turns by an angle brings two spheres nearer by no more than the angle times the lever that one of them has. While
    what joints have turned since then, and would turn in braking, cannot use up a gap, nothing else has to be computed.
    """

    def __init__(self, bodies: Bodies, bounds: tuple[safety.Bound, ...], dt: float) -> None:
        self.bodies, self.bounds, self.dt = bodies, bounds, dt
        self.posture, self.gaps = np.zeros(len(bounds)), np.array(-np.inf)

    def touching(self, command: list[float], state: safety.State) -> str | None:
        """Which pair comes too near in the posture of a command (A,) or in braking from there, in words."""
        posture = np.array(command)
        stretches = [stretch(v, a, bound, self.dt) for (_, v, a, _, _), bound in zip(state, self.bounds, strict=True)]
        if self._free(np.abs(posture - self.posture) + stretches):
            return None
        self.posture, self.gaps = posture, self.bodies.gaps(posture[None])[0]
        if self._free(np.array(stretches)):
            return None
        near = self.bodies.touching(self._path(command, state))
        return near[0] if near else None

    def _free(self, turned: Array) -> bool:
        """Whether no pair can come nearer than the margin by angles up to these (A,), from the remembered posture."""
        return bool((self.gaps - self.bodies.levers @ turned >= self.bodies.margin).all())

    def _path(self, command: list[float], state: safety.State) -> Array:
        """The posture after a command and those of braking from there on, (K, A)."""
        path = [command]
        while any(abs(v) > RESTING or abs(a) > RESTING for _, v, a, _, _ in state):
            command, state, _ = safety.step(None, state, self.bounds, self.dt)
            path.append(command)
        return np.array(path)


def stretch(v: float, a: float, bound: safety.Bound, dt: float) -> float:
    """A channel in this state gets no farther than this before it stands.

    The speed grows by what the acceleration still brings while it fades, then shrinks under full deceleration.
    """
    if bound.order < 2:
        return 0.0
    fade = bound.rate2 / bound.rate3 if bound.order == 3 else 0.0
    speed = abs(v) + (a * a / (2 * bound.rate3) if bound.order == 3 else 0.0)
    return speed / 2 * (speed / bound.rate2 + 3 * fade) + (speed + abs(a) * dt) * dt
