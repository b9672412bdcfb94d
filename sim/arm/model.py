"""The table-top world as MJCF, written from numbers: an arm with a two-finger gripper, a table, an object and a bin.

Frame w stands on the table below the arm's first axis: x away from the arm, z up, z = 0 the table's top. At zero angles the arm
stands straight up, every link's frame is parallel to w, and the axes are

    1 z  turn             at the foot                  5 z  forearm roll   in the forearm's middle line
    2 y  shoulder         `base` above it              6 y  wrist          `forearm` above the elbow, back in line with the foot
    3 z  upper arm roll   (7 joints only)              7 z  hand roll      `wrist` behind it
    4 y  elbow            `upper` above and `elbow` before the shoulder

The point `hand`, between the pads of the fingers, is `hand` above the wrist. Positive angles of y axes bend the arm forward; its
hand points down where those of 2, 4 and 6 sum to pi with the rolls at zero. The pads close along the hand's y axis.

Masses and inertias are those of the solids drawn here, of the density `density`: motors, gears and shells with air between. The
links and the hand at 1100 kg/m3 weigh 19 kg, what arms of this size do. Every joint adds the rotor's inertia through its gear.

Servos follow from that: a joint that feels the inertia I (the diagonal of the mass matrix in the posture BENT) gets the stiffness
I w^2 and the damping 2 I w, critical, with the one natural frequency w of SERVO. Arm and hand carry their own weight (gravcomp).
"""

import copy
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import ConfigError
from robot.core.optional import require

mujoco: Any = require("mujoco", extra="sim")

AXES = {
    "turn": "0 0 1", "shoulder": "0 1 0", "upper_roll": "0 0 1", "elbow": "0 1 0",
    "forearm_roll": "0 0 1", "wrist": "0 1 0", "hand_roll": "0 0 1",
}  # fmt: skip
"""Joints in order, with their axes in frame w at zero angles; an arm of six has no upper_roll."""
RANGES = {
    "turn": (-2.9, 2.9), "shoulder": (-1.76, 1.76), "upper_roll": (-2.9, 2.9), "elbow": (0.07, 3.07),
    "forearm_roll": (-2.9, 2.9), "wrist": (-0.6, 3.1), "hand_roll": (-2.9, 2.9),
}  # fmt: skip
"""Angles that a joint can take [rad]."""
TORQUE = {"turn": 87, "shoulder": 87, "upper_roll": 87, "elbow": 87, "forearm_roll": 12, "wrist": 12, "hand_roll": 12}
"""What the motors give [N m], after the large and small joints of collaborative arms of 3 kg payload."""
BENT = {"elbow": np.pi / 2, "wrist": np.pi / 2}
"""A posture that points the hand down half-way out; other joints at zero."""
ROTOR = 0.1
"""Inertia of a rotor through its gear [kg m2]: 1e-5 kg m2 times a ratio of 100 squared."""
SERVO = 40.0
"""Natural frequency of the joints' servos [rad/s]; the hand follows 2 / SERVO = 0.05 s behind."""
OPENING = 0.08
"""Largest distance of the pads [m]."""
GRIP = 20.0
"""Largest force of each finger [N]; its servo gives it at 2 cm from its set point."""
PAD = (0.010, 0.006, 0.035)
"""Half sizes of a finger [m]; it ends 10 mm beyond the point `hand`, a third of its length."""
TIP = 0.010
"""How far the fingers reach beyond the point `hand` [m]."""
WALL = (0.004, 0.015)
"""Half thickness and half height of the bin's walls [m]."""
TABLE = (0.6, 0.8, 0.02)
"""Half sizes of the table [m]."""
FALLEN = -0.05
"""An object whose lowest point is below this has left the table [m]."""


class Shape(Enum):
    box = "box"
    cylinder = "cylinder"


@dataclass
class LinksConfig:
    joints: int
    """7, or 6 for an arm that cannot roll its upper arm."""
    base: float
    """Height of the shoulder above the table [m]."""
    upper: float
    """Shoulder to elbow, along the upper arm [m]."""
    elbow: float
    """How far the elbow's axis stands before the middle line of upper arm and forearm [m]."""
    forearm: float
    """Elbow to wrist, along the forearm [m]."""
    wrist: float
    """Distance of the hand's roll axis from the wrist's [m]."""
    hand: float
    """Wrist to the point between the pads, along the hand [m]; the palm takes 0.12 of it."""
    density: float
    """Of the links [kg/m3]."""


