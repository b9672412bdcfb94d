"""Whether an arm would touch itself: spheres on the joints of a tree, and how near two of them come.

A posture is a vector of joint angles in the order of the command's channels. Joints turn about an axis; the frame of a joint is
that of its parent, moved by `offset`, turned by `turn`, then by the joint's angle about `axis`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import ConfigError

Array = NDArray[Any]

BASE = "base"
"""What the first joints hang on, and what spheres that never move are fixed to."""


@dataclass
class Joint:
    """One that turns; parents come before their children."""

    channel: str
    """The element of the command that is its angle."""
    parent: str
    """The channel of the joint that carries it, or `base`."""
    offset: list[float]
    """Its origin in the parent's frame [m]."""
    turn: list[float]
    """Its frame in the parent's at angle zero, a quaternion wxyz."""
    axis: list[float]
    """It turns about, in its own frame."""


@dataclass
class Sphere:
    """A part of the body is within it."""

    name: str
    """For words, and for `excluded`."""
    joint: str
    """The channel of the joint that moves it, or `base`."""
    centre: list[float]
    """In the frame of that joint [m]."""
    radius: float
    """[m]."""


@dataclass
class Collision:
    """The body as spheres."""

    margin: float
    """No two spheres come nearer than this. It has to cover how inexactly commands are obeyed, and what moves in a period [m]."""
    joints: list[Joint]
    """Every one that moves a sphere; channels that move none, such as a gripper's, are left out."""
    spheres: list[Sphere]
    """Two of them are compared unless the same joint carries both or the pair is excluded."""
    excluded: list[list[str]]
    """Pairs of names that may touch, such as neighbours."""


class Bodies:
    """The spheres of one robot, for postures by the hundred."""

    def __init__(self, config: Collision, channels: Sequence[str], where: str = "collision") -> None:
        """channels: names of the command's elements, all angles [rad].

        Raises:
            ConfigError: an unknown name, a parent after its child, no axis, no quaternion, nothing to compare.
        """
        _check(config, channels, where)
        index = {BASE: 0} | {joint.channel: k + 1 for k, joint in enumerate(config.joints)}
        self.margin, self.names = config.margin, [sphere.name for sphere in config.spheres]
        self.columns = [list(channels).index(joint.channel) for joint in config.joints]
        self.parents = [index[joint.parent] for joint in config.joints]
        self.offsets = [np.array(joint.offset, float) for joint in config.joints]
        self.turns = [_matrix(np.array(joint.turn, float)) for joint in config.joints]
        self.crosses = [_cross(np.array(joint.axis, float)) for joint in config.joints]
        self.on = [index[sphere.joint] for sphere in config.spheres]
        self.centres = np.array([sphere.centre for sphere in config.spheres], float)
        radius = np.array([sphere.radius for sphere in config.spheres])
        excluded = {frozenset(pair) for pair in config.excluded}
        pairs = [
            (a, b)
            for a in range(len(radius))
            for b in range(a)
            if self.on[a] != self.on[b] and frozenset((self.names[a], self.names[b])) not in excluded
        ]
        if not pairs:
            raise ConfigError(f"{where}: no two spheres are left to compare; say null if nothing can touch")
        self.a, self.b = np.array(pairs).T
        self.apart = radius[self.a] + radius[self.b]
        reach = np.array([self._reach(sphere, len(channels)) for sphere in range(len(radius))])
        self.levers = np.where((reach[self.a] > 0) != (reach[self.b] > 0), reach[self.a] + reach[self.b], 0.0)
        """By pair and channel (P, A): no faster does the gap of a pair change with the angle [m/rad]."""

    def _reach(self, sphere: int, channels: int) -> Array:
        """By channel (A,): how far a sphere's centre can be from the joint's axis [m]; zero where the joint does not move it."""
        found, length, on = np.zeros(channels), float(np.linalg.norm(self.centres[sphere])), self.on[sphere]
        while on:
            found[self.columns[on - 1]] = length + 1e-12
            length += float(np.linalg.norm(self.offsets[on - 1]))
            on = self.parents[on - 1]
        return found

    def places(self, postures: Array) -> Array:
        """Centres (K, S, 3) of the spheres in the frame of the base [m], of postures (K, A) [rad]."""
        count = len(postures)
        turned, moved = [np.broadcast_to(np.eye(3), (count, 3, 3))], [np.zeros((count, 3))]
        for k, parent in enumerate(self.parents):
            angle = postures[:, self.columns[k], None, None]
            cross = self.crosses[k]
            spin = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * (cross @ cross)  # Rodrigues
            moved.append(moved[parent] + turned[parent] @ self.offsets[k])
            turned.append(turned[parent] @ (self.turns[k] @ spin))
        return np.stack([moved[on] + turned[on] @ self.centres[s] for s, on in enumerate(self.on)], axis=1)

    def gaps(self, postures: Array) -> Array:
        """Between the surfaces of the compared pairs (K, P) [m], negative where they overlap."""
        places = self.places(postures)
        return np.linalg.norm(places[:, self.a] - places[:, self.b], axis=2) - self.apart

    def touching(self, postures: Array) -> tuple[str, float] | None:
        """The pair that comes nearest in any posture (K, A), in words, and its gap [m], if that is below the margin."""
        gaps = self.gaps(postures).min(axis=0)
        nearest = int(np.argmin(gaps))
        if gaps[nearest] >= self.margin:
            return None
        a, b = self.names[self.a[nearest]], self.names[self.b[nearest]]
        return f"'{b}' and '{a}' nearer than {self.margin} m", float(gaps[nearest])


