"""What a robot may do: hardware/robots/<robot>/limits.yaml. Every key is required; `.inf` says deliberately none."""

import itertools
import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from hardware.collision import Bodies, Collision
from robot.core.config import typed
from robot.core.errors import ConfigError, InterfaceError
from robot.core.interface import Field, Interface
from robot.core.paths import ROOT

ROBOTS = ROOT / "hardware" / "robots"


class Family(Enum):
    joints = "joints"
    base = "base"
    flyer = "flyer"
    vehicle = "vehicle"


class Safe(Enum):
    """What is sent when nothing else may be.

    There is none for arms that are commanded by torques: zero lets them fall, the last torque pushes on, and what carries their
    weight depends on where they are, which is just what may not be known any more. Such an arm is `silent`: its driver's `stop`
    puts on the brakes, or switches to the position control of its own joints.
    """

    hold = "hold"
    """Brake, then the same value for ever: for positions, of which the same means standing still."""
    zero = "zero"
    """Go to zero as fast as the limits allow, then zero for ever: for velocities and what moves nothing at zero."""
    silent = "silent"
    """Nothing, after one order to the robot to make itself safe (`Driver.stop`): a flyer hovers or lands."""


POSITIONS = ("rad", "m", "px")
"""Units of commands of which the same means standing still."""


@dataclass
class Channel:
    """Of one element of the command."""

    name: str
    """As in the driver's command field."""
    unit: str
    """As in the driver's command field."""
    low: float
    """Smallest value that is ever sent [unit]."""
    high: float
    """Largest value that is ever sent [unit]."""
    rate: float
    """Largest first difference over the period [unit/s]."""
    rate2: float
    """Largest second difference [unit/s^2]."""
    rate3: float
    """Largest third difference [unit/s^3]."""


@dataclass
class Range:
    """Of a measurement; outside is a fault."""

    field: str
    """Observation field; all its elements are looked at."""
    low: float
    """Smallest [the field's unit]."""
    high: float
    """Largest [the field's unit]."""


@dataclass
class Fence:
    """Where the robot may be."""

    field: str
    """Observation field of positions, its first elements x, y and, where there are three bounds, z [m]."""
    low: list[float]
    """Smallest coordinates [m]."""
    high: list[float]
    """Largest coordinates [m]."""


@dataclass
class Tilt:
    """How far a flyer may lean."""

    field: str
    """Observation field of the orientation: a rotation matrix (3, 3), world from body, or a quaternion (4,), wxyz."""
    limit: float
    """Largest angle between the body's and the world's up [rad]."""


@dataclass
class Limits:
    family: Family
    """What the robot is."""
    safe: Safe
    """What is sent when nothing else may be."""
    dt: float
    """Servo period, between two commands [s]."""
    command_age: float
    """An action that was decided on measurements older than this is not followed [s]."""
    observation_age: float
    """Nothing moves on measurements older than this [s]."""
    frozen: float
    """Measurements that stay the same to the last bit for so long are a fault, .inf where they may [s]."""
    trembling: list[str]
    """Observation fields that change in every measurement, however little; `frozen` is when none of them did."""
    channels: list[Channel]
    """One an element of the command, in its order."""
    measured: list[Range]
    """Ranges of measurements."""
    fence: Fence | None
    """Where it may be; null has to be said."""
    tilt: Tilt | None
    """How far it may lean; null has to be said."""
    collision: Collision | None
    """Its body as spheres, where it could touch itself; null has to be said."""


def load(file: str | Path) -> Limits:
    """The limits in a file, or of the robot of that name.

    Raises:
        ConfigError: no such file, a key is missing or wrong, or a range is empty.
    """
    path = Path(file)
    if path.suffix != ".yaml":
        path = ROBOTS / str(file) / "limits.yaml"
    if not path.exists():
        known = ", ".join(sorted(entry.parent.name for entry in ROBOTS.glob("*/limits.yaml")))
        raise ConfigError(f"limits: there is no '{path}'; no robot moves without; robots that have limits: {known}")
    try:
        node: Any = OmegaConf.load(path)
        OmegaConf.resolve(node)
    except Exception as error:
        raise ConfigError(f"limits: '{path}' is not yaml: {str(error).splitlines()[0]}") from error
    if not isinstance(node, DictConfig):
        raise ConfigError(f"limits: '{path}' is no list of keys: {', '.join(Limits.__dataclass_fields__)}")
    limits = typed(Limits, node, f"limits '{path.parent.name}'")
    _check(limits, str(path))
    return limits


