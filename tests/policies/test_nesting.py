"""Every wrapper over every generator and every wrapper: it is built from names and run folders, acts, is saved, is exported."""

import pytest
import torch
from omegaconf import OmegaConf

from policies import onnx
from policies.held import hold
from robot.core.config import build
from robot.core.errors import ConfigError, TillerError
from robot.learn import checkpoint
from robot.learn.evaluator import Evaluator
from sim import gym
from tests.contracts.conftest import composed

SMALL = {"_target_": "policies.nn.mlp.ResidualMlp", "width": 16, "blocks": 1}
CRITICS = {"count": 2, "width": 16, "layers": 1, "follow": 0.1, "targets": 1}
PROCESSES = {
    "flow": {"kind": "flow"},
    "ddim": {"kind": "diffusion"},
    "ddpm": {"kind": "diffusion", "stochastic": True},
    "mip": {"kind": "mip"},
    "regression": {"kind": "regression"},
}
WRAPPERS = {
    "gpc": lambda base: {"policy": "gpc", "parents": [base, base], "steps": 2, "execute": 4},
    "vgps": lambda base: {"policy": "vgps", "base": base, "candidates": 3, "critics": CRITICS},
    "na": lambda base: {"policy": "dsrl", "base": base, "variant": "na", "actor_width": 16, "critics": CRITICS},
    "sac": lambda base: {"policy": "dsrl", "base": base, "variant": "sac", "actor_width": 16, "critics": CRITICS},
    "through": lambda base: {"policy": "dsrl", "base": base, "variant": "through", "actor_width": 16, "critics": CRITICS},
    "expo": lambda base: {"policy": "expo", "base": base, "samples": 2, "actor_width": 16, "critics": CRITICS},
    "one_step": lambda base: {"policy": "one_step", "base": base},
}
REFUSED = {
    "gpc": ({"ddpm", "mip", "regression", "vgps", "na", "sac", "through", "expo", "one_step"}, "field"),
    "one_step": ({"ddpm", "mip", "regression", "vgps", "na", "sac", "through", "expo", "one_step"}, "field|more than one noise"),
}
"""Over what a wrapper makes no sense, and the word that says so."""
PAIRS = [(outer, inner) for outer in WRAPPERS for inner in [*PROCESSES, *WRAPPERS]]


@pytest.fixture(scope="module")
def env():
    return build(gym.config("pusht_dense", num_envs=2, threads=1, time_limit=1.0), "env")


@pytest.fixture(scope="module")
def runs(env, tmp_path_factory):
    """Run folders of small generators, untrained but for noise in what they begin with."""
    folders = {}
    for name, process in PROCESSES.items():
        node = composed("policy=diffusion_policy").policy
        node.merge_with(
            {"chunk": 8, "execute": 4, "denoiser": SMALL, "generative": {"sample_steps": 2, "train_steps": 4, **process}}
        )
        torch.manual_seed(0)
        policy = build(node, "policy", interface=env.interface)
        torch.nn.init.normal_(policy.denoiser.last.weight, std=0.2)
        folders[name] = keep(tmp_path_factory.mktemp(name), policy, node)
    return folders


def keep(folder, policy, node):
    """Save a policy as training does."""
    OmegaConf.save(OmegaConf.create({"policy": node}), folder / "config.yaml")
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad] or [torch.zeros(1, requires_grad=True)])
    checkpoint.save(folder, 1, policy, dict(policy.state_dict()), optimizer)
    return str(folder)


def inner_of(inner, runs):
    """What is written after policy.base=."""
    return runs[inner] if inner in runs else WRAPPERS[inner](runs["flow"])


@pytest.mark.parametrize(("outer", "inner"), PAIRS, ids=[f"{a}-{b}" for a, b in PAIRS])
def test_it_is_built_acts_and_is_kept_or_refused(outer, inner, env, runs, tmp_path):
    given = WRAPPERS[outer](inner_of(inner, runs))
    nonsense, word = REFUSED.get(outer, (set(), ""))
    if inner in nonsense:
        with pytest.raises(ConfigError, match=word):
            hold(given, "policy", env.interface, env)
        return
    policy = hold(given, "policy", env.interface, env)
    observation, _ = env.reset(seed=1)
    noise = torch.randn(2, *policy.noise_shape())
    actions, _ = policy.act(observation, policy.initial_memory(2), noise)
    assert actions.shape == (2, policy.execute, 2)
    assert bool(torch.isfinite(actions).all())
    (tmp_path / "run").mkdir()
    node = composed(f"policy={given['policy']}").policy
    node.merge_with({key: value for key, value in given.items() if key != "policy"})
    again = hold(keep(tmp_path / "run", policy, node), "policy", env.interface, env)
    torch.testing.assert_close(again.act(observation, again.initial_memory(2), noise)[0], actions)


def test_a_choice_among_compositions_is_evaluated_and_exported(env, runs, tmp_path):
    check_graph("vgps", "gpc", env, runs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("outer", "inner"), [pair for pair in PAIRS if pair[1] not in REFUSED.get(pair[0], ((), ""))[0]])
def test_every_nest_is_evaluated_and_exported(outer, inner, env, runs, tmp_path):
    check_graph(outer, inner, env, runs, tmp_path)


def check_graph(outer, inner, env, runs, folder):
    policy = hold(WRAPPERS[outer](inner_of(inner, runs)), "policy", env.interface, env)
    config = OmegaConf.to_container(composed("policy=vgps").evaluator) | {"episodes": 2, "videos": 0}
    report = build(config, "evaluator").run(policy, env, quiet=True)
    assert isinstance(build(config, "evaluator"), Evaluator)
    assert len(report.columns["success"]) == 2
    assert onnx.parity(policy, onnx.export(policy, folder)) < 1e-3, "pixels"


def test_three_deep_in_one_line(env, runs):
    """policy=expo policy.base={policy: vgps, base: {policy: gpc, parents: [a, b]}}"""
    base = WRAPPERS["vgps"]({"policy": "gpc", "parents": [runs["flow"], runs["ddim"]], "execute": 4})
    policy = hold(WRAPPERS["expo"](base), "policy", env.interface, env)
    observation, _ = env.reset(seed=1)
    assert policy.act(observation, policy.initial_memory(2), torch.randn(2, *policy.noise_shape()))[0].shape == (2, 4, 2)


def test_a_critic_for_another_interface_is_refused(env, runs):
    other = build(gym.config("pusht", num_envs=1, velocity=False), "env")
    with pytest.raises(TillerError, match="another task"):
        hold(WRAPPERS["vgps"](runs["flow"]), "policy", other.interface, other)


def test_weights_that_are_not_finite_are_refused(env, runs, tmp_path):
    policy = hold(runs["flow"], "policy", env.interface, env)
    config = OmegaConf.load(f"{runs['flow']}/config.yaml").policy
    with torch.no_grad():
        policy.denoiser.last.weight[0, 0] = float("nan")
    with pytest.raises(TillerError, match="finite"):
        hold(keep(tmp_path, policy, config), "policy", env.interface, env)
