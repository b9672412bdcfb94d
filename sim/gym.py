"""Every environment under its gymnasium id: `import sim.gym`, then `gymnasium.make("tiller/navigation-v0")` or `make_vec`.

What comes out is numpy: float32 arrays without a batch from `make`, with one from `make_vec`. Keyword arguments are keys of
configs/env/<name>.yaml, checked like those on the command line: `gymnasium.make("tiller/navigation-v0", crowd="medium")`.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from hydra import compose, initialize_config_dir
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from robot.core import paths
from robot.core.config import build
from sim.env import Env

Arrays = dict[str, NDArray[Any]]


def names() -> list[str]:
    """Every env that has a yaml."""
    return sorted(file.stem for file in (paths.CONFIGS / "env").glob("*.yaml"))


def register() -> None:
    """Register `tiller/<name>-v0` for every env; doing so twice changes nothing."""
    for name in names():
        if f"tiller/{name}-v0" not in gymnasium.registry:
            gymnasium.register(f"tiller/{name}-v0", entry_point=SingleEnv, vector_entry_point=BatchedEnv, kwargs={"name": name})


def config(name: str, **values: Any) -> DictConfig:
    """The composed config of the env `name`, with some values replaced."""
    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        node = compose(f"env/{name}").env
    with open_dict(node):
        merged = OmegaConf.merge(node, values)
    assert isinstance(merged, DictConfig)
    return merged


class BatchedEnv(VectorEnv):
    """An Env with numpy at its edge. A world that ends starts anew in the same step, as `autoreset_mode` says."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}

    def __init__(self, name: str, num_envs: int = 1, **values: Any) -> None:
        self.inner: Env = build(config(name, **{**values, "num_envs": num_envs}), "env")
        self.num_envs = num_envs
        self.render_mode = None
        self.single_observation_space = self.inner.single_observation_space
        self.single_action_space = self.inner.single_action_space
        self.observation_space = self.inner.observation_space
        self.action_space = self.inner.action_space
        self._renewed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        """Start new episodes; without a seed each world plays its next one, and a run never seeded draws its own seed."""
        if seed is None and self._np_random is None:
            seed = int(self.np_random.integers(2**31))
        super().reset(seed=seed)
        everywhere = None if seed is not None or self._renewed else torch.ones(self.num_envs, dtype=torch.bool)
        observation, info = self.inner.reset(seed=seed, mask=everywhere, options=options)
        self._renewed = False
        return arrays(observation), plain(info)

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Arrays, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.inner.step(torch.as_tensor(np.asarray(actions)))
        told = plain(info)
        if "final_obs" in told:
            told["_final_obs"] = told["_final_info"] = told["done"]
        self._renewed = bool(told["done"].all())
        return arrays(observation), reward.double().numpy(), terminated.numpy().copy(), truncated.numpy().copy(), told

    def close_extras(self, **kwargs: Any) -> None:
        self.inner.close()


class SingleEnv(gymnasium.Env[Arrays, NDArray[Any]]):
    """One world of an Env as a plain gymnasium environment."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, name: str, **values: Any) -> None:
        self.batch = BatchedEnv(name, num_envs=1, **values)
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Arrays, dict[str, Any]]:
        super().reset(seed=seed)
        observation, info = self.batch.reset(seed=seed, options=options)
        return first(observation), first(info)

    def step(self, action: NDArray[Any]) -> tuple[Arrays, float, bool, bool, dict[str, Any]]:
        """As in gymnasium: at the end of an episode the observation is its last one, and `info` holds its metrics."""
        observation, reward, terminated, truncated, info = self.batch.step(np.asarray(action)[None])
        told = {"terms": info["terms"]}
        if info["done"][0]:
            observation = info["final_obs"]
            told["metrics"] = info.get("final_info", {})
        return first(observation), float(reward[0]), bool(terminated[0]), bool(truncated[0]), first(told)

    def close(self) -> None:
        self.batch.close()


def arrays(tensors: dict[str, Tensor]) -> Arrays:
    """Copies, so that no later step of the env changes what was handed out."""
    return {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}


def plain(info: dict[str, Any]) -> dict[str, Any]:
    """The same nested dict with arrays for tensors."""
    return {
        key: plain(value) if isinstance(value, dict) else arrays({key: value})[key] if isinstance(value, Tensor) else value
        for key, value in info.items()
    }


def first(nested: dict[str, Any]) -> dict[str, Any]:
    """The first world of every array."""
    return {key: first(value) if isinstance(value, dict) else value[0] for key, value in nested.items()}


register()