@dataclass(frozen=True)
class Thing:
    """What is to be grasped: a box of `width` x `width` x `height`, or an upright cylinder of that diameter and height [m]."""

    shape: Shape
    width: float
    height: float

    def inertia(self, mass: float) -> NDArray[np.float64]:
        """Principal moments (3,) [kg m2] about the centre of the solid of this mass [kg]."""
        w, h = self.width, self.height
        if self.shape is Shape.box:
            return mass / 12 * np.array([w * w + h * h, w * w + h * h, 2 * w * w])
        across = mass * (w * w / 16 + h * h / 12)
        return np.array([across, across, mass * w * w / 8])

    def half(self) -> NDArray[np.float64]:
        """Sizes as a MuJoCo geom has them (3,)."""
        cylinder = self.shape is Shape.cylinder
        return (
            np.array([self.width / 2, self.height / 2, 0.0]) if cylinder else np.array([self.width, self.width, self.height]) / 2
        )

    def depth(self, up: NDArray[np.float64]) -> float:
        """How far the lowest point lies below the centre [m]; `up` (3,) is frame w's z axis in the thing's frame."""
        if self.shape is Shape.cylinder:
            return float(abs(up[2]) * self.height / 2 + np.hypot(up[0], up[1]) * self.width / 2)
        return float(np.abs(up) @ self.half())


def joint_names(joints: int) -> tuple[str, ...]:
    """Joints of an arm of 6 or 7, from the foot to the hand."""
    return tuple(name for name in AXES if joints == 7 or name != "upper_roll")


def bent(joints: int) -> NDArray[np.float64]:
    """The angles of BENT (n,) [rad]."""
    return np.array([BENT.get(name, 0.0) for name in joint_names(joints)])


def compiled(links: LinksConfig, thing: Thing, bin_side: float, timestep: float) -> Any:
    """A MjModel of its own, with the nominal object; `bin_side` is the inner width of the bin [m], 0 for none."""
    key = tuple(getattr(links, name) for name in LinksConfig.__dataclass_fields__)
    return copy.copy(_compiled(key, thing, bin_side, timestep))


@cache
def _compiled(key: tuple[Any, ...], thing: Thing, bin_side: float, timestep: float) -> Any:
    links = LinksConfig(*key)
    check(links)
    model = mujoco.MjModel.from_xml_string(mjcf(links, thing, bin_side, timestep))
    _tune(model, links.joints)
    return model


def check(links: LinksConfig) -> None:
    """Raise a ConfigError unless an arm can be built of these numbers."""
    if links.joints not in (6, 7):
        raise ConfigError(f"env.links.joints={links.joints}: an arm has 6 or 7")
    if min(links.base, links.upper, links.forearm, links.density) <= 0 or min(links.elbow, links.wrist) < 0:
        raise ConfigError(f"env.links: lengths and density must be positive, elbow and wrist not negative, got {links}")
    if links.hand < 0.15:
        raise ConfigError(f"env.links.hand={links.hand}: palm and fingers take 0.15 m")


def _tune(model: Any, joints: int) -> None:
    """Servos from the inertias that the joints feel."""
    data = mujoco.MjData(model)
    data.qpos[:joints] = bent(joints)
    mujoco.mj_forward(model, data)
    full = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, full)
    felt = np.diag(full)[:joints]
    model.actuator_gainprm[:joints, 0] = felt * SERVO**2
    model.actuator_biasprm[:joints, 1] = -felt * SERVO**2
    model.actuator_biasprm[:joints, 2] = -felt * 2 * SERVO


def mjcf(links: LinksConfig, thing: Thing, bin_side: float, timestep: float) -> str:
    """The text of the model. Arm, table and object collide with each other, the arm not with itself."""
    names = joint_names(links.joints)
    servos = "".join(
        f'<position name="{name}" joint="{name}" kp="1" forcerange="-{TORQUE[name]} {TORQUE[name]}"/>' for name in names
    )
    return f"""
<mujoco model="table top">
  <option timestep="{timestep}" integrator="implicitfast" cone="elliptic" impratio="10" noslip_iterations="3"/>
  <compiler angle="radian" autolimits="true"/>
  <default>
    <joint armature="{ROTOR}" damping="1"/>
    <geom contype="0" conaffinity="0" density="{links.density}" rgba="0.86 0.87 0.9 1"/>
    <default class="solid"><geom contype="1" conaffinity="6" friction="0.8 0.01 0.001"/></default>
    <default class="arm"><geom contype="4" conaffinity="0"/></default>
    <default class="finger">
      <joint type="slide" axis="0 1 0" range="0 {OPENING / 2}" armature="0.1" damping="5"/>
      <geom type="box" size="{PAD[0]} {PAD[1]} {PAD[2]}" contype="4" density="2700" rgba="0.25 0.27 0.32 1"/>
    </default>
  </default>
  <worldbody>
    <geom name="table" class="solid" type="box" size="{_text(TABLE)}" pos="0.3 0 {-TABLE[2]}" rgba="0.72 0.6 0.45 1"/>
    <geom name="foot" type="cylinder" size="0.09" fromto="0 0 0 0 0 {0.6 * links.base}"/>
    {_arm(links)}
    {_object(thing)}
    {_bin(bin_side)}
  </worldbody>
  <tendon><fixed name="grip"><joint joint="finger_left" coef="1"/><joint joint="finger_right" coef="1"/></fixed></tendon>
  <equality><joint joint1="finger_left" joint2="finger_right" solref="{2 * timestep} 1"/></equality>
  <actuator>
    {servos}
    <position name="grip" tendon="grip" kp="1000" kv="60" forcerange="-{GRIP} {GRIP}"/>
  </actuator>
</mujoco>"""


