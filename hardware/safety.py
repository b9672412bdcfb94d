"""The last thing before the wire: whatever is wanted, a command within all limits leaves, and the robot can still stop after it.

A channel's state is its last command and that command's differences over the period. Where three of them are limited, commands
are control points of a cubic B-spline: the differences bound the derivatives of a smooth curve beside them, and of that curve
jerk-limited braking is known in closed form. A step is allowed if the robot could brake after it, within the limits; braking
keeps that true, so there is always an allowed step. Commands whose own differences are within the limits pass as they are;
others are approached so that the channel comes to rest on them, or beside them if they move.

Pure functions on plain floats: for a few channels faster than arrays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hardware.limits import Limits
from robot.core.errors import ConfigError

HALVINGS = 8
"""Of the interval in which a third-order step is sought that stays within the range."""
EXACT = 1e-9
"""Rounding that counts as being on a limit, in the channel's own unit."""

State = tuple[tuple[float, float, float, float, float], ...]
"""Of each channel: last command, its first and second difference [unit, /s, /s^2]; what was wanted, and its first difference."""


@dataclass(frozen=True)
class Bound:
    """The limits of one channel, with what follows from them."""

    floor: float
    """Smallest command."""
    ceiling: float
    """Largest command."""
    low: float
    """Where the curve may be, at least."""
    high: float
    """At most."""
    rate: float
    rate2: float
    rate3: float
    order: int
    """Highest derivative that is limited."""
    reach: float
    """No braking is longer than this."""


def bounds(limits: Limits) -> tuple[Bound, ...]:
    """Of every channel.

    A third-order limit that a few periods exhaust is kept by a smaller second-order one. Otherwise the range is drawn in by how
    far control points may stand beside their curve, and by what braking loses where full deceleration is reached within a
    period: up to rate3 dt^2 / 8 of speed, for as long as braking lasts.

    Raises:
        ConfigError: nothing is left of a range.
    """
    found = []
    for c in limits.channels:
        order = sum(math.isfinite(rate) for rate in (c.rate, c.rate2, c.rate3))
        rate2, margin, reach = c.rate2, 0.0, math.inf
        if order == 3 and c.rate3 * limits.dt > c.rate2 / 2:
            order, rate2 = 2, min(c.rate2, c.rate3 * limits.dt / 2)
        if order == 3:
            margin = rate2 * limits.dt**2 / 2 + c.rate3 * limits.dt**2 * (6 * limits.dt + c.rate / rate2 / 4)
            reach = c.rate / 2 * (c.rate / rate2 + 3 * rate2 / c.rate3) + c.rate * limits.dt
        if c.low + margin >= c.high - margin:
            raise ConfigError(f"limits: channel '{c.name}': [{c.low}, {c.high}] is too narrow for its rates at dt={limits.dt} s")
        found.append(Bound(c.low, c.high, c.low + margin, c.high - margin, c.rate, rate2, c.rate3, order, reach))
    return tuple(found)


def rest(values: Sequence[float]) -> State:
    """The state of a robot that stands at values (A,)."""
    return tuple((float(value), 0.0, 0.0, float(value), 0.0) for value in values)


def step(wanted: Sequence[float] | None, state: State, bounds: Sequence[Bound], dt: float) -> tuple[list[float], State, bool]:
    """The command nearest to what is wanted, within all limits.

    Args:
        wanted: (A,), or None to brake to a standstill; so does an element that is not finite.
        state: of each channel.
        bounds: of each channel.
        dt: period [s].

    Returns:
        command (A,), the next state, and whether it is what was wanted.
    """
    command, after, same = [], [], True
    for k, (bound, (q, v, a, last, pace)) in enumerate(zip(bounds, state, strict=True)):
        value = math.nan if wanted is None else wanted[k]
        if not -math.inf < value < math.inf:
            a2 = _halted(v, a, bound, dt) if bound.order == 3 else (_stopped(q, v, bound, dt) - v) / dt
            value, trend, same = q + (v + a2 * dt) * dt, v + a2 * dt, False
        else:
            same = same and bound.floor <= value <= bound.ceiling
            value = min(max(value, bound.floor), bound.ceiling)
            trend = (value - last) / dt
            if bound.order == 3:
                a2 = _third(value, trend, (trend - pace) / dt, q, v, a, bound, dt, abs(q - last) <= EXACT)
            else:
                a2 = (_second(value, trend, q, v, bound, dt) - v) / dt
        v2 = v + a2 * dt
        q2 = min(max(q + v2 * dt, bound.floor), bound.ceiling)  # of rounding
        same = same and abs(q2 - value) <= EXACT
        command.append(q2)
        after.append((q2, v2, a2, value, trend))
    return command, tuple(after), same


def _window(q: float, v: float, bound: Bound, dt: float) -> tuple[float, float]:
    """Smallest and largest next first difference where at most it and its change are limited."""
    change = bound.rate2 * dt
    slowest = max(-bound.rate, v - change, -_speed(q - bound.low, bound.rate2, dt))
    fastest = min(bound.rate, v + change, _speed(bound.high - q, bound.rate2, dt))
    return slowest, fastest


def _speed(room: float, rate2: float, dt: float) -> float:
    """The largest first difference after which braking by rate2 ends within `room`."""
    twice = 2 * max(room, 0.0)
    return twice / (math.sqrt(dt * dt + twice / rate2) + dt)


