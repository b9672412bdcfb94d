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
from robot.core.errors import MissingExtraError
from robot.data.episodes import DatasetWriter
from robot.learn import checkpoint
from robot.learn.collector import Collector
from sim.env import Env

SMALL = {
    "env": {"threads": 1},
    "policy": {
        "width": 48, "heads": 2, "layers": 1, "hidden": 48, "candidates": 4, "noise_levels": 1,
        "fusion_queries": 8, "fusion_layers": 1, "fusion_hidden": 48, "rgb_frames": 2, "threads": 1, "size": 2,
        "image_size": 56, "steps": 2,
        "generative": {"sample_steps": 2},
        "denoiser": {"width": 32, "blocks": 1, "layers": 1, "heads": 2, "dims": [16, 32], "step_embedding": 32},
    },
    "data": {"batch_size": 8, "round_plans": 3, "episodes": 2, "warmup": 20},
}  # fmt: skip
"""Smaller values for keys that a component may have; a key that is 0, that is switched off, stays so."""


def smaller(node: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Those of `values` whose keys `node` has, and does not have switched off."""
    given = {key: value for key, value in values.items() if node.get(key)}
    return {key: smaller(node[key], value) if isinstance(value, dict) else value for key, value in given.items()}


def small(node: DictConfig, group: str, **more: Any) -> DictConfig:
    with open_dict(node):
        merged = OmegaConf.merge(node, smaller(node, SMALL[group]), more)
    assert isinstance(merged, DictConfig)
    return merged


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        return compose("train", list(overrides))


@pytest.fixture(scope="session")
def make_env() -> Callable[..., Env]:
    """make_env(name, num_envs, **keys) builds a fresh env."""

    def make(name: str, num_envs: int, **keys: Any) -> Env:
        try:
            return build(small(composed(f"env={name}").env, "env", num_envs=num_envs, **keys), "env")
        except MissingExtraError as error:
            pytest.skip(str(error))

    return make


@pytest.fixture(scope="session")
def subject(policy_name: str, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A policy with its env (4 worlds), its config, whether it holds another policy, and its source of batches."""
    cfg = composed(f"policy={policy_name}")
    torch.manual_seed(0)
    env = build(small(cfg.env, "env", num_envs=4), "env")
    node = small(cfg.policy, "policy")
    source = small(cfg.data, "data")
    if OmegaConf.is_missing(node, "path"):
        node.path = _saved(policy_name, env, tmp_path_factory)
    for key in ("base", "parents"):
        if OmegaConf.is_missing(node, key):
            held = _generator(env, tmp_path_factory)
            node[key] = held if key == "base" else [held, held]
    if "root" in source or OmegaConf.is_missing(source, "root"):
        source.root = _demonstrated(env, source.get("expert"), tmp_path_factory)
    wraps = "policy" in inspect.signature(locate(node._target_)).parameters
    runtime = {"policy": _default(env)} if wraps else {}
    return SimpleNamespace(
        env=env,
        node=node,
        wraps=wraps,
        policy=build(node, "policy", interface=env.interface, env=env, **runtime),
        source=source,
        observation=_observations(env),
    )


def _default(env: Env) -> Policy:
    """What train.yaml trains, small."""
    return build(small(composed().policy, "policy"), "policy", interface=env.interface)


def _saved(policy_name: str, env: Env, factory: pytest.TempPathFactory) -> str:
    """Something for policy=checkpoint and policy=onnx to load."""
    if policy_name == "checkpoint":
        run, policy = factory.mktemp("run"), _default(env)
        OmegaConf.save(OmegaConf.create({"policy": small(composed().policy, "policy")}), run / "config.yaml")
        checkpoint.save(run, 1, policy, dict(policy.state_dict()), torch.optim.AdamW(policy.parameters()))
        return str(run)
    return str(paths.PRETRAINED / "navdp")


def _generator(env: Env, factory: pytest.TempPathFactory) -> str:
    """The run folder of a small generator whose field bends, as a trained one's does, for what holds one."""
    run, node = factory.mktemp("run"), small(composed("policy=diffusion_policy").policy, "policy")
    policy = build(node, "policy", interface=env.interface)
    torch.nn.init.normal_(policy.denoiser.last.weight, std=0.02)
    OmegaConf.save(OmegaConf.create({"policy": node}), run / "config.yaml")
    checkpoint.save(run, 1, policy, dict(policy.state_dict()), torch.optim.AdamW(policy.parameters()))
    return str(run)


def _demonstrated(env: Env, node: DictConfig | None, factory: pytest.TempPathFactory) -> str:
    """Two demonstrations in `env` by its own demonstrator, or the one of PushT."""
    expert = build(node or composed("policy=pusht_expert").policy, "policy", env=env, interface=env.interface)
    root = factory.mktemp("data") / "demonstrations"
    with DatasetWriter(root, env.interface, {"task": "pusht"}, 100) as writer:
        Collector(env, expert).run(writer, 2, 0)
    return str(root)


@pytest.fixture
def policy(subject: SimpleNamespace) -> Policy:
    """The policy, where it decides from observations alone, without dropout as whoever acts sees it."""
    if not isinstance(subject.policy, Policy):
        pytest.skip(f"{type(subject.policy).__name__} reads the env, not the observation")
    return subject.policy.eval()


def _observations(env: Env) -> list[dict[str, Tensor]]:
    """Four observations in a row of an env whose worlds move."""
    observation, _ = env.reset(seed=11)
    seen = [observation]
    for _ in range(3):
        observation, *_ = env.step(torch.full((env.num_envs, *env.interface.action.shape), 0.02))
        seen.append(observation)
    return seen