def _check(limits: Limits, where: str) -> None:
    for name in ("dt", "command_age", "observation_age"):
        if not 0 < getattr(limits, name) < math.inf:
            raise ConfigError(f"{where}: {name}={getattr(limits, name)} must be positive and finite")
    if not limits.frozen > 0:
        raise ConfigError(f"{where}: frozen={limits.frozen} must be positive, .inf for never")
    if math.isfinite(limits.frozen) != bool(limits.trembling):
        raise ConfigError(
            f"{where}: frozen={limits.frozen} and trembling={limits.trembling}: name the fields, or say .inf and []"
        )
    if not limits.channels:
        raise ConfigError(f"{where}: channels is empty; every element of the command needs an entry")
    for channel in limits.channels:
        _check_channel(channel, where)
    _check_safe(limits, where)
    for entry in limits.measured:
        if not entry.low < entry.high:
            raise ConfigError(f"{where}: measured '{entry.field}' needs low < high, got {entry.low} and {entry.high}")
    _check_space(limits, where)


def _check_safe(limits: Limits, where: str) -> None:
    if limits.family is Family.flyer and limits.safe is not Safe.silent:
        raise ConfigError(
            f"{where}: safe={limits.safe.value}: no command keeps a flyer in the air; say silent, its driver lands it"
        )
    for channel in limits.channels:
        if limits.safe is Safe.hold and channel.unit not in POSITIONS:
            raise ConfigError(f"{where}: safe=hold: '{channel.name}' in '{channel.unit}' would move on; say zero or silent")
        if limits.safe is Safe.zero and not channel.low <= 0 <= channel.high:
            raise ConfigError(
                f"{where}: safe=zero: '{channel.name}' cannot be zero in [{channel.low}, {channel.high}]; say hold or silent"
            )


def _check_channel(channel: Channel, where: str) -> None:
    rates = (channel.rate, channel.rate2, channel.rate3)
    if not (math.isfinite(channel.low) and math.isfinite(channel.high) and channel.low < channel.high):
        raise ConfigError(f"{where}: channel '{channel.name}' needs finite low < high, got {channel.low} and {channel.high}")
    if not all(rate > 0 for rate in rates):
        raise ConfigError(f"{where}: channel '{channel.name}': rates must be positive, .inf for none, got {rates}")
    if any(math.isinf(lower) and math.isfinite(higher) for lower, higher in itertools.pairwise(rates)):
        raise ConfigError(f"{where}: channel '{channel.name}' limits a derivative but not the one below it: {rates}")


def _check_space(limits: Limits, where: str) -> None:
    if limits.fence and not (len(limits.fence.low) == len(limits.fence.high) in (2, 3)):
        raise ConfigError(f"{where}: fence needs two or three coordinates in low and in high")
    if limits.fence and any(not low < high for low, high in zip(limits.fence.low, limits.fence.high, strict=True)):
        raise ConfigError(f"{where}: fence needs low < high in every coordinate")
    if limits.tilt and not 0 < limits.tilt.limit <= math.pi:
        raise ConfigError(f"{where}: tilt limit {limits.tilt.limit} must be in (0, pi] rad")
    if limits.collision:
        Bodies(limits.collision, [channel.name for channel in limits.channels], f"{where}: collision")
        moved = [joint.channel for joint in limits.collision.joints]
        wrong = [c.name for c in limits.channels if c.name in moved and (c.unit != "rad" or math.isinf(c.rate))]
        if wrong:
            raise ConfigError(f"{where}: collision: the joints {wrong} must be commanded by angles in rad, with a finite rate")


def fit(limits: Limits, interface: Interface) -> None:
    """Refuse limits that are for another robot.

    Raises:
        InterfaceError: what differs from the driver's interface, in words.
    """
    command: Field = interface.action
    names = [channel.name for channel in limits.channels]
    wrong = []
    if names != list(command.names):
        wrong.append(f"channels {names} are not the command's elements {list(command.names)}, in that order")
    units = command.unit.split(", ")  # one for all, or one each
    units = units * len(names) if len(units) == 1 else units
    wrong += [
        f"'{c.name}' is in '{c.unit}', the command in '{unit}'"
        for c, unit in zip(limits.channels, units, strict=False)
        if unit not in ("", c.unit)
    ]
    looked = [entry.field for entry in limits.measured]
    looked += limits.trembling
    looked += [limits.fence.field] if limits.fence else []
    looked += [limits.tilt.field] if limits.tilt else []
    wrong += [f"there is no observation '{name}', only {list(interface.names)}" for name in looked if name not in interface.names]
    if abs(limits.dt - interface.dt) > 1e-9:
        wrong.append(f"dt is {limits.dt} s, the driver's {interface.dt} s")
    if wrong:
        raise InterfaceError(f"limits do not fit the driver: {'; '.join(wrong)}")
