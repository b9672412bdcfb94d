"""The base of every environment: a batch of worlds whose arrays are torch tensors.

Episode numbering makes results independent of the batch: world i plays the episodes i, i + B, i + 2B, … of a run, and
episode e draws all its randomness from the pair (S, e). So the episodes 0 … N-1 are the same whatever B is, and world i
never depends on world j.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from robot.core.errors import ObservationError
from robot.core.interface import Field, Interface

Observation = dict[str, Tensor]


class Env(VectorEnv):
    """A batch of worlds. Authors write `_reset`, `_apply`, `_observe`, `_reward` and `_terminated`.

    Attributes:
        interface: what flows; the spaces are derived from it.
        params: named tensors (B, …) that a randomiser may change between episodes.
        steps: control periods since the last reset of each world, (B,).
        episode: number of the running episode of each world, (B,).
    """

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(self, interface: Interface, num_envs: int, max_steps: int, device: str = "cpu") -> None:
        self.interface = interface
        self.num_envs = num_envs
        self.max_steps = max_steps
        self.device = torch.device(device)
        self.params: dict[str, Tensor] = {}
        self.steps = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self.episode = torch.arange(num_envs, dtype=torch.int64, device=self.device)
        self._seed = 0
        self.single_observation_space = spaces.Dict({f.name: _space(f) for f in interface.observation})
        self.single_action_space = _space(interface.action)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | None = None, mask: Tensor | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start new episodes in the worlds of `mask` (B,), or in all.

        With a seed, world i starts episode i of the run `seed`, or episode first + i with `options={"episode": first}`;
        without one, each world goes on to its next episode.
        """
        chosen = torch.ones(self.num_envs, dtype=torch.bool) if mask is None else mask.cpu().bool()
        ids = torch.nonzero(chosen).flatten()
        if seed is not None:
            self._seed = int(seed)
            self.episode[ids] = ids.to(self.device) + int((options or {}).get("episode", 0))
        elif mask is not None or bool((self.steps > 0).any()):
            self.episode[ids] += self.num_envs
        self._start(ids)
        return self._observe(), {}

    def step(self, action: Tensor) -> tuple[Observation, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance every world by one control period.

        Args:
            action: (B, *interface.action.shape).

        Returns:
            observation (of the new episode where a world was reset), reward (B,), terminated (B,), truncated (B,), info:
            `final_obs` and `final_info` hold the true last observation and its metrics where a world ended, `terms` the
            reward terms by name.
        """
        action = torch.as_tensor(action, device=self.device, dtype=torch.float32)
        expected = (self.num_envs, *self.interface.action.shape)
        if tuple(action.shape) != expected:
            raise ObservationError(f"action '{self.interface.action.name}' has shape {tuple(action.shape)}, expected {expected}")
        if not bool(torch.isfinite(action).all()):
            raise ObservationError(f"action '{self.interface.action.name}' is not finite")
        self._apply(action)
        self.steps += 1
        terms = self._reward()
        reward = torch.stack(list(terms.values())).sum(0)
        terminated = self._terminated()
        truncated = (self.steps >= self.max_steps) & ~terminated
        done = terminated | truncated
        observation = self._observe()
        info: dict[str, Any] = {"terms": terms, "episode": self.episode.clone(), "done": done}
        if bool(done.any()):
            info["final_obs"] = {name: value.clone() for name, value in observation.items()}
            info["final_info"] = {name: value.clone() for name, value in self.metrics().items()}
            ids = torch.nonzero(done).flatten().cpu()
            self.episode[ids] += self.num_envs
            self._start(ids)
            observation = self._observe()
        return observation, reward, terminated, truncated, info

    def rng(self, world: int) -> np.random.Generator:
        """A fresh generator of the running episode of `world`: same seed and episode, same numbers."""
        return np.random.default_rng([self._seed & 0xFFFFFFFF, int(self.episode[world])])

    def draw(self, ids: Tensor, count: int, stream: Tensor | int = 0) -> Tensor:
        """Uniform numbers in (0, 1) for the worlds `ids` (K,), (K, count), all at once: a hash of seed, episode and stream."""
        streams = np.broadcast_to(np.asarray(stream, np.uint64), (self.num_envs,))[ids.numpy()]
        key = _hash(_hash(np.uint64(self._seed & 0xFFFFFFFF) ^ _hash(self.episode[ids].numpy().astype(np.uint64))) ^ streams)
        bits = _hash(key[:, None] + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(41)
        return torch.from_numpy(((bits.astype(np.float64) + 0.5) / 2**23).astype(np.float32))

    def metrics(self) -> dict[str, Tensor]:
        """Success and other measures of the running episodes, each (B,)."""
        return {}

    def _start(self, ids: Tensor) -> None:
        self.steps[ids.to(self.device)] = 0
        self._reset(ids)

    @abstractmethod
    def _reset(self, ids: Tensor) -> None:
        """Start new episodes in the worlds `ids` (K,), with randomness from `self.rng(world)` alone."""

    @abstractmethod
    def _apply(self, action: Tensor) -> None:
        """Advance the physics by one control period."""

    @abstractmethod
    def _observe(self) -> Observation:
        """The observation, fresh tensors (B, …) by field name; calling it twice gives the same numbers."""

    @abstractmethod
    def _reward(self) -> dict[str, Tensor]:
        """Reward terms (B,) by name; their sum is the reward."""

    @abstractmethod
    def _terminated(self) -> Tensor:
        """Which worlds ended by success or failure (not by time), bool (B,)."""


def _hash(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al., 2014): neighbouring numbers become unrelated ones."""
    with np.errstate(over="ignore"):
        x = (x + np.uint64(0x9E3779B97F4A7C15)).astype(np.uint64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _space(field: Field) -> spaces.Box:
    dtype = np.dtype(field.dtype)
    if dtype.kind == "f":
        low = -np.inf if field.low is None else field.low
        high = np.inf if field.high is None else field.high
    else:
        low = np.iinfo(dtype).min if field.low is None else field.low
        high = np.iinfo(dtype).max if field.high is None else field.high
    return spaces.Box(low, high, field.shape, dtype.type)
