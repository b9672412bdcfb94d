"""Generators and what holds them, on a toy: a point (2,) is seen, the reward is how near the action is to where it should be."""

import pytest
import torch
from omegaconf import OmegaConf

from policies.critic import Critics, CriticsConfig, Gaussian
from policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from policies.dsrl import Dsrl, DsrlConfig, Variant
from policies.expo import Expo, ExpoConfig
from policies.generative import GenerativeConfig, Kind, Prediction, Times
from policies.gpc import Gpc, GpcConfig, Operator
from policies.held import hold
from policies.one_step import OneStep, OneStepConfig
from policies.vgps import Method, Vgps, VgpsConfig
from robot.core.config import build
from robot.core.errors import ConfigError, InterfaceError, NotSupportedError
from robot.core.interface import Field, Interface
from robot.learn import checkpoint

TOY = Interface((Field("point", (2,)),), Field("push", (2,)), 0.1)
FLAT = {"_target_": "policies.nn.features.Flat", "scale": {"point": 1.0}, "offset": {}, "differences": [], "finer": 0.0}
MLP = {"_target_": "policies.nn.mlp.ResidualMlp", "width": 32, "blocks": 1}
CRITICS = CriticsConfig(3, 64, 2, 0.05, 2)


def generator(interface=TOY, **keys):
    flow = GenerativeConfig(Kind.flow, 10, 4, 4.0, False, Times.uniform, Prediction.epsilon)
    values = {
        "chunk": 4, "execute": 2, "history": 1, "features": FLAT, "denoiser": MLP, "anchor": None, "offset": [0.0, 0.0],
        "scale": [1.0, 1.0], "temperature": 1.0, "generative": flow,
    }  # fmt: skip
    return DiffusionPolicy(DiffusionPolicyConfig(**{**values, **keys}), interface)


