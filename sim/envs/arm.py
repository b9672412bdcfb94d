"""A table, an arm and one object in MuJoCo: `lift` it, or put a `can` into a bin, as in robomimic (Mandlekar et al., 2021).

The action is where the hand shall be, as in the absolute actions of robomimic and Diffusion Policy: x, y, z, yaw of a hand that
points down, and the opening of the gripper, each from -1 to 1. Element k means low[k] + (action[k] + 1) / 2 (high[k] - low[k])
with low and high those of the workspace, of the yaw (±workspace.yaw) and of the gripper, 0 (closed) to 0.08 m. A set point goes
there at the workspace's speeds, inverse kinematics makes it joint angles, and the joints' servos follow (sim/arm).

Frame w stands on the table below the arm's first axis: x away from the arm, y to its left, z up from the table's top.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from robot.core.errors import ConfigError
from robot.core.rotation import wrap
from sim.arm.camera import Camera
from sim.arm.config import (
    DEPTH_SIDE,
    ArmConfig,
    BinConfig,
    ObjectConfig,
    Reward,
    Task,
    bounds,
    check,
    clear_of_bin,
    interface,
    thing,
)
from sim.arm.kinematics import Reach
from sim.arm.model import FALLEN, OPENING, TIP, bent, compiled
from sim.arm.world import World
from sim.env import Env, Observation

LEAD = 0.02
"""The set point is at most so much further from the hand than it moves in a control period [m], so that a hand that meets
resistance does not press ever harder."""
JOINT_SPEED = 2.6
"""Fastest motion of a joint's set point [rad/s], of an arm of this size."""
FINGER_SPEED = 0.2
"""The gripper's set point is at most so far from where it is in a control period [m/s]: at 2 cm its servo gives all its force."""
SEARCH = 12
"""Steps of inverse kinematics in a control period; they begin at the last answer, so two or three are the rule."""
STILL = 0.05
"""An object slower than this is at rest [m/s]."""
FLAT = 0.005
"""An object whose lowest point is below this lies on the table [m]."""
LIFTED = 0.02
"""An object that is let go with its lowest point above this is dropped [m]."""
TRIES = 100
"""Draws of a place for the object before the bin is said to leave none."""


