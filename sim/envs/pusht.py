"""PushT: push a T onto its goal with a disc (Florence et al., 2021); physics, starts and metrics are Chi et al.'s (2023).

Positions are pixels of a 512 x 512 table, frame w. The action is the position that the agent is drawn to, ten times a second.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from robot.core.errors import ConfigError
from robot.core.interface import Field, Interface
from sim.env import Env, Observation
from sim.pusht import drawing
from sim.pusht.geometry import KEYPOINTS, OUTLINE, SIDE, coverages, placed
from sim.pusht.physics import DT, SUBSTEPS, Tables

PERIOD = DT * SUBSTEPS
"""Control period [s]."""


@dataclass
class RewardConfig:
    coverage: float
    """The original's reward: coverage over the threshold, at most 1, every step."""
    progress: float
    """A hundred pixels by which the corners of the T came nearer, on average, to where they belong."""
    step: float
    """Every step."""
    success: float
    """At success."""


@dataclass
class PushtConfig:
    num_envs: int
    """Tables."""
    time_limit: float
    """Length of an episode [s]."""
    threshold: float
    """Coverage above which an episode is a success and ends."""
    standard: bool
    """Starts of the original: episode e of the run `seed` starts as its seed + e does, so the published 50 test starts are
    the first 50 episodes of the run 100000. false: uniform angles, and the T lies where it is told to."""
    goal: list[float]
    """x, y [px] and angle [rad] of the goal."""
    goal_range: list[float]
    """The goal of each episode is drawn within plus or minus this; zeros keep it."""
    friction: list[float]
    """Coefficient of friction of all contacts, drawn for each episode between these two; the original has none."""
    disturbance: float
    """Standard deviation of what is added to every target before it acts, and which no record shows [px]: a demonstrator has
    to recover from it, as in DART (Laskey et al., 2017)."""
    velocity: bool
    """Observe the agent's velocity."""
    keypoints: bool
    """Observe the nine published points of the T."""
    pixels: int
    """Observe square images of this side [px], 0 for none; the original has 96."""
    reward: RewardConfig
    """Weights of the reward."""
    threads: int
    """Threads of the physics, 0 for all cores."""


def interface(config: PushtConfig) -> Interface:
    """What flows."""
    pose, xy = ("x", "y", "angle"), ("x", "y")
    fields = [
        Field("agent", (2,), unit="px", frame="w", low=-64.0, high=576.0, names=xy),
        Field("block", (3,), unit="px, px, rad", frame="w", names=pose),
        Field("goal", (3,), unit="px, px, rad", frame="w", names=pose),
    ]
    if config.velocity:
        fields.insert(1, Field("agent_velocity", (2,), unit="px/s", frame="w", names=xy))
    if config.keypoints:
        fields.append(Field("keypoints", (9, 2), unit="px", frame="w", names=xy))
    if config.pixels:
        fields.append(Field("pixels", (config.pixels, config.pixels, 3), "uint8"))
    return Interface(tuple(fields), Field("target", (2,), unit="px", frame="w", low=0.0, high=SIDE, names=xy), PERIOD)