def _stopped(q: float, v: float, bound: Bound, dt: float) -> float:
    slowest, fastest = _window(q, v, bound, dt)
    return min(max(0.0, slowest), fastest)


def _second(value: float, trend: float, q: float, v: float, bound: Bound, dt: float) -> float:
    """The next first difference towards a value that moves by `trend`."""
    slowest, fastest = _window(q, v, bound, dt)
    exact, gap = (value - q) / dt, value - q
    if abs(trend - exact) <= bound.rate2 * dt:
        return min(max(exact, slowest), fastest)
    approach = trend + math.copysign(_speed(abs(gap), bound.rate2, dt), gap)
    return min(max(approach, slowest), fastest)


def _halted(v: float, a: float, bound: Bound, dt: float) -> float:
    """The next second difference of the shortest way to a standstill: towards the curve on which both end at zero together."""
    jump = bound.rate3 * dt
    least, most = max(a - jump, -bound.rate2), min(a + jump, bound.rate2)
    if least <= -v / dt <= most and abs(v) / dt <= jump:
        return -v / dt
    ideal = bound.rate3 * (math.sqrt(dt * dt / 4 + 2 * abs(v) / bound.rate3) - dt / 2)
    return min(max(math.copysign(ideal, -v), least), most)


def _third(value: float, trend: float, swing: float, q: float, v: float, a: float, bound: Bound, dt: float, on: bool) -> float:
    """The next second difference towards a value that moves by `trend`, itself changing by `swing`, where three are limited.

    on: the last command was what was wanted.
    """
    jump = bound.rate3 * dt
    least, most = max(a - jump, -bound.rate2), min(a + jump, bound.rate2)
    exact = ((value - q) / dt - v) / dt
    if least <= exact <= most and (on or abs((trend - v) / dt + swing - 2 * exact) <= jump):
        choice = exact
    else:  # in the frame that moves with what is wanted
        swing = min(max(swing, -bound.rate2), bound.rate2)
        choice = swing + _landing(least - swing, most - swing, q - value + trend * dt, v - trend, bound, dt)
    choice = _cap(choice, least, q, v, bound.high, bound.rate, bound, dt)
    return -_cap(-choice, -most, -q, -v, -bound.low, bound.rate, bound, dt)


def _landing(least: float, most: float, q: float, v: float, bound: Bound, dt: float) -> float:
    """The second difference, from `least` to `most`, after which braking ends at zero, or nearest to it: by two chords."""
    above = q + most * dt * dt / 6 + _travel(v + most * dt / 2, most, bound)
    if above <= 0:
        return most
    below = q + least * dt * dt / 6 + _travel(v + least * dt / 2, least, bound)
    if below >= 0:
        return least
    middle = least - below * (most - least) / (above - below)
    end = q + middle * dt * dt / 6 + _travel(v + middle * dt / 2, middle, bound)
    if end > 0:
        most, above = middle, end
    else:
        least, below = middle, end
    return least - below * (most - least) / (above - below)


def _cap(choice: float, least: float, q: float, v: float, high: float, rate: float, bound: Bound, dt: float) -> float:
    """The second difference nearest to `choice`, from `least` to it, after which braking ends below `high`; else `least`."""
    if not _beyond(choice, q, v, high, rate, bound, dt):
        return choice
    allowed, not_allowed = least, choice
    for _ in range(HALVINGS):
        middle = (allowed + not_allowed) / 2
        if _beyond(middle, q, v, high, rate, bound, dt):
            not_allowed = middle
        else:
            allowed = middle
    return allowed


def _beyond(a2: float, q: float, v: float, high: float, rate: float, bound: Bound, dt: float) -> bool:
    """Whether after a step with second difference a2 braking ends above `high`, or would be faster than `rate` on the way."""
    after = v + a2 * dt
    if a2 > 0 and after + a2 * a2 / (2 * bound.rate3) > rate + EXACT:
        return True
    q, v = q + a2 * dt * dt / 6, v + a2 * dt / 2  # on the curve
    if q + bound.reach < high:
        return False
    if v + a2 * abs(a2) / (2 * bound.rate3) >= 0:
        return q + _travel(v, a2, bound) > high
    if v <= 0:
        return q > high
    turn = (-a2 - math.sqrt(a2 * a2 - 2 * bound.rate3 * v)) / bound.rate3  # the velocity passes zero before the acceleration does
    return q + turn * (v + turn * (a2 / 2 + turn * bound.rate3 / 6)) > high


def _travel(v: float, a: float, bound: Bound) -> float:
    """How far it is to a standstill by the shortest braking, from velocity v and acceleration a: signed."""
    jerk = bound.rate3
    if v + a * abs(a) / (2 * jerk) < 0:
        return -_travel(-v, -a, bound)
    peak = min(math.sqrt(max(jerk * v + a * a / 2, 0.0)), bound.rate2)
    ramp = (peak + a) / jerk
    way = ramp * (v + ramp * (a / 2 - ramp * jerk / 6))
    if peak <= 0:
        return way
    speed = v + (a * a - peak * peak) / (2 * jerk)
    return way + speed * speed / (2 * peak) + peak**3 / (24 * jerk * jerk)
