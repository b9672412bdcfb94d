"""Offline reinforcement learning over chunks, on problems whose best answer is known: TD3+BC, PRDC, A2PR, IQL, FamO2O."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from policies.a2pr import A2pr, A2prConfig
from policies.critic import CriticsConfig
from policies.famo2o import Famo2o, Famo2oConfig
from policies.generative import GenerativeConfig, Kind, Prediction, Times
from policies.iql import Iql, IqlConfig
from policies.prdc import Prdc, PrdcConfig
from policies.td3 import Td3, Td3Config
from robot.core.errors import ConfigError
from robot.core.interface import Field, Interface

TOY = Interface((Field("point", (2,)),), Field("push", (1,)), 0.1)
ONE_PASS = GenerativeConfig(Kind.regression, 1, 1, 3.0, False, Times.uniform, Prediction.epsilon)
COMMON = {
    "chunk": 1, "execute": 1, "history": 1, "anchor": None, "offset": [0.0], "scale": [1.0], "temperature": 1.0,
    "features": {"_target_": "policies.nn.features.Flat", "scale": {"point": 1.0}, "offset": {}, "differences": [], "finer": 0.0},
    "denoiser": {"_target_": "policies.nn.mlp.ResidualMlp", "width": 48, "blocks": 1},
    "generative": ONE_PASS, "discount": 0.5, "critics": CriticsConfig(2, 48, 2, 0.05, 2),
}  # fmt: skip
TD3 = {"alpha": 2.5, "smoothing": 0.05, "smoothing_clip": 0.1, "delay": 2}
PRDC = {"beta": 1.0, "most": 100000}
A2PR = {"latent": 4, "weight": 1.0, "divergence": 0.1}
IQL = {"expectile": 0.8, "beta": 2.0}
FAMO2O = {"family": [0.0, 2.0], "entropy": -0.5, "actor_width": 32}


def make(kind, config, *parts, **changes):
    torch.manual_seed(0)
    return kind(config(**{**COMMON, **{k: v for part in parts for k, v in part.items()}, **changes}), TOY)


def bandit(count, seed=0, mixed=0.5):
    """One decision: the best push is the point's first coordinate; `mixed` of the data push the other way."""
    rng = np.random.default_rng(seed)
    point = rng.uniform(-1, 1, (count, 2)).astype(np.float32)
    wrong = rng.random(count) < mixed
    push = np.where(wrong, -point[:, 0], point[:, 0]) + 0.1 * rng.normal(size=count)
    reward = -((push - point[:, 0]) ** 2)
    column = {"condition": point, "anchor": np.zeros((count, 1)), "action": push[:, None, None], "reward": reward}
    column |= {"discount": np.zeros(count), "next_condition": point, "next_anchor": np.zeros((count, 1)), "return": reward}
    return {name: np.asarray(value, np.float32) for name, value in column.items()}


def fit(policy, table, steps=250, rate=5e-3, size=128):
    if hasattr(policy, "study"):
        policy.study(table)
    optimizer = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], rate)
    rng = np.random.default_rng(1)
    policy.train()
    for _ in range(steps):
        rows = rng.integers(len(table["reward"]), size=size)
        loss = policy.loss({name: torch.from_numpy(value[rows]) for name, value in table.items()})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return policy.eval()


def regret(policy):
    """Mean squared distance from the best push over fresh points."""
    point = torch.rand(512, 2, generator=torch.Generator().manual_seed(5)) * 2 - 1
    action, _ = policy.act({"point": point}, {}, torch.zeros(512, 1, 1))
    return float(((action[:, 0, 0] - point[:, 0]) ** 2).mean())


CLONE = 1 / 3
"""Regret of a clone of half right, half wrong: it does not push at all."""


@pytest.mark.parametrize(
    ("kind", "config", "parts", "most"),
    [
        (Td3, Td3Config, (TD3,), 0.1),
        (Prdc, PrdcConfig, (TD3, PRDC), 0.05),
        (A2pr, A2prConfig, (TD3, A2PR), 0.05),
        (Iql, IqlConfig, (IQL,), 0.1),
        (Famo2o, Famo2oConfig, (IQL, FAMO2O), 0.1),
    ],
    ids=["td3", "prdc", "a2pr", "iql", "famo2o"],
)
def test_it_finds_the_better_half_of_mixed_demonstrations(kind, config, parts, most):
    assert regret(fit(make(kind, config, *parts), bandit(2000))) < most