def _text(values: Any) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def _arm(links: LinksConfig) -> str:
    """Nested bodies, each joint at its body's origin; colours mark the joints."""
    u, f, e, w = links.upper, links.forearm, links.elbow, links.wrist
    palm = links.hand - 0.045 - 0.03
    bodies = [
        ("turn", (0, 0, links.base), [_rod((0, 0, -0.4 * links.base), (0, 0, 0), 0.06), _motor(0.065)]),
        ("shoulder", (0, 0, 0), [_rod((0, 0, 0), (0, 0, 0.5 * u), 0.055)]),
        ("upper_roll", (0, 0, 0), [_rod((0, 0, 0.55 * u), (e, 0, u), 0.055)]),
        ("elbow", (e, 0, u), [_motor(0.06), _rod((0, 0, 0), (-e, 0, 0.4 * f), 0.05)]),
        ("forearm_roll", (-e, 0, 0), [_rod((0, 0, 0.45 * f), (0, 0, f), 0.045, "arm")]),
        ("wrist", (0, 0, f), [_motor(0.05), _rod((0, 0, 0), (-w, 0, 0), 0.045, "arm")]),
        ("hand_roll", (-w, 0, 0), [_rod((0, 0, 0), (0, 0, max(palm - 0.06, 0.01)), 0.035, "arm")]),
    ]
    text, depth = "", 0
    for name, place, geoms in bodies:
        if name == "upper_roll" and links.joints == 6:
            text += "".join(geoms)  # the shoulder's body carries the whole upper arm
            continue
        limits = f'axis="{AXES[name]}" range="{_text(RANGES[name])}"'
        text += f'<body name="{name}" pos="{_text(place)}" gravcomp="1"><joint name="{name}" {limits}/>{"".join(geoms)}'
        depth += 1
    palm_box = f'<geom class="arm" type="box" size="0.03 0.1 0.03" pos="0 0 {palm}" rgba="0.3 0.33 0.4 1"/>'
    return text + palm_box + _fingers(links.hand) + f'<site name="hand" pos="0 0 {links.hand}"/>' + "</body>" * depth


def _fingers(hand: float) -> str:
    bodies = ""
    for name, side in (("finger_left", 1), ("finger_right", -1)):
        joint = f'<joint name="{name}" class="finger" axis="0 {side} 0"/>'
        geom = f'<geom name="{name}" class="finger" pos="0 {side * PAD[1]} {TIP - PAD[2]}"/>'
        bodies += f'<body name="{name}" pos="0 0 {hand}" gravcomp="1">{joint}{geom}</body>'
    return bodies


def _object(thing: Thing) -> str:
    """Its friction and softness rule in all its contacts; a rolling can comes to rest by rolling friction of a millimetre."""
    condim = 6 if thing.shape is Shape.cylinder else 4
    contact = f'contype="2" conaffinity="4" priority="1" condim="{condim}" friction="0.8 0.01 0.001"'
    firm = 'solref="0.008 1" solimp="0.98 0.99 0.001" rgba="0.85 0.25 0.2 1"'
    geom = f'<geom name="object" type="{thing.shape.value}" size="{_text(thing.half())}" {contact} {firm}/>'
    return f'<body name="object" pos="0.5 0 {thing.height / 2}"><freejoint name="object"/>{geom}</body>'


def _bin(side: float) -> str:
    """Four walls on the table, around a square of `side` [m], which go where each episode wants them."""
    if side == 0:
        return ""
    thick, high = WALL
    reach = side / 2 + thick
    walls = ""
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        size = (thick if x else reach + thick, thick if y else reach + thick, high)
        place = (x * reach, y * reach, high)
        walls += f'<geom class="solid" type="box" size="{_text(size)}" pos="{_text(place)}" rgba="0.3 0.5 0.7 1"/>'
    return f'<body name="bin" mocap="true">{walls}</body>'


def _rod(start: tuple[float, ...], end: tuple[float, ...], radius: float, kind: str = "") -> str:
    """A capsule; of class arm it touches things."""
    named = f'class="{kind}" ' if kind else ""
    return f'<geom {named}type="capsule" size="{radius}" fromto="{_text((*start, *end))}"/>'


def _motor(radius: float) -> str:
    """A drum about the y axis of a joint."""
    return f'<geom type="cylinder" size="{radius}" fromto="0 {-1.1 * radius} 0 0 {1.1 * radius} 0" rgba="0.2 0.45 0.75 1"/>'
