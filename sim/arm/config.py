"""What the table-top world is told, what flows, and what cannot be."""

from dataclasses import dataclass
from enum import Enum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import ConfigError
from robot.core.interface import Field, Interface
from sim.arm import model
from sim.arm.kinematics import Reach
from sim.arm.model import OPENING, TIP, WALL, LinksConfig, Shape, Thing, bent, joint_names
from sim.arm.world import SEGMENTS

DEPTH_SIDE = 64
"""Rows and columns of the depth image [px]."""
CLEARANCE = 0.004
"""The open gripper is at least so much wider than the object [m]."""
GAP = 0.01
"""Object and bin start at least so far apart [m]."""
Array = NDArray[np.float64]


class Task(Enum):
    lift = "lift"
    can = "can"


class Reward(Enum):
    sparse = "sparse"
    dense = "dense"


@dataclass
class WorkspaceConfig:
    low: list[float]
    """x, y, z of the hand's lowest target [m]; the fingers reach 1 cm below the hand."""
    high: list[float]
    """x, y, z of its highest one [m]."""
    yaw: float
    """Its heading goes to plus and minus this [rad]."""
    speed: float
    """Fastest motion of the hand's set point [m/s]."""
    turn: float
    """The same for its heading [rad/s]."""
    start: list[float]
    """x, y, z where the hand starts [m]."""
    spread: float
    """It starts within plus or minus this of it, in each direction [m]."""


@dataclass
class ObjectConfig:
    width: float
    """Edge of the cube's base, or the can's diameter [m]."""
    height: float
    """[m]"""
    scale: list[float]
    """Its size is drawn for each episode between these two times the nominal one."""
    mass: list[float]
    """Drawn between these two [kg]."""
    friction: list[float]
    """Coefficient of friction of all its contacts, drawn between these two."""
    x: list[float]
    """Where its centre starts: between these two [m]."""
    y: list[float]
    """[m]"""
    yaw: float
    """Its heading starts within plus or minus this [rad]."""


@dataclass
class BinConfig:
    side: float
    """Inner width of the bin, which task=can has [m]."""
    x: list[float]
    """Where its centre stands: between these two [m]."""
    y: list[float]
    """[m]"""


@dataclass
class WeightsConfig:
    """Of reward=dense, whose terms but success are changes of a potential: over an episode each sums to at most its weight."""

    reach: float
    """The hand comes near the object: 1 - tanh(10 distance / m)."""
    grasp: float
    """Both fingers touch the object, or it is in the bin."""
    move: float
    """The object is lifted (share of the height asked for), or comes near the bin's middle: 1 - tanh(5 distance / m)."""
    success: float
    """Once, at success."""


@dataclass
class ArmConfig:
    num_envs: int
    """Worlds."""
    threads: int
    """Threads of the physics, 0 for all cores."""
    task: Task
    """lift: a cube is to be held up. can: a can is to be put into the bin."""
    dt: float
    """Control period [s], a multiple of five physics steps."""
    timestep: float
    """Step of the physics [s]."""
    time_limit: float
    """Length of an episode [s]."""
    hold: float
    """A success lasts as long as this [s]: the object is held above `height`, or lies in the bin, at rest and let go."""
    height: float
    """Of the lifted object's lowest point above the table [m]."""
    links: LinksConfig
    """The arm."""
    workspace: WorkspaceConfig
    """Where the hand can be sent, and how fast it goes."""
    object: ObjectConfig
    """What is to be grasped, and what differs between episodes."""
    bin: BinConfig
    """Where it is to be put."""
    disturbance: float
    """Standard deviation of what is added to the hand's target in x, y and z, and which no record shows [m]: a demonstrator has
    to recover from it, as in DART (Laskey et al., 2017)."""
    depth: bool
    """Observe the depth image of a fixed camera in front of the table, 64 x 64, in m along the optical axis, 0 beyond 3 m."""
    reward: Reward
    """sparse: 1 at success. dense: see weights."""
    weights: WeightsConfig
    """Of the dense reward."""


def interface(config: ArmConfig) -> Interface:
    """What flows."""
    xyz, columns = ("x", "y", "z"), ("x_x", "x_y", "x_z", "y_x", "y_y", "y_z")
    names = joint_names(config.links.joints)
    fields = [
        Field("joints", (len(names),), unit="rad", names=names),
        Field("gripper", (1,), unit="m", low=0.0, high=OPENING, names=("opening",)),
        Field("hand_position", (3,), unit="m", frame="w", names=xyz),
        Field("hand_rotation", (6,), frame="w", names=columns),
        Field("object_position", (3,), unit="m", frame="w", names=xyz),
        Field("object_rotation", (6,), frame="w", names=columns),
        Field("target_position", (3,), unit="m", frame="w", names=xyz),
    ]
    if config.depth:
        fields.append(Field("depth", (DEPTH_SIDE, DEPTH_SIDE), unit="m", frame="c", low=0.0))
    action = Field("hand_target", (5,), frame="w", low=-1.0, high=1.0, names=(*xyz, "yaw", "gripper"))
    return Interface(tuple(fields), action, config.dt)


def bounds(workspace: WorkspaceConfig) -> tuple[Array, Array]:
    """What the actions -1 and 1 stand for: x, y, z [m], yaw [rad], opening [m], (5,) each."""
    return np.array([*workspace.low, -workspace.yaw, 0.0]), np.array([*workspace.high, workspace.yaw, OPENING])