class Arm(Env):
    """See the module. `worlds` holds the physics; `params` hold from an episode's start on, each (B, …):

    object_mass [kg], object_friction, object_scale (of the nominal size): drawn where its range in `config.object` is one, and
    otherwise kept, so that a randomiser may set it;
    target (B, 3) [m], frame w: for lift where the object's centre is to be lifted to, for can the middle of the bin on the table.
    """

    def __init__(self, config: ArmConfig) -> None:
        check(config)
        self.config, n = config, config.num_envs
        super().__init__(interface(config), n, max_steps=round(config.time_limit / config.dt))
        joints, side = config.links.joints, config.bin.side if config.task is Task.can else 0.0
        self.low, self.high = bounds(config.workspace)
        nominal = thing(config)
        self.worlds = [World(compiled(config.links, nominal, side, config.timestep), joints, nominal) for _ in range(n)]
        workers = config.threads or os.cpu_count() or 1
        self._shares = [share for share in np.array_split(np.arange(n), workers) if len(share)]
        self._threads = ThreadPoolExecutor(len(self._shares), thread_name_prefix="arm")
        rest = Reach(self.worlds[0].model, joints, bent(joints)).solve(bent(joints), np.array(config.workspace.start), 0.0, 100)
        self._reaches = [Reach(self.worlds[0].model, joints, rest) for _ in self._shares]
        self._camera = Camera(DEPTH_SIDE)
        self._films: dict[int, Camera] = {}
        ranges = config.object
        self.params = {
            name: torch.full((n,), float(np.mean(values)), dtype=torch.float64)
            for name, values in (
                ("object_mass", ranges.mass),
                ("object_friction", ranges.friction),
                ("object_scale", ranges.scale),
            )
        } | {"target": torch.zeros(n, 3, dtype=torch.float64)}
        self.set_point = np.zeros((n, 4))
        """Where the hand is being led: x, y, z [m], yaw [rad], (B, 4)."""
        self._count = np.zeros(n, np.int64)  # steps in a row that look like a success
        self._most, self._dropped, self._carried = np.zeros(n), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        self._potential, self._gained = np.zeros((n, 3)), np.zeros((n, 3))

    def close_extras(self, **_: object) -> None:
        self._threads.shutdown(wait=True)

    def _reset(self, ids: Tensor) -> None:
        for i in ids.tolist():
            rng = self.rng(i)
            self._vary(i, rng)
            self._place(i, rng)
            self._count[i], self._most[i], self._dropped[i], self._carried[i] = 0, 0.0, False, False
            self._potential[i] = self._potentials(i)

    def _vary(self, i: int, rng: np.random.Generator) -> None:
        ranges = self.config.object
        for name in ("mass", "friction", "scale"):
            (low, high), draw = getattr(ranges, name), rng.uniform()
            if low < high:
                self.params[f"object_{name}"][i] = low + draw * (high - low)
        values = {name: float(self.params[f"object_{name}"][i]) for name in ("mass", "friction", "scale")}
        if min(values.values()) <= 0:
            raise ConfigError(f"params of world {i}: mass, friction and scale of the object must be positive, got {values}")
        self.worlds[i].vary(**values)

    def _place(self, i: int, rng: np.random.Generator) -> None:
        config, world, reach = self.config, self.worlds[i], self._reaches[0]
        space, it = config.workspace, config.object
        hand = np.array(space.start) + space.spread * rng.uniform(-1, 1, 3)
        target = np.array([*_within(rng, config.bin), 0.0])
        yaw = it.yaw * rng.uniform(-1, 1)
        for _ in range(TRIES):
            place = np.array([*_within(rng, it), world.thing.height / 2])
            if config.task is Task.lift or clear_of_bin(config, place[:2], target[:2]):
                break
        else:
            raise ConfigError("env.object and env.bin: the bin leaves the object no place; move their ranges of x or y apart")
        if config.task is Task.lift:
            target = place + np.array([0.0, 0.0, config.height])
        self.params["target"][i] = torch.from_numpy(target)
        world.reset(reach.solve(reach.rest, hand, 0.0, 100), OPENING, place, yaw, target)
        self.set_point[i] = *hand, 0.0

    def _apply(self, action: Tensor) -> None:
        part = (action.double().numpy().clip(-1.0, 1.0) + 1) / 2
        targets = self.low + part * (self.high - self.low)
        if self.config.disturbance:
            draws = self.draw(torch.arange(self.num_envs), 3, self.steps + 1).double().numpy()
            targets[:, :3] += self.config.disturbance * ndtri(draws)
            targets[:, 2] = np.maximum(targets[:, 2], TIP)
        runs = [
            self._threads.submit(self._advance, share, reach, targets)
            for share, reach in zip(self._shares, self._reaches, strict=True)
        ]
        for run in runs:
            run.result()
        self._judge()

    def _advance(self, worlds: np.ndarray, reach: Reach, targets: np.ndarray) -> None:
        config = self.config
        count = round(config.dt / config.timestep)
        most, fingers = JOINT_SPEED * config.dt, FINGER_SPEED * config.dt
        for i in worlds:
            world, point = self.worlds[i], self.set_point[i]
            self._lead(point, targets[i], world.hand[0])
            before = world.set_points
            after = np.empty_like(before)
            angles = reach.solve(before[:-1], point[:3], float(point[3]), SEARCH)
            after[:-1] = before[:-1] + (angles - before[:-1]).clip(-most, most)
            after[-1] = world.opening + np.clip(targets[i, 4] - world.opening, -fingers, fingers)
            world.step(after, count)

    def _lead(self, point: np.ndarray, target: np.ndarray, hand: np.ndarray) -> None:
        """Move a set point (4,) towards its target (5,) as fast as it may go, and not away from the hand (3,)."""
        space, dt = self.config.workspace, self.config.dt
        way = target[:3] - point[:3]
        point[:3] += way * min(1.0, space.speed * dt / max(float(np.linalg.norm(way)), 1e-9))
        lead = point[:3] - hand
        length, most = float(np.linalg.norm(lead)), space.speed * dt + LEAD
        if length > most:
            point[:3] = hand + lead * (most / length)
        turn = float(wrap(target[3] - point[3])) if space.yaw >= np.pi else target[3] - point[3]
        point[3] += np.clip(turn, -space.turn * dt, space.turn * dt)

    def _judge(self) -> None:
        """What the last period did for success, drops and potentials."""
        for i, world in enumerate(self.worlds):
            bottom, held = world.bottom, world.held
            done = (held and bottom >= self.config.height) if self.config.task is Task.lift else self._in_bin(i)
            self._count[i] = self._count[i] + 1 if done and not world.lost else 0
            self._most[i] = max(self._most[i], bottom)
            self._dropped[i] |= self._carried[i] and not world.touched
            self._carried[i] = (held or self._carried[i]) and world.touched and bottom > LIFTED
            potential = self._potentials(i)
            self._gained[i], self._potential[i] = potential - self._potential[i], potential

    def _in_bin(self, i: int) -> bool:
        """The object lies within the bin's walls, on the table, at rest, and nothing touches it."""
        world = self.worlds[i]
        inside = abs(world.object[0][:2] - self.params["target"][i, :2].numpy()) < self.config.bin.side / 2
        return bool(inside.all()) and world.bottom < FLAT and world.moving < STILL and not world.touched

    def _potentials(self, i: int) -> np.ndarray:
        """Of reach, grasp and move, each 0 to 1, (3,)."""
        world = self.worlds[i]
        place = world.object[0]
        reach = 1 - np.tanh(10 * np.linalg.norm(world.hand[0] - place))
        if self.config.task is Task.lift:
            return np.array([reach, world.held, np.clip(world.bottom / self.config.height, 0.0, 1.0)])
        goal = self.params["target"][i].numpy() + np.array([0.0, 0.0, world.thing.height / 2])
        return np.array([reach, world.held or self._in_bin(i), 1 - np.tanh(5 * np.linalg.norm(place - goal))])

    def _observe(self) -> Observation:
        worlds = self.worlds
        hands, objects = ([getattr(world, name) for world in worlds] for name in ("hand", "object"))
        seen = {
            "joints": [world.angles for world in worlds],
            "gripper": [[world.opening] for world in worlds],
            "hand_position": [place for place, _ in hands],
            "hand_rotation": [rotation.T[:2].ravel() for _, rotation in hands],
            "object_position": [place for place, _ in objects],
            "object_rotation": [rotation.T[:2].ravel() for _, rotation in objects],
            "target_position": list(self.params["target"].numpy()),
        }
        if self.config.depth:
            seen["depth"] = [self._camera.depth(world.model, world.data) for world in worlds]
        return {name: torch.from_numpy(np.array(rows, dtype=np.float32)) for name, rows in seen.items()}

    def _success(self) -> np.ndarray:
        return self._count >= max(1, round(self.config.hold / self.config.dt))

    def _reward(self) -> dict[str, Tensor]:
        weights, success = self.config.weights, torch.from_numpy(self._success()).float()
        if self.config.reward is Reward.sparse:
            return {"success": success}
        gained = torch.from_numpy(self._gained.T * np.array([[weights.reach], [weights.grasp], [weights.move]])).float()
        return {**dict(zip(("reach", "grasp", "move"), gained.unbind(0), strict=True)), "success": weights.success * success}

    def _terminated(self) -> Tensor:
        """Success, or the object has fallen off the table, or the physics diverged."""
        return torch.from_numpy(self._success() | np.array([world.lost or world.bottom < FALLEN for world in self.worlds]))

    def metrics(self) -> dict[str, Tensor]:
        """Success; time [s]; the greatest height of the object's lowest point [m]; the final distance of its centre from where it
        is to be [m]; whether it was dropped."""
        target = self.params["target"].numpy().copy()
        if self.config.task is Task.can:
            target[:, 2] = [world.thing.height / 2 for world in self.worlds]
        places = np.array([world.object[0] for world in self.worlds])
        values = {
            "success": self._success(),
            "max_height": self._most,
            "final_error": np.linalg.norm(places - target, axis=1),
            "dropped": self._dropped,
        }
        return {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()} | {
            "time": self.steps * self.config.dt
        }

    def picture(self, world: int, size: int = 256) -> np.ndarray:
        """What a film shows of a world, (size, size, 3) uint8: ray casts with shadows; the target is a green mark."""
        camera = self._films.setdefault(size, Camera(size))
        it = self.worlds[world]
        return camera.picture(it.model, it.data, self.params["target"][world : world + 1].numpy())


def _within(rng: np.random.Generator, area: ObjectConfig | BinConfig) -> tuple[float, float]:
    """x and y [m], uniform in an area."""
    return rng.uniform(area.x[0], area.x[1]), rng.uniform(area.y[0], area.y[1])