@pytest.mark.parametrize(
    ("kind", "config", "parts"), [(Td3, Td3Config, ({**TD3, "alpha": 0.0},)), (Iql, IqlConfig, ({**IQL, "beta": 0.0},))]
)
def test_without_greed_it_clones(kind, config, parts):
    assert regret(fit(make(kind, config, *parts), bandit(2000))) == pytest.approx(CLONE, abs=0.06)


def test_the_nearest_pair_is_the_one_that_a_tree_finds():
    policy = make(Prdc, PrdcConfig, TD3, PRDC, beta=2.0)
    table = bandit(500)
    policy.study(table)
    spread = table["condition"].std(0, ddof=1)
    pairs = np.concatenate([2.0 * table["condition"] / spread, table["action"][:, 0]], axis=1)
    scene = policy.encode({"condition": torch.randn(64, 2), "anchor": torch.zeros(64, 1)})
    own = torch.randn(64, 1, 1)
    asked = np.concatenate([2.0 * scene.condition.numpy() / spread, own[:, 0].numpy()], axis=1)
    _, index = cKDTree(pairs).query(asked)
    assert policy.known is not None
    np.testing.assert_allclose(policy.nearest(scene, own, policy.known)[:, 0, 0], table["action"][index, 0, 0], atol=1e-6)


def test_blocks_do_not_change_the_nearest(monkeypatch):
    policy = make(Prdc, PrdcConfig, TD3, PRDC)
    policy.study(bandit(500))
    scene, own = policy.encode({"condition": torch.randn(64, 2), "anchor": torch.zeros(64, 1)}), torch.randn(64, 1, 1)
    assert policy.known is not None
    whole = policy.nearest(scene, own, policy.known)
    monkeypatch.setattr("policies.prdc.BLOCK", 37)
    assert torch.equal(whole, policy.nearest(scene, own, policy.known))


def test_a_large_data_set_is_thinned_out_evenly():
    policy = make(Prdc, PrdcConfig, TD3, PRDC, most=100)
    policy.study(bandit(950))
    assert policy.known is not None
    assert len(policy.known[1]) == 95


def test_prdc_is_not_tied_to_what_was_done_in_the_same_scene():
    """Where the actor does what somebody did next door, PRDC is content and TD3+BC is not."""
    table = {name: value[:2] for name, value in bandit(2).items()}
    table["condition"][:] = [[0.0, 0.0], [0.01, 0.0]]
    table["action"][:] = np.array([[[1.0]], [[-1.0]]])
    policy = make(Prdc, PrdcConfig, TD3, PRDC)
    policy.study(table)
    scene = policy.encode({"condition": torch.zeros(1, 2), "anchor": torch.zeros(1, 1)})
    did, own = torch.ones(1, 1, 1), -torch.ones(1, 1, 1)
    assert float(policy.tie(scene, did, own)) < 1e-6
    assert float(Td3.tie(policy, scene, did, own)) == pytest.approx(4.0)


def test_the_generator_of_a2pr_learns_only_what_was_good():
    policy = fit(make(A2pr, A2prConfig, TD3, A2PR), bandit(2000))
    point = torch.tensor([[0.8, 0.0], [-0.8, 0.0]]).repeat(64, 1)
    with torch.no_grad():
        chunk = policy.decoded(policy.encode({"condition": point, "anchor": torch.zeros(128, 1)}), torch.zeros(128, 4))[:, 0, 0]
    assert float((chunk - point[:, 0]).abs().mean()) < 0.25


def test_an_expectile_is_where_its_weights_balance():
    """Of values 0 and 1 in equal parts the expectile tau is tau itself."""
    policy = make(Iql, IqlConfig, IQL)
    gain = torch.tensor([0.0, 1.0]) - torch.tensor(0.8)
    weight = torch.where(gain > 0, policy.settings.expectile, 1 - policy.settings.expectile)
    assert float((weight * gain).sum()) == pytest.approx(0.0, abs=1e-6)
    table = bandit(4000, mixed=0.5)
    table["condition"][:] = 0.0
    table["next_condition"][:] = 0.0
    table["action"][:] = np.where(np.arange(4000) % 2, 0.5, -0.5)[:, None, None]
    table["reward"][:] = (np.arange(4000) % 2).astype(np.float32)
    policy = fit(policy, table, 400)
    assert float(policy.value(torch.zeros(1, 2))[0, 0, 0]) == pytest.approx(0.8, abs=0.06)


def test_weights_are_exponents_of_the_advantage_and_bounded():
    policy = make(Iql, IqlConfig, IQL)
    gain = torch.tensor([-1.0, 0.0, 1.0, 100.0])
    assert torch.allclose(policy.weight(2.0, gain), torch.tensor([math.exp(-2), 1.0, math.exp(2), policy.LARGEST]))