def saved(folder, policy, interface=TOY):
    """A run folder with the policy's weights, as training leaves one."""
    config = policy.config
    node = {**vars(config), "_target_": "policies.diffusion_policy.DiffusionPolicy"}
    node["generative"] = {**vars(config.generative), "kind": config.generative.kind.value, "times": "uniform"}
    folder.mkdir()
    OmegaConf.save(OmegaConf.create({"policy": node}), folder / "config.yaml")
    checkpoint.save(folder, 1, policy, dict(policy.state_dict()), torch.optim.AdamW(policy.parameters()))
    return str(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained flow, whose samples are its noise."""
    torch.manual_seed(0)
    return saved(tmp_path_factory.mktemp("runs") / "base", generator())


def wanted(point):
    return torch.stack([point[:, 0].sign() * 0.7, -0.5 * torch.ones(len(point))], dim=1)


def trial(policy, count):
    """Transitions of one step, executed as the policy says while it explores."""
    point = torch.randn(count, 2)
    inputs, memory = policy.prepare({"point": point}, policy.initial_memory(count))
    policy.exploring = True
    with torch.no_grad():
        plan = policy.eval().decide(inputs, memory, torch.randn(count, *policy.noise_shape()))
    policy.exploring = False
    reward = -((plan.actions - wanted(point)[:, None]) ** 2).mean((1, 2))
    following = {f"next_{name}": value for name, value in inputs.items()}
    batch = {**inputs, **following, "action": plan.actions, "reward": reward, "discount": torch.zeros(count), "return": reward}
    return batch | plan.aside


def learnt(policy, updates, source=None):
    """Mean reward before and after learning from trials of its own, or of `source`."""
    torch.manual_seed(1)
    before = float(trial(policy, 512)["reward"].mean())
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], 3e-3)
    table = [trial(source or policy, 128) for _ in range(4)]
    for k in range(updates):
        if source is None and k % 4 == 0:
            table = [*table[-40:], trial(policy, 32)]
        rows = [table[i] for i in torch.randint(len(table), (4,))]
        batch = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
        losses = policy.train().loss(batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    with torch.no_grad():
        policy.eval()
        point = torch.randn(512, 2)
        actions, _ = policy.act({"point": point}, policy.initial_memory(512), torch.randn(512, *policy.noise_shape()))
    return before, float(-((actions - wanted(point)[:, None]) ** 2).mean())


def vgps(base, **keys):
    values = {
        "base": base, "candidates": 16, "temperature": 0.0, "pessimism": 0.5, "random": False, "method": Method.iql,
        "discount": 0.9, "expectile": 0.7, "conservatism": 0.01, "proposals": 3, "critics": CRITICS,
    }  # fmt: skip
    return Vgps(VgpsConfig(**{**values, **keys}), TOY)


def dsrl(base, **keys):
    values = {
        "base": base, "variant": Variant.na, "bound": 1.5, "repeat": False, "discount": 0.9, "entropy": -1.0, "temperature": 0.02,
        "patience": 20, "trust": None, "tuned": True, "entropy_backup": False, "actor_width": 64, "critics": CRITICS,
    }  # fmt: skip
    return Dsrl(DsrlConfig(**{**values, **keys}), TOY)


def expo(base, **keys):
    values = {
        "base": base, "samples": 4, "edit": 0.5, "best": True, "discount": 0.9, "pessimism": 1.0, "patience": 20, "entropy": -1.0,
        "temperature": 0.02, "tuned": True, "actor_width": 64, "critics": CRITICS,
    }  # fmt: skip
    return Expo(ExpoConfig(**{**values, **keys}), TOY)


def gpc(parents, **keys):
    values = {
        "parents": parents, "weights": [0.5] * len(parents), "levels": None, "operator": Operator.convex, "sharpness": 1.0,
        "steps": 4, "temperature": 1.0, "execute": 2,
    }  # fmt: skip
    return Gpc(GpcConfig(**{**values, **keys}), TOY)


# What is learnt


@pytest.mark.parametrize("variant", list(Variant))
def test_noise_that_is_steered_finds_the_reward(base, variant):
    before, after = learnt(dsrl(base, variant=variant), 300)
    assert before < -0.9
    assert after > -0.25


def test_edits_and_the_best_of_samples_find_the_reward(base):
    before, after = learnt(expo(base), 250)
    assert before < -0.6
    assert after > -0.35


@pytest.mark.parametrize("method", [Method.iql, pytest.param(Method.calql, marks=pytest.mark.slow)])
def test_a_critic_from_recorded_trials_picks_better_chunks(base, method):
    source = vgps(base, random=True)
    _, after = learnt(vgps(base, method=method), 200, source=source)
    _, control = learnt(vgps(base, random=True), 5, source=source)
    assert control == pytest.approx(-1.37, abs=0.15), "1 of the noise, and what is wanted on average"
    assert after > control + 0.4


@pytest.mark.slow
def test_more_candidates_are_no_worse(base):
    policy = vgps(base)
    learnt(policy, 200, source=vgps(base, random=True))
    point, rewards = torch.randn(2048, 2), []
    for count in (1, 4, 16, 64):
        policy.config.candidates = count
        actions, _ = policy.act({"point": point}, {}, torch.randn(2048, *policy.noise_shape()))
        rewards.append(float(-((actions - wanted(point)[:, None]) ** 2).mean()))
    assert rewards[0] < rewards[1] < rewards[2]
    assert rewards[3] > rewards[2] - 0.05


@pytest.mark.parametrize("network", [None, {**MLP, "width": 96, "blocks": 2}], ids=["own", "other"])
def test_one_step_learns_where_each_noise_ends(tmp_path, network):
    torch.manual_seed(4)
    teacher = generator()
    torch.nn.init.normal_(teacher.denoiser.last.weight, std=0.2)
    base = saved(tmp_path / "teacher", teacher)
    student = OneStep(OneStepConfig(base, network), TOY)
    optimizer = torch.optim.Adam([p for p in student.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(250):
        loss = student.train().loss({"condition": torch.randn(128, 2), "anchor": torch.zeros(128, 2)})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    noise, point = torch.randn(256, 4, 2), {"point": torch.randn(256, 2)}
    gap = (student.eval().act(point, {}, noise)[0] - student.base.act(point, {}, noise)[0]).square().mean()
    assert float(gap) < 0.1


# What is exact


def test_a_squashed_gaussian_knows_its_density():
    """The density integrates to one over its range, and its gradient is that of what it draws."""
    torch.manual_seed(0)
    actor = Gaussian(3, 16, 1, 1)
    with torch.no_grad():
        actor.net.biases[-1][..., 0] = 0.4
    x = torch.zeros(1, 3)
    mean, spread = actor.net(x)[0][0].tolist()
    z = torch.linspace(-8, 8, 40001)[:, None]
    value, density = actor(x.expand(len(z), -1), z)
    assert float(torch.trapezoid(density.exp(), value[:, 0])) == pytest.approx(1.0, abs=1e-3)
    torch.testing.assert_close(value, torch.tanh(mean + torch.exp(torch.tensor(spread)) * z))


def test_frozen_critics_pass_gradients_to_what_they_judge_only():
    critics = Critics(CRITICS, 5)
    x = torch.randn(4, 1, 3, requires_grad=True)
    critics(torch.randn(4, 2), x, frozen=True).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().sum()) > 0
    assert all(p.grad is None for p in critics.own.parameters())
    before = critics.target.weights[0].clone()
    with torch.no_grad():
        critics.own.weights[0].add_(1.0)
    critics.follow()
    torch.testing.assert_close(critics.target.weights[0], before + 0.05)


def test_the_pick_is_the_candidate_of_highest_cautious_value(base):
    policy, point = vgps(base), {"point": torch.randn(5, 2)}
    noise = torch.randn(5, *policy.noise_shape())
    plan = policy.plan(point, {}, noise)
    best = plan.values.argmax(1)
    torch.testing.assert_close(plan.actions, plan.candidates[torch.arange(5), best][:, :2])
    torch.testing.assert_close(policy.score(point, plan.candidates), plan.values)
    assert not torch.equal(best, torch.zeros_like(best))
    first = vgps(base, random=True).plan(point, {}, noise)
    torch.testing.assert_close(first.actions, first.candidates[:, 0, :2])


def test_a_softmax_draws_in_proportion(base):
    policy = vgps(base, temperature=0.5, candidates=3)
    values = torch.tensor([[0.0, 0.5, 1.0]]).expand(20000, -1)
    candidates = torch.arange(3.0)[None, :, None, None].expand(20000, -1, 1, 1)
    picked = policy.chosen(candidates, values, torch.randn(20000, *policy.noise_shape()))[:, 0, 0]
    share = torch.bincount(picked.long(), minlength=3) / 20000
    torch.testing.assert_close(share, torch.softmax(torch.tensor([0.0, 1.0, 2.0]), 0), atol=0.015, rtol=0)


def test_history_remembers_frames_and_repeats_the_first():
    policy = generator(history=3)
    memory, seen = policy.initial_memory(1), []
    for k in range(1, 4):
        inputs, memory = policy.prepare({"point": torch.full((1, 2), float(k))}, memory)
        seen.append(inputs["condition"][0, ::2].tolist())
    assert seen == [[1.0, 1.0, 1.0], [1.0, 1.0, 2.0], [1.0, 2.0, 3.0]]


def test_padding_is_left_out_of_the_loss():
    policy = generator()
    batch = {
        "condition": torch.randn(8, 2),
        "anchor": torch.zeros(8, 2),
        "action": torch.randn(8, 4, 2),
        "valid": torch.ones(8, 4),
    }
    batch["valid"][:, 2:] = 0
    torch.manual_seed(3)
    loss = policy.loss(batch)["loss"]
    batch["action"] = batch["action"].clone()
    batch["action"][:, 2:] += 100.0
    torch.manual_seed(3)
    torch.testing.assert_close(policy.loss(batch)["loss"], loss)


def test_actions_are_relative_to_the_anchor_and_back():
    policy = generator(anchor="point", scale=[2.0, 3.0])
    inputs, _ = policy.prepare({"point": torch.tensor([[10.0, 20.0]])}, {})
    scene, x = policy.encode(inputs), torch.randn(1, 4, 2)
    actions = policy.actions(x, scene)
    torch.testing.assert_close(actions, torch.tensor([10.0, 20.0]) + x * torch.tensor([2.0, 3.0]))
    torch.testing.assert_close(policy.scaled(actions, scene), x)


# Composition


def test_equal_parents_compose_to_themselves(base):
    alone = hold(base, "base", TOY)
    for keys in ({}, {"weights": [0.2, 0.8]}, {"operator": Operator.either}, {"operator": Operator.both}):
        both = gpc([base, base], **keys)
        noise, point = torch.randn(3, 4, 2), {"point": torch.randn(3, 2)}
        torch.testing.assert_close(both.plan(point, {}, noise).actions, alone.plan(point, {}, noise).actions)


def test_a_weight_of_one_is_that_parent(tmp_path):
    torch.manual_seed(2)
    parents = []
    for k in range(2):
        policy = generator(chunk=4 + 4 * k)
        torch.nn.init.normal_(policy.denoiser.last.weight, std=0.3)
        parents.append(saved(tmp_path / str(k), policy))
    noise, point = torch.randn(3, 8, 2), {"point": torch.randn(3, 2)}
    for k, length in ((0, 4), (1, 8)):
        weights = [1.0 - k, float(k)]
        x = gpc(parents, weights=weights).plan(point, {}, noise).actions
        alone = hold(parents[k], "parent", TOY).plan(point, {}, noise[:, :length]).actions
        torch.testing.assert_close(x, alone)
    mixed = gpc(parents).plan(point, {}, noise).actions
    assert not torch.allclose(mixed, x)


def test_wrappers_nest(base):
    nested = vgps({"policy": "gpc", "parents": [base, base], "execute": 2, "steps": 2}, candidates=3)
    assert isinstance(nested.base, Gpc)
    noise = torch.randn(2, *nested.noise_shape())
    actions, _ = nested.act({"point": torch.randn(2, 2)}, nested.initial_memory(2), noise)
    assert actions.shape == (2, 2, 2)


# What is refused


def test_what_does_not_fit_is_refused_in_words(base, tmp_path):
    other = Interface((Field("point", (2,)),), Field("push", (3,)), 0.1)
    wide = generator(interface=other, scale=[1.0] * 3, offset=[0.0] * 3)
    three = saved(tmp_path / "three", wide, other)
    with pytest.raises(InterfaceError, match=r"parents\[1\].*another task"):
        gpc([base, three])
    with pytest.raises(ConfigError, match="execute=3"):
        gpc([base, saved(tmp_path / "short", generator(chunk=2))], execute=3)
    with pytest.raises(ConfigError, match="scales actions"):
        gpc([base, saved(tmp_path / "scaled", generator(scale=[2.0, 2.0]))])
    with pytest.raises(ConfigError, match="a weight for each"):
        gpc([base, base], weights=[1.0])
    with pytest.raises(ConfigError, match="no run folder and no policy 'nowhere'"):
        vgps("nowhere")
    with pytest.raises(InterfaceError, match=r"policy\.base"):
        vgps(three)
    with pytest.raises(ConfigError, match="draws no chunks"):
        hold({"_target_": "tests.policies.test_generators.build_straight"}, "policy.base", TOY)
    with pytest.raises(ConfigError, match="no observation"):
        generator(features={**FLAT, "scale": {"nothing": 1.0}})
    with pytest.raises(ConfigError, match="scale"):
        generator(scale=[1.0])
    with pytest.raises(NotSupportedError):
        gpc([base, base], operator=Operator.either).velocity(torch.zeros(1, 4, 2), torch.ones(1), None)


def build_straight():
    return torch.nn.Linear(1, 1)


def test_a_critic_of_noise_refuses_what_does_not_say_its_noise(base):
    with pytest.raises(ConfigError, match=r"data\.demonstrations=null"):
        dsrl(base, variant=Variant.sac).loss({"reward": torch.zeros(2)})


def test_nodes_build_what_yamls_say(base):
    node = {**vars(vgps(base).config), "_target_": "policies.vgps.Vgps", "method": "calql", "critics": vars(CRITICS)}
    assert build(node, "policy", interface=TOY).config.method is Method.calql
