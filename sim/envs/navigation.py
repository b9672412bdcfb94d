"""Navigation: a fleet of robots, each in a scene of its own, that turn depth images and a goal into a path to drive.

An action is a path (T, 3) of waypoint deltas (NavDP, arXiv 2505.08712, section III); inside one control period the
tracker follows it with velocity commands. Contact ends an episode, which is stricter than the published benchmark.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from robot.core import tracking
from robot.core.errors import SceneError
from sim.env import Env, Observation
from sim.navigation import fields as maps
from sim.navigation import motion
from sim.navigation.config import ROBOT, TASKS, NavigationConfig, check, families, interface
from sim.navigation.crowd import Crowd
from sim.navigation.pool import ScenePool
from sim.navigation.scene import CELL, Scene
from sim.navigation.scenes import generate
from sim.sensors.caster import DepthCaster
from sim.sensors.noise import DepthNoise

DELAYS = 8
"""Length of the command queue: dead times up to DELAYS * control_dt are represented."""


class Navigation(Env):
    """See the module. World i keeps its scene in slot i of the pool; state is float64 numpy, observations are float32 torch."""

    def __init__(self, config: NavigationConfig) -> None:
        check(config)
        self.config = config
        count, n = config.num_envs, config.pool_cells
        super().__init__(interface(config), count, max_steps=round(config.time_limit / config.dt))
        self.pool = ScenePool(count, n)
        self.caster = DepthCaster(self.pool, count, config.depth_height, config.depth_width, config.max_range, config.threads)
        self.noise = DepthNoise(config.noise)
        self.crowd = Crowd(count, max_agents=24)
        self.scenes: dict[int, Scene] = {}
        self.shape = np.zeros((count, 2), np.int64)
        self.blocked = np.ones((count, n, n), np.bool_)
        self.clearance = np.zeros((count, n, n), np.float32)
        self.field = np.full((count, n, n), maps.FAR, np.float32)
        self.robot = np.zeros((count, len(ROBOT)))
        self.robot_id = np.zeros(count, np.int64)
        self.family = np.zeros(count, np.int64)
        self.task = np.zeros(count, np.int64)
        for name, width in (("pose", 3), ("start", 3), ("goal", 3), ("odometry", 3), ("velocity", 2), ("command", 2)):
            setattr(self, name, np.zeros((count, width)))
        self.queue = np.zeros((DELAYS, count, 2))
        self.error = np.ones((count, 2))
        self.drift = np.zeros((count, 2))
        self.travelled = np.zeros(count)
        self.noise_seed = np.zeros(count, np.uint64)
        self.geodesic = np.ones(count)
        self.clock = np.zeros(count)
        self.hit = np.zeros(count, np.bool_)
        self.reached = np.zeros(count, np.bool_)
        self.seen = np.zeros((count, n // 5, n // 5), np.bool_)
        self.depth = np.zeros((count, config.depth_height, config.depth_width), np.float32)
        self.rgb = np.zeros((*self.depth.shape, 3), np.uint8) if config.rgb else None
        self.goal_image = np.zeros((*self.depth.shape, 3), np.float32) if config.rgb else np.zeros_like(self.depth)
        self._stale = np.zeros(count, np.bool_)
        self._families = families(config)

    # The five methods of an environment

    def _reset(self, ids: Tensor) -> None:
        for i in ids.tolist():
            self._begin(i, self.rng(i))

    def _apply(self, action: Tensor) -> None:
        config = self.config
        points = tracking.waypoints(action.numpy().astype(np.float64))
        limits, delay = self.robot[:, 5:9], self._dead_time() * config.control_dt
        planned = self.odometry.copy()
        for _ in range(round(config.dt / config.control_dt)):
            pose = motion.to_frame(self.odometry, planned)
            self.advance(tracking.track(points, pose, self.command, limits, config.control_dt, delay))
        self._stale[:] = True
        self._continue_exploring()

    def advance(self, command: np.ndarray) -> None:
        """One control period under velocity commands (B, 2) v [m/s], w [rad/s], whoever gives them: paths are tracked by
        `_apply`, a base in a ROS graph is driven by others."""
        config, worlds = self.config, np.arange(self.num_envs)
        self.command = command
        self.queue = np.roll(self.queue, 1, axis=0)
        self.queue[0] = command
        running = ~(self.hit | self.reached)
        effective = np.where(running[:, None], self.queue[self._dead_time(), worlds], 0.0)
        self._drive(effective, self.robot[:, 5:9], config.control_dt)
        if config.crowd != "none":
            self.crowd.step(config.control_dt, self.pose[:, :2])
        self.hit |= running & self._contact()
        self.reached |= running & ~self.hit & self._arrived()
        self.clock += config.control_dt * running
        self._stale[:] = True

    def look(self) -> Observation:
        """What the sensors say now, between two observations of an episode's steps."""
        return self._observe()

    def _dead_time(self) -> np.ndarray:
        """Control periods (B,) from a command to its effect."""
        return np.clip(np.round(self.robot[:, 9] / self.config.control_dt).astype(np.int64), 0, DELAYS - 1)

    def _observe(self) -> Observation:
        self._render(np.nonzero(self._stale)[0])
        goal = motion.to_frame(motion.to_frame(self.goal, self.start), self.odometry)
        point, image = self.task == 0, self.task == 2
        observation = {
            "depth": self.depth.copy(),
            "odometry": self.odometry,
            "velocity": self.velocity,
            "goal": goal * point[:, None],
            "goal_image": self.goal_image.copy(),
            "goal_given": np.stack([point, image], axis=-1),
            "robot": self.robot,
        }
        if self.rgb is not None:
            observation["rgb"] = self.rgb.copy()
        kinds = {name: torch.uint8 if name == "rgb" else torch.float32 for name in observation}
        return {name: torch.as_tensor(value, dtype=kinds[name]).clone() for name, value in observation.items()}

    def _reward(self) -> dict[str, Tensor]:
        success, hit = torch.from_numpy(self.reached.astype(np.float32)), torch.from_numpy(self.hit.astype(np.float32))
        return {"success": success, "collision": -hit}

    def _terminated(self) -> Tensor:
        return torch.from_numpy(self.hit | self.reached)

    def metrics(self) -> dict[str, Tensor]:
        explore = self.task == 1
        success = np.where(explore, ~self.hit, self.reached).astype(np.float32)
        spl = success * self.geodesic / np.maximum(self.geodesic, self.travelled)
        area = self.seen.sum(axis=(1, 2)) * (5 * CELL) ** 2
        values = {
            "success": success, "spl": spl, "collision": self.hit, "time": self.clock, "path_length": self.travelled,
            "area": area, "geodesic": self.geodesic, "family": self.family, "robot": self.robot_id, "task": self.task,
        }  # fmt: skip
        return {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in values.items()}

    @property
    def labels(self) -> dict[str, list[str]]:
        """Names behind the metrics that are indices."""
        return {"family": list(self._families), "robot": list(self.config.robots), "task": list(TASKS)}

    def snapshot(self, world: int) -> dict[str, np.ndarray | float]:
        """What a picture of one world shows now: pose, discs (M, 3), depth, speed."""
        discs = self.crowd.discs[world][:, :3].astype(np.float64)
        return {
            "pose": self.pose[world].copy(),
            "discs": discs[discs[:, 2] > 0],
            "depth": self.depth[world].copy(),
            "speed": float(self.velocity[world, 0]),
        }

    def scenery(self, world: int) -> dict[str, Any]:
        """What stays the same in the pictures of one episode."""
        scene, height = self.scenes[world], self.robot[world, 1]
        classes = np.where(scene.occupied(height, np.inf), 1, 0)
        blocked = scene.occupied(maps.STEP_OVER, height)
        classes = np.where(blocked, np.where(scene.occupied(1.5, np.inf), 3, 2), classes).astype(np.uint8)
        return {
            "classes": classes,
            "cell": CELL,
            "radius": float(self.robot[world, 0]),
            "hfov": float(self.robot[world, 4]),
            "dt": self.config.dt,
            "goal": None if self.task[world] == 1 else self.goal[world, :2].copy(),
            "success_distance": self.config.success_distance,
            "family": self._families[self.family[world]],
            "embodiment": self.config.robots[self.robot_id[world]],
        }

    # The privileged expert

    def expert_action(self) -> np.ndarray:
        """Optimal paths (B, horizon, 3) from where every robot is now; an explorer heads for a far goal it does not see."""
        action = np.zeros((self.num_envs, self.config.horizon, 3), np.float32)
        maps.expert_actions(self.field, self.pose, self.goal[:, :2].copy(), self.config.spacing, action)
        return action

    def privileged(self, cells: int, resolution: float) -> tuple[np.ndarray, np.ndarray]:
        """Robot-centred crops (B, cells, cells) of true clearance and of cost-to-go [m], for the targets of critics."""
        shape = (self.num_envs, cells, cells)
        clear, cost = np.empty(shape, np.float32), np.empty(shape, np.float32)
        maps.local_maps(self.clearance, self.pose, resolution, clear)
        maps.local_maps(self.field, self.pose, resolution, cost)
        return clear, cost

    # Parts that a world with other physics overrides

    def _place(self, world: int) -> None:
        """Put the base of one world at `self.pose[world]`, at rest."""

    def _drive(self, command: np.ndarray, limits: np.ndarray, dt: float) -> None:
        """Advance poses, velocities and odometry by one command (B, 2)."""
        motion.drive(self.pose, self.velocity, self.odometry, command, self.error, self.drift, limits, dt, self.travelled)

    def _contact(self) -> np.ndarray:
        hit = np.zeros(self.num_envs, np.bool_)
        motion.contacts(self.blocked, self.shape, self.pose, self.robot[:, 0].copy(), self.crowd.discs, hit)
        return hit

    # Episodes

    def _begin(self, i: int, rng: np.random.Generator) -> None:
        config = self.config
        self._draw_robot(i, rng)
        shares = np.array([config.tasks.get(name, 0.0) for name in TASKS])
        self.task[i] = rng.choice(len(TASKS), p=shares / shares.sum())
        for _ in range(50):
            self.family[i] = rng.integers(len(self._families))
            scene = generate(int(rng.integers(2**31)), config.split, self._families[self.family[i]])
            self._load(i, scene)
            if self._draw_route(i, rng):
                break
        else:
            raise SceneError(
                f"no scene of {list(self._families)} has a route of {config.min_distance} to {config.max_distance} m "
                f"for robot '{config.robots[self.robot_id[i]]}'; lower env.min_distance"
            )
        self.error[i] = 1.0 + self.robot[i, 10] * rng.standard_normal(2)
        self.drift[i] = rng.standard_normal(2) * (np.deg2rad(config.drift_deg), config.scale_error)
        self.noise_seed[i] = rng.integers(2**63)
        for array in (self.velocity, self.odometry, self.command):
            array[i] = 0.0
        self.queue[:, i] = 0.0
        for array in (self.travelled, self.clock, self.hit, self.reached, self.seen):
            array[i] = 0
        if config.crowd != "none":
            walkable = maps.clearance(maps.occupied(self.scenes[i].solids, 1.7))
            self.crowd.reset(i, walkable, config.crowd, np.random.default_rng(rng.integers(2**63)), (*self.pose[i, :2], 1.5))
        self._place(i)
        self._picture_goal(i)
        self._stale[i] = True

    def _draw_robot(self, i: int, rng: np.random.Generator) -> None:
        config = self.config
        self.robot_id[i] = int(self.episode[i]) % len(config.robots)
        body = config.embodiments[config.robots[self.robot_id[i]]].as_array()
        spread = 1.0 + config.randomize * rng.uniform(-1, 1, len(body))
        body *= np.where(np.arange(len(body)) < 10, spread, 1.0)
        body[3] += config.randomize * rng.uniform(-0.5, 0.5)
        body[2] = min(body[2], body[1] + 0.1)
        self.robot[i] = body
        self.caster.set_camera(np.array([i]), body[2:3], body[3:4], body[4:5])

    def _load(self, i: int, scene: Scene) -> None:
        self.scenes[i] = scene
        self.pool.put(i, scene)
        ny, nx = scene.solids.shape[:2]
        self.shape[i] = ny, nx
        self.blocked[i] = True
        self.blocked[i, :ny, :nx] = maps.occupied(scene.solids, self.robot[i, 1])
        self.clearance[i] = 0.0
        self.clearance[i, :ny, :nx] = maps.clearance(self.blocked[i, :ny, :nx])

    def _free(self, i: int) -> np.ndarray:
        return self.clearance[i, : self.shape[i, 0], : self.shape[i, 1]]

    def _draw_route(self, i: int, rng: np.random.Generator) -> bool:
        """A goal and a start between which a path of an allowed length exists; False if this scene has none."""
        config, radius = self.config, self.robot[i, 0]
        roomy = np.argwhere(self._free(i) > radius + 0.1)
        for _ in range(4):
            if len(roomy) == 0:
                return False
            row, col = roomy[rng.integers(len(roomy))]
            self.set_goal(i, (col + 0.5) * CELL, (row + 0.5) * CELL, rng.uniform(-np.pi, np.pi))
            cost = self.field[i][roomy[:, 0], roomy[:, 1]]
            far = np.hypot(roomy[:, 0] - row, roomy[:, 1] - col) * CELL
            starts = roomy[(far > 0.6 * config.min_distance) & (cost > config.min_distance) & (cost < 1.5 * config.max_distance)]
            for row, col in starts[rng.permutation(len(starts))[:4]]:
                self.start[i] = (col + 0.5) * CELL, (row + 0.5) * CELL, rng.uniform(-np.pi, np.pi)
                self.pose[i] = self.start[i]
                self.geodesic[i] = self._length(i)
                if config.min_distance <= self.geodesic[i] <= config.max_distance:
                    return True
        return False

    def set_goal(self, i: int, x: float, y: float, yaw: float) -> None:
        """Give world i another goal [m, rad in frame w] and compute its cost-to-go field.

        Raises:
            SceneError: the goal is where the robot cannot stand.
        """
        free = self._free(i)
        row, col = int(y / CELL), int(x / CELL)
        radius = self.robot[i, 0] + 0.02
        inside = 0 <= row < free.shape[0] and 0 <= col < free.shape[1]
        if not inside or free[row, col] < radius:
            room = f"{free[row, col]:.2f} m of clearance" if inside else "outside the scene"
            raise SceneError(
                f"goal ({x:.2f}, {y:.2f}) of world {i} cannot be reached by a robot of radius {self.robot[i, 0]:.2f} m ({room}); "
                f"choose a free point within (0, 0) and ({free.shape[1] * CELL:.1f}, {free.shape[0] * CELL:.1f})"
            )
        self.goal[i] = x, y, yaw
        self.field[i] = maps.FAR
        field = maps.cost_to_go(free, radius, x, y, self.config.margin, self.config.weight)
        self.field[i, : free.shape[0], : free.shape[1]] = field

    def _length(self, i: int) -> float:
        """Length [m] of the shortest collision-free path of world i, as Habitat's SPL asks for."""
        x, y = self.goal[i, :2]
        shortest = maps.cost_to_go(self._free(i), self.robot[i, 0] + 0.02, x, y, 1.0, 0.0)
        return float(maps.sample(shortest, self.pose[i, 0], self.pose[i, 1]))

    def _arrived(self) -> np.ndarray:
        near = np.hypot(*(self.goal - self.pose)[:, :2].T) < self.config.success_distance
        return near & (np.abs(self.velocity[:, 0]) < self.config.success_speed) & (self.task != 1)

    def _continue_exploring(self) -> None:
        """Give explorers that came to their hidden goal a new one, far from where they are."""
        near = np.hypot(*(self.goal - self.pose)[:, :2].T) < 1.0
        for i in np.nonzero(near & (self.task == 1))[0]:
            rng = np.random.default_rng([int(self.episode[i]), int(self.steps[i]), self._seed & 0xFFFFFFFF])
            cells = np.argwhere((self.field[i] < maps.FAR) & (self.clearance[i] > self.robot[i, 0] + 0.1))
            chosen = cells[rng.integers(len(cells), size=8)]
            row, col = chosen[self.field[i][chosen[:, 0], chosen[:, 1]].argmax()]
            self.set_goal(int(i), (col + 0.5) * CELL, (row + 0.5) * CELL, 0.0)

    # Sensors

    def _render(self, ids: np.ndarray) -> None:
        if len(ids) == 0:
            return
        depth = np.empty((len(ids), *self.depth.shape[1:]), np.float32)
        rgb = None if self.rgb is None else np.empty((*depth.shape, 3), np.uint8)
        self.caster.cast(ids.astype(np.int32), self.pose[ids], self.crowd.discs[ids], depth, rgb)
        explorers = ids[self.task[ids] == 1]
        if len(explorers):
            view = np.stack([self.robot[explorers, 4], np.full(len(explorers), self.config.max_range)], axis=-1)
            seen = self.seen[explorers]
            motion.mark_seen(seen, depth[self.task[ids] == 1], view, self.pose[explorers], 5 * CELL)
            self.seen[explorers] = seen
        self.noise.apply(depth, self.noise_seed[ids], self.steps.numpy()[ids])
        self.depth[ids] = depth
        if rgb is not None:
            self.rgb[ids] = rgb
        self._stale[ids] = False

    def _picture_goal(self, i: int) -> None:
        self.goal_image[i] = 0.0
        if self.task[i] == 2:
            depth = np.empty((1, *self.depth.shape[1:]), np.float32)
            rgb = None if self.rgb is None else np.empty((*depth.shape, 3), np.uint8)
            self.caster.cast(np.array([i], np.int32), self.goal[i : i + 1], np.zeros((1, 0, 4), np.float32), depth, rgb)
            self.goal_image[i] = depth[0] if rgb is None else rgb[0].astype(np.float32) / 255.0