def thing(config: ArmConfig) -> Thing:
    """The nominal object."""
    shape = Shape.box if config.task is Task.lift else Shape.cylinder
    return Thing(shape, config.object.width, config.object.height)


def check(config: ArmConfig) -> None:
    """Raise a ConfigError unless there can be such a world."""
    if config.num_envs < 1 or config.threads < 0:
        raise ConfigError(f"env.num_envs={config.num_envs} must be at least 1, env.threads={config.threads} not negative")
    steps = config.dt / config.timestep if config.timestep > 0 else 0.0
    if config.timestep <= 0 or round(steps) < 1 or abs(steps - round(steps)) > 1e-6 or round(steps) % SEGMENTS:
        raise ConfigError(
            f"env.dt={config.dt} has {steps:g} physics steps of env.timestep={config.timestep} s; multiples of {SEGMENTS} will do"
        )
    if config.time_limit < config.dt or config.hold < 0 or config.height <= 0:
        raise ConfigError(
            f"env.time_limit={config.time_limit} must be at least dt={config.dt} s, env.hold={config.hold} not negative, "
            f"env.height={config.height} positive"
        )
    if config.disturbance < 0:
        raise ConfigError(f"env.disturbance={config.disturbance} must not be negative")
    model.check(config.links)
    _check_object(config.object)
    _check_workspace(config)
    _check_reach(config)


def _check_object(it: ObjectConfig) -> None:
    if it.width <= 0 or it.height <= 0:
        raise ConfigError(f"env.object: width={it.width} and height={it.height} must be positive")
    for name in ("scale", "mass", "friction"):
        _range(f"env.object.{name}", getattr(it, name))
        if it.__dict__[name][0] <= 0:
            raise ConfigError(f"env.object.{name}={getattr(it, name)} must be positive")
    if it.width * it.scale[1] > OPENING - CLEARANCE:
        raise ConfigError(
            f"env.object: width={it.width} times scale={it.scale[1]} is too wide for the gripper; {OPENING - CLEARANCE:g} m fits"
        )
    if it.yaw < 0:
        raise ConfigError(f"env.object.yaw={it.yaw} must not be negative")


def _check_workspace(config: ArmConfig) -> None:
    space = config.workspace
    for name in ("low", "high", "start"):
        if len(getattr(space, name)) != 3 or not np.isfinite(getattr(space, name)).all():
            raise ConfigError(f"env.workspace.{name}={getattr(space, name)}: three finite numbers are needed, x, y, z")
    low, high, start = (np.array(values) for values in (space.low, space.high, space.start))
    if not (low < high).all() or low[2] < TIP:
        raise ConfigError(
            f"env.workspace: low={space.low} must be below high={space.high}, and its z at least {TIP} m, the length of the tips"
        )
    if min(space.yaw, space.speed, space.turn) <= 0 or space.yaw > np.pi or space.spread < 0:
        raise ConfigError(
            f"env.workspace: yaw={space.yaw} must be above 0 and at most pi, speed={space.speed} and turn={space.turn} positive, "
            f"spread={space.spread} not negative"
        )
    if (start - space.spread < low).any() or (start + space.spread > high).any():
        raise ConfigError(f"env.workspace.start={space.start} ± {space.spread} leaves the workspace {space.low} to {space.high}")
    _check_places(config)


def _check_places(config: ArmConfig) -> None:
    """Object and bin must stand in the workspace, and the object must fit into the bin."""
    places: dict[str, ObjectConfig | BinConfig] = {"object": config.object}
    if config.task is Task.can:
        places["bin"] = config.bin
        if config.bin.side < config.object.width * config.object.scale[1] + CLEARANCE:
            raise ConfigError(f"env.bin.side={config.bin.side} m is narrower than the can")
    for name, place in places.items():
        for axis, values in enumerate((place.x, place.y)):
            key, low, high = f"env.{name}.{'xy'[axis]}", config.workspace.low[axis], config.workspace.high[axis]
            _range(key, values)
            if values[0] < low or values[1] > high:
                raise ConfigError(f"{key}={values} leaves the workspace, which goes from {low:g} to {high:g} m there")


def _check_reach(config: ArmConfig) -> None:
    """The hand must come to every corner of the workspace, at every heading's end."""
    space = config.workspace
    rest = bent(config.links.joints)
    reach = Reach(model.compiled(config.links, thing(config), 0.0, config.timestep), len(rest), rest)
    start = reach.solve(rest, np.array(space.start), 0.0, 100)
    for corner in product(*zip(space.low, space.high, strict=True)):
        for yaw in (-space.yaw, 0.0, space.yaw):
            at, _ = reach.forward(reach.solve(start, np.array(corner), yaw, 100))
            if np.linalg.norm(at - corner) > 0.005:
                raise ConfigError(
                    f"env.workspace: the arm does not reach the corner {tuple(float(v) for v in corner)} with heading {yaw:.2f}"
                    " rad; make the workspace smaller or env.links longer"
                )


def clear_of_bin(config: ArmConfig, place: Array, target: Array) -> bool:
    """Whether the object at `place` (2,) [m] stands clear of the bin at `target` (2,), whatever its heading."""
    wide = config.bin.side / 2 + 2 * WALL[0] + GAP + config.object.width * config.object.scale[1] / 2
    return bool((abs(place - target) > wide).any())


def _range(name: str, values: list[float]) -> None:
    if len(values) != 2 or not np.isfinite(values).all() or values[0] > values[1]:
        raise ConfigError(f"{name}={values}: two finite numbers are needed, the lower one first")
