"""What the navigation world is configured by, and what it says and hears."""

from dataclasses import dataclass, fields

from robot.core.errors import ConfigError
from robot.core.interface import Field, Interface
from sim.navigation.crowd import DENSITIES
from sim.navigation.embodiment import Embodiment
from sim.navigation.scenes import FAMILIES
from sim.sensors.noise import DepthNoiseConfig

ROBOT = tuple(f.name for f in fields(Embodiment))
TASKS = ("point", "explore", "image")


@dataclass
class NavigationConfig:
    num_envs: int
    """Worlds in the batch."""
    split: str
    """'train' or 'test': disjoint seeds and disjoint grammars of the scene generators."""
    families: list[str]
    """Scene families to draw from; empty means all."""
    embodiments: dict[str, Embodiment]
    """The robots by name."""
    robots: list[str]
    """Which of the embodiments take part; episode e drives robots[e % len(robots)]."""
    randomize: float
    """Relative range of body, camera and limit randomisation, 0 for none; 0.2 means ±20 %."""
    tasks: dict[str, float]
    """Share of episodes of each task: point, explore, image."""
    depth_height: int
    """Depth image rows [px]."""
    depth_width: int
    """Depth image columns [px]."""
    rgb: bool
    """Also observe flat-shaded RGB (and use it for goal images)."""
    max_range: float
    """Depth beyond this reads as no return [m]."""
    dt: float
    """Period between two plans [s]."""
    control_dt: float
    """Period of velocity commands [s]."""
    time_limit: float
    """Longest episode [s]."""
    horizon: int
    """Waypoints in a path."""
    spacing: float
    """Distance between expert waypoints [m]."""
    min_distance: float
    """Shortest geodesic start-goal distance [m]."""
    max_distance: float
    """Longest geodesic start-goal distance [m]."""
    crowd: str
    """Density of moving obstacles: none, low, medium, high."""
    noise: DepthNoiseConfig
    """Depth sensor noise."""
    drift_deg: float
    """Standard deviation of the heading drift of odometry [deg/m], constant over an episode."""
    scale_error: float
    """Standard deviation of the scale error of odometry [1]."""
    margin: float
    """Width of the band around obstacles that costs the expert extra [m]."""
    weight: float
    """Extra cost per metre at the inner edge of that band [1]."""
    success_distance: float
    """An episode succeeds within this distance of the goal [m] …"""
    success_speed: float
    """… at less than this speed [m/s]."""
    pool_cells: int
    """Side of the arrays that hold scenes, in 5 cm cells."""
    threads: int
    """Threads of the depth caster, 0 for all cores."""


def interface(config: NavigationConfig) -> Interface:
    """What the navigation world says and hears."""
    image = (config.depth_height, config.depth_width)
    goal_image = Field("goal_image", (*image, 3), "float32", "1", "camera", 0.0, 1.0) if config.rgb else None
    observation = [
        Field("depth", image, "float32", "m", "camera", 0.0),
        Field("odometry", (3,), "float32", "m, m, rad", "odom", names=("x", "y", "yaw")),
        Field("velocity", (2,), "float32", "m/s, rad/s", "body", names=("v", "w")),
        Field("goal", (3,), "float32", "m, m, rad", "body", names=("x", "y", "yaw")),
        goal_image or Field("goal_image", image, "float32", "m", "camera", 0.0),
        Field("goal_given", (2,), "float32", "1", "", 0.0, 1.0, ("point", "image")),
        Field("robot", (len(ROBOT),), "float32", "SI", "", names=ROBOT),
    ]
    if config.rgb:
        observation.append(Field("rgb", (*image, 3), "uint8", "1", "camera"))
    action = Field("path", (config.horizon, 3), "float32", "m, m, rad", "body at observation", names=("dx", "dy", "dtheta"))
    return Interface(tuple(observation), action, config.dt)


def families(config: NavigationConfig) -> tuple[str, ...]:
    """The scene families that take part."""
    unknown = [name for name in config.families if name not in FAMILIES]
    if unknown:
        raise ConfigError(f"env.families: {unknown} are not scene families; there are {list(FAMILIES)}")
    return tuple(config.families) or tuple(FAMILIES)


def check(config: NavigationConfig) -> None:
    """Raise a ConfigError for values that no type can rule out."""
    unknown = [name for name in config.robots if name not in config.embodiments]
    if unknown or not config.robots:
        raise ConfigError(f"env.robots: {unknown or 'none given'}; there are {list(config.embodiments)}")
    if config.crowd not in DENSITIES:
        raise ConfigError(f"env.crowd: '{config.crowd}'; accepted: {', '.join(DENSITIES)}")
    strange = [name for name in config.tasks if name not in TASKS]
    if strange or sum(config.tasks.values()) <= 0 or min(config.tasks.values()) < 0:
        raise ConfigError(f"env.tasks: {dict(config.tasks)}; give non-negative shares of {list(TASKS)}, not all zero")
    if config.split not in ("train", "test"):
        raise ConfigError(f"env.split: '{config.split}'; accepted: train, test")
    if config.num_envs < 1:
        raise ConfigError(f"env.num_envs: {config.num_envs}; at least 1 world is needed")
