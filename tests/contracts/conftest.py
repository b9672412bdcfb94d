"""Small versions of every env and policy: what a contract needs to hold it holds at any size."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from policies.policy import Policy
from robot.core import paths
from robot.core.config import build, locate
from sim.env import Env

SMALL = {
    "env": {"threads": 1},
    "policy": {
        "width": 32, "heads": 2, "layers": 1, "hidden": 48, "candidates": 4, "noise_levels": 1,
        "fusion_queries": 8, "fusion_layers": 1, "fusion_hidden": 48, "rgb_frames": 2, "threads": 1,
    },
    "data": {"batch_size": 8, "round_plans": 3},
}  # fmt: skip
"""Smaller values for keys that a component may have; a key that is 0, that is switched off, stays so."""


def small(node: DictConfig, group: str, **more: Any) -> DictConfig:
    values = {key: value for key, value in SMALL[group].items() if node.get(key) and node[key] != value}
    with open_dict(node):
        merged = OmegaConf.merge(node, values, more)
    assert isinstance(merged, DictConfig)
    return merged


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        return compose("train", list(overrides))


@pytest.fixture(scope="session")
def make_env() -> Callable[..., Env]:
    """make_env(name, num_envs, **keys) builds a fresh env."""

    def make(name: str, num_envs: int, **keys: Any) -> Env:
        return build(small(composed(f"env={name}").env, "env", num_envs=num_envs, **keys), "env")

    return make


@pytest.fixture(scope="session")
def subject(policy_name: str) -> SimpleNamespace:
    """A policy with its env (4 worlds), its config and, for those that learn, its source."""
    return _subject(policy_name)


@pytest.fixture
def policy(subject: SimpleNamespace) -> Policy:
    """The policy, where it decides from observations alone."""
    if not isinstance(subject.policy, Policy):
        pytest.skip(f"{type(subject.policy).__name__} reads the env, not the observation")
    return subject.policy


def _subject(name: str) -> SimpleNamespace:
    cfg = composed(f"policy={name}")
    if OmegaConf.is_missing(cfg.policy, "path"):
        exported = sorted(paths.PRETRAINED.glob("*/policy.onnx"))
        if name != "onnx" or not exported:
            pytest.skip(f"policy={name} needs a saved policy; checkpoints and exports have tests of their own below")
        cfg.policy.path = str(exported[0])
    torch.manual_seed(0)
    env = build(small(cfg.env, "env", num_envs=4), "env")
    runtime: dict[str, Any] = {"interface": env.interface, "env": env}
    if "policy" in inspect.signature(locate(cfg.policy._target_)).parameters:
        runtime["policy"] = build(small(composed().policy, "policy"), "policy", interface=env.interface)
    node = small(cfg.policy, "policy")
    policy = build(node, "policy", **runtime)
    source = small(cfg.data, "data")
    return SimpleNamespace(name=name, node=node, env=env, policy=policy, source=source, observation=_observations(env))


def _observations(env: Env) -> list[dict[str, Tensor]]:
    """Four observations in a row of an env whose worlds move."""
    observation, _ = env.reset(seed=11)
    seen = [observation]
    for _ in range(3):
        observation, *_ = env.step(torch.full((env.num_envs, *env.interface.action.shape), 0.02))
        seen.append(observation)
    return seen