def _check(config: Collision, channels: Sequence[str], where: str) -> None:
    if not 0 <= config.margin < np.inf:
        raise ConfigError(f"{where}: margin={config.margin} must be finite and not negative")
    known = [BASE]
    for joint in config.joints:
        name = f"joint '{joint.channel}'"
        if joint.channel not in channels or joint.channel in known:
            raise ConfigError(f"{where}: {name} must be one of the channels {list(channels)}, once")
        if joint.parent not in known:
            raise ConfigError(f"{where}: {name} hangs on '{joint.parent}', which must be one before it: {', '.join(known)}")
        known.append(joint.channel)
        _numbers(joint.offset, 3, f"{where}: {name}: offset")
        for key, value, size in (("turn", joint.turn, 4), ("axis", joint.axis, 3)):
            if not _numbers(value, size, f"{where}: {name}: {key}").any():
                raise ConfigError(f"{where}: {name}: {key} is all zero")
    _check_spheres(config, known, where)


def _check_spheres(config: Collision, known: Sequence[str], where: str) -> None:
    names = [sphere.name for sphere in config.spheres]
    for sphere in config.spheres:
        if names.count(sphere.name) > 1 or sphere.joint not in known:
            raise ConfigError(
                f"{where}: sphere '{sphere.name}' on '{sphere.joint}' must be named once, on one of {', '.join(known)}"
            )
        _numbers(sphere.centre, 3, f"{where}: sphere '{sphere.name}': centre")
        if not 0 < sphere.radius < np.inf:
            raise ConfigError(f"{where}: sphere '{sphere.name}': radius={sphere.radius} must be positive")
    for pair in config.excluded:
        if len(pair) != 2 or not set(pair) <= set(names):
            raise ConfigError(f"{where}: excluded {pair} must be two of {', '.join(names)}")


def _numbers(values: Sequence[float], size: int, where: str) -> Array:
    found = np.array(values, float)
    if found.shape != (size,) or not np.isfinite(found).all():
        raise ConfigError(f"{where}={list(values)} must be {size} finite numbers")
    return found


def _matrix(q: Array) -> Array:
    """Rotation of a quaternion (4,), wxyz, of any length but zero."""
    w, x, y, z = q / np.linalg.norm(q)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def _cross(axis: Array) -> Array:
    """The matrix (3, 3) that takes a vector to its cross product with the unit axis."""
    x, y, z = axis / np.linalg.norm(axis)
    return np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