class Pusht(Env):
    """See the module. `tables.state` is what the worlds are; `params` goal (B, 3) and friction (B,) hold from a start on."""

    def __init__(self, config: PushtConfig) -> None:
        _check(config)
        self.config, n = config, config.num_envs
        super().__init__(interface(config), n, max_steps=round(config.time_limit / PERIOD))
        self.tables = self._tables()
        self.params = {
            "goal": torch.tensor(config.goal, dtype=torch.float64).expand(n, 3).clone(),
            "friction": torch.full((n,), config.friction[0], dtype=torch.float64),
        }
        self.coverage = np.zeros(n)
        self.largest = np.zeros(n)
        self.distance, self.nearer = np.zeros(n), np.zeros(n)

    def _tables(self) -> Tables:
        return Tables(self.num_envs, self.config.threads)

    def _reset(self, ids: Tensor) -> None:
        config = self.config
        low, high = config.friction
        for i in ids.tolist():
            rng = self.rng(i)
            agent, pose = self._drawn(i, rng)
            spread = np.array(config.goal_range) * rng.uniform(-1, 1, 3)
            self.params["goal"][i] = torch.from_numpy(np.array(config.goal) + spread)
            self.params["friction"][i] = rng.uniform(low, high)
            self.tables.place(i, agent, pose, turn_last=config.standard, friction=float(self.params["friction"][i]))
        self._measure()
        self.largest[ids.numpy()] = self.coverage[ids.numpy()]
        self.distance = self._distance()

    def _drawn(self, world: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Agent (2,) and pose of the T (3,) that the running episode of `world` starts with."""
        if self.config.standard:
            old = np.random.RandomState((self._seed + int(self.episode[world])) % 2**32)
            values = [old.randint(50, 450), old.randint(50, 450), old.randint(100, 400), old.randint(100, 400)]
            return np.array(values[:2], float), np.array([*values[2:], old.randn() * 2 * np.pi - np.pi])
        return rng.uniform(50, 450, 2), np.array([*rng.uniform(100, 400, 2), rng.uniform(-np.pi, np.pi)])

    def _distance(self) -> np.ndarray:
        """Mean distance of the T's corners from where they belong (B,) [px]."""
        gap = placed(OUTLINE, self.tables.state[:, 4:]) - placed(OUTLINE, self.params["goal"].numpy())
        return np.linalg.norm(gap, axis=-1).mean(-1)

    def _apply(self, action: Tensor) -> None:
        target = action.double().numpy()
        if self.config.disturbance:
            draws = self.draw(torch.arange(self.num_envs), 2, self.steps + 1).double().numpy()
            target = target + self.config.disturbance * ndtri(draws)
        self.tables.step(target.clip(0.0, SIDE))
        self._measure()
        np.maximum(self.largest, self.coverage, out=self.largest)
        distance = self._distance()
        self.nearer, self.distance = self.distance - distance, distance

    def _measure(self) -> None:
        self.coverage = coverages(self.tables.state[:, 4:], self.params["goal"].numpy())

    def _observe(self) -> Observation:
        state, goal = self.tables.state, self.params["goal"].numpy()
        pose = state[:, 4:].copy()
        pose[:, 2] %= 2 * np.pi
        seen = {"agent": state[:, :2], "agent_velocity": state[:, 2:4], "block": pose, "goal": goal}
        if self.config.keypoints:
            seen["keypoints"] = placed(KEYPOINTS, pose)
        observation = {name: torch.from_numpy(seen[name].astype(np.float32)) for name in self.interface.names if name in seen}
        if self.config.pixels:
            images = [drawing.image(s[:2], s[4:], g, self.config.pixels) for s, g in zip(state, goal, strict=True)]
            observation["pixels"] = torch.from_numpy(np.stack(images))
        return observation

    def _reward(self) -> dict[str, Tensor]:
        weights, coverage = self.config.reward, torch.from_numpy(self.coverage)
        terms = {
            "coverage": weights.coverage * (coverage / self.config.threshold).clamp_max(1.0),
            "progress": torch.from_numpy(weights.progress / 100 * self.nearer),
            "step": torch.full_like(coverage, weights.step),
            "success": weights.success * self._terminated().double(),
        }
        return {name: value.float() for name, value in terms.items()}

    def _terminated(self) -> Tensor:
        return torch.from_numpy(self.coverage > self.config.threshold)

    def metrics(self) -> dict[str, Tensor]:
        """Success; the score that Diffusion Policy reports (largest coverage over threshold, clipped); coverages; time [s]."""
        values = {
            "success": self.largest > self.config.threshold,
            "score": np.minimum(self.largest / self.config.threshold, 1.0),
            "max_coverage": self.largest,
            "final_coverage": self.coverage,
        }
        return {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()} | {
            "time": self.steps * PERIOD
        }

    def picture(self, world: int, size: int = 256) -> np.ndarray:
        """What a film shows of a world, (size, size, 3) uint8."""
        state = self.tables.state[world]
        return drawing.image(state[:2], state[4:], self.params["goal"][world].numpy(), size)


def _check(config: PushtConfig) -> None:
    if config.num_envs < 1 or config.time_limit < PERIOD:
        raise ConfigError(f"env: num_envs={config.num_envs} must be at least 1, time_limit at least {PERIOD} s")
    if not 0 < config.threshold <= 1:
        raise ConfigError(f"env.threshold={config.threshold}: a share of the goal, above 0 and at most 1")
    for name, count in (("goal", 3), ("goal_range", 3), ("friction", 2)):
        values = getattr(config, name)
        if len(values) != count or not np.isfinite(values).all():
            raise ConfigError(f"env.{name}={values}: {count} finite numbers are needed")
    if not 0 <= config.friction[0] <= config.friction[1]:
        raise ConfigError(f"env.friction={config.friction}: two numbers, not negative, the lower one first")
    if config.pixels < 0 or config.disturbance < 0:
        raise ConfigError(f"env.pixels={config.pixels} and env.disturbance={config.disturbance} must not be negative")