def test_the_actor_is_the_weighted_mean_in_closed_form():
    """One scene, pushes +1 with advantage g and -1 with advantage 0: the weighted mean is tanh(beta g / 2)."""
    policy = make(Iql, IqlConfig, IQL, beta=1.5)
    optimizer = torch.optim.Adam(policy.denoiser.parameters(), 1e-2)
    scene = policy.encode({"condition": torch.zeros(2, 2), "anchor": torch.zeros(2, 1)})
    did, gain = torch.tensor([1.0, -1.0])[:, None, None], torch.tensor([1.0, 0.0])
    for _ in range(300):
        loss = policy.actor({}, scene, did, gain)["actor"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(policy.middle(scene)[0].detach()) == pytest.approx(math.tanh(0.75), abs=0.02)


def test_one_family_is_cautious_and_greedy():
    policy = fit(make(Famo2o, Famo2oConfig, IQL, FAMO2O), bandit(2000), 500)
    point = torch.rand(512, 2) * 2 - 1
    scene = policy.encode({"condition": point, "anchor": torch.zeros(512, 1)})
    regrets = []
    for beta in (0.0, 0.5, 2.0):
        with torch.no_grad():
            push = policy.member(scene, torch.full((512,), beta))[:, 0, 0]
        regrets.append(float(((push - point[:, 0]) ** 2).mean()))
    assert regrets[0] > regrets[1] > regrets[2]
    assert regrets[0] > 0.1 > 2 * regrets[2]
    with torch.no_grad():
        chosen = policy.temperature_of(policy.chooser.middle(point)).mean()
    assert float(chosen) > 1.1  # greed pays here, and the chooser knows


def test_the_chooser_moves_beta_and_not_the_family():
    policy = make(Famo2o, Famo2oConfig, IQL, FAMO2O)
    torch.nn.init.normal_(policy.denoiser.last.weight, std=0.3)
    scene = policy.encode({"condition": torch.randn(8, 2), "anchor": torch.zeros(8, 1)})
    beta = torch.full((8,), 2.0, requires_grad=True)
    chunk = policy.member(scene, beta, frozen=True)
    assert torch.equal(chunk, policy.member(scene, beta))
    chunk.sum().backward()
    assert beta.grad is not None
    assert float(beta.grad.abs().sum()) > 0
    assert all(p.grad is None for p in policy.denoiser.parameters())


def test_a_temperature_is_shown_in_three_wavelengths():
    policy = make(Famo2o, Famo2oConfig, IQL, FAMO2O)
    phases = [1.7 / 10000 ** (k / 3) for k in range(3)]
    expected = [math.sin(p) for p in phases] + [math.cos(p) for p in phases]
    assert torch.allclose(policy.shown(torch.tensor([1.7]))[0], torch.tensor(expected), atol=1e-6)


def test_online_the_family_learns_where_its_chooser_goes():
    """A batch of trials knows no `return`; then beta is the chooser's, and a deterministic batch gives one loss."""
    policy = make(Famo2o, Famo2oConfig, IQL, FAMO2O)
    seen = []
    policy.member = lambda scene, beta, frozen=False: seen.append(beta.detach()) or torch.zeros(len(beta), 1, 1)  # type: ignore
    table = {name: torch.from_numpy(value) for name, value in bandit(256).items()}
    policy.loss(table)
    assert float(seen[0].std()) > 0.4  # uniform over the family
    seen.clear()
    policy.loss({name: value for name, value in table.items() if name != "return"})
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize(
    ("kind", "config", "parts", "changes", "word"),
    [
        (Td3, Td3Config, (TD3,), {"chunk": 4, "execute": 2}, "executed whole"),
        (
            Td3,
            Td3Config,
            (TD3,),
            {"generative": GenerativeConfig(Kind.flow, 1, 1, 3.0, False, Times.uniform, Prediction.epsilon)},
            "regression",
        ),
        (Td3, Td3Config, (TD3,), {"delay": 0}, "delay"),
        (Prdc, PrdcConfig, (TD3, PRDC), {"beta": 0.0}, "beta"),
        (A2pr, A2prConfig, (TD3, A2PR), {"latent": 0}, "latent"),
        (Iql, IqlConfig, (IQL,), {"expectile": 1.0}, "expectile"),
        (Famo2o, Famo2oConfig, (IQL, FAMO2O), {"family": [3.0, 1.0]}, "family"),
    ],
)
def test_what_makes_no_sense_is_refused(kind, config, parts, changes, word):
    with pytest.raises(ConfigError, match=word):
        make(kind, config, *parts, **changes)
