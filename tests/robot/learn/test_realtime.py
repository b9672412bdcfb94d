"""Plans that come late: when each mode plays what, and that an inpainted chunk continues the old one."""

import itertools
import math

import pytest
import torch
from hydra import compose, initialize_config_dir

from policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from policies.generative import GenerativeConfig, Kind, Prediction, Times
from policies.generator import Generator, Scene
from policies.gpc import Gpc, GpcConfig, Operator
from policies.policy import Plan, Policy
from robot.core import paths
from robot.core.errors import ConfigError
from robot.core.interface import Field, Interface
from robot.learn.evaluator import Evaluator, EvaluatorConfig
from robot.learn.execution import Execution
from robot.learn.realtime import ExecutionConfig, Jerk, Mode, execution_of, inpainted, mask, periods
from sim.env import Env

WALK = Interface((Field("agent", (1,)), Field("clock", (1,))), Field("target", (1,)), 0.1)
LENGTH = 8
RAMP = torch.linspace(0.5, 1.0, LENGTH)[None, :, None]
FLAT = {"_target_": "policies.nn.features.Flat", "scale": {"clock": 1.0}, "offset": {}, "differences": [], "finer": 0.0}
MLP = {"_target_": "policies.nn.mlp.ResidualMlp", "width": 64, "blocks": 2}


class Walk(Env):
    """An agent that goes half of the way to its target each period; episode e lasts `steps` + e % 3 of them."""

    def __init__(self, worlds=1, steps=1000):
        super().__init__(WALK, worlds, max_steps=100_000)
        self.agent, self.last = torch.zeros(worlds, 1), steps

    def _reset(self, ids):
        self.agent[ids] = 0.1 * self.episode[ids, None]

    def _apply(self, action):
        self.agent = self.agent + 0.5 * (action - self.agent)

    def _observe(self):
        return {"agent": self.agent.clone(), "clock": self.steps[:, None].float()}

    def _reward(self):
        return {"none": torch.zeros(self.num_envs)}

    def _terminated(self):
        return self.steps >= self.last + self.episode % 3

    def metrics(self):
        return {"success": torch.ones(self.num_envs), "time": 0.1 * self.steps}


class Scribe(Policy):
    """Plans eight actions, each 100 times the step that it was decided at plus its place in the plan."""

    def __init__(self):
        super().__init__(WALK)

    def decide(self, inputs, memory, noise=None):
        return Plan(100 * inputs["clock"][:, None] + torch.arange(LENGTH)[:, None], memory)


class TwoWays(Generator):
    """Chunks that are all at +1 or all at -1, of the agent if `relative`, by the exact velocity field of that distribution."""

    def __init__(self, relative=True):
        super().__init__(WALK)
        self.chunk, self.execute, self.condition_size, self.relative = LENGTH, 4, 1, relative
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def encode(self, inputs):
        return Scene(inputs["clock"], self.relative * inputs["agent"][:, None])

    def velocity(self, x, t, scene):
        t = t[:, None, None].clamp_min(1e-3)
        clean = torch.tanh((1 - t) * x.sum((1, 2), keepdim=True) / t**2).expand_as(x)
        return (x - clean) / t

    def times(self):
        return torch.linspace(1, 0, 11)

    def flow_to(self, noise, scene):
        x, times = noise, self.times()
        for now, then in itertools.pairwise(times):
            x = x + (then - now) * self.velocity(x, now.expand(len(x)), scene)
        return x


def config(mode="wait", delay=0, every=None, decay=0.01, guidance=5.0, latency=None):
    return ExecutionConfig(Mode[mode], delay, latency, every, decay, guidance)


def played(policy, steps, worlds=1, last=1000, **keys):
    """Actions by episode, in order."""
    env = Walk(worlds, last)
    observation, _ = env.reset(seed=0)
    execution, taken = execution_of(config(**keys), policy, env, 0), {}
    for _ in range(steps):
        numbers = env.episode.tolist()
        action = execution.act(observation)
        for i, number in enumerate(numbers):
            taken.setdefault(number, []).append(float(action[i, 0]))
        observation, _, _, _, info = env.step(action)
        execution.end(info["done"])
    return taken


def test_without_a_delay_nothing_is_new():
    for mode in ("wait", "async"):
        assert type(execution_of(config(mode), Scribe(), Walk(), 0)) is Execution
    plain = played(TwoWays(), 12)[0]
    assert played(TwoWays(), 12, mode="realtime", guidance=0.0)[0] == pytest.approx(plain, abs=1e-5)
    assert played(TwoWays(), 12, mode="async", every=4)[0] == plain
    assert played(Scribe(), 20, mode="ensemble", every=LENGTH)[0] == played(Scribe(), 20)[0]


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_waiting_loses_the_delay_of_every_plan_but_the_first(delay):
    taken = played(Scribe(), 2 * LENGTH + delay, mode="wait", delay=delay)[0]
    assert taken == [*range(LENGTH), *[LENGTH - 1] * delay, *range(100 * LENGTH, 100 * LENGTH + LENGTH)]


def test_going_on_jumps_to_where_the_new_plan_is_by_then():
    taken = played(Scribe(), 15, mode="async", delay=2, every=5)[0]
    assert taken == [0, 1, 2, 3, 4, 5, 6, 502, 503, 504, 505, 506, 1002, 1003, 1004]


def test_an_ensemble_is_the_weighted_mean_of_the_plans_that_reach_the_step():
    taken = played(Scribe(), 9, mode="ensemble", delay=1, every=2, decay=0.5)[0]
    weights = [math.exp(-0.5 * k) for k in range(4)]
    assert taken[:3] == [0, 1, 2]
    assert taken[3] == pytest.approx((3 * weights[0] + 201 * weights[1]) / sum(weights[:2]), rel=1e-6)
    said = [7, 205, 403, 601]
    assert taken[7] == pytest.approx(sum(w * a for w, a in zip(weights, said, strict=True)) / sum(weights), rel=1e-6)
    said = [206, 404, 602]
    assert taken[8] == pytest.approx(sum(w * a for w, a in zip(weights, said, strict=False)) / sum(weights[:3]), rel=1e-6)


def test_a_plan_on_its_way_dies_with_its_episode():
    taken = played(Scribe(), 14, last=6, mode="async", delay=2, every=5)
    assert taken[0] == [0, 1, 2, 3, 4, 5]
    assert taken[1] == [0, 1, 2, 3, 4, 5, 6]


def test_latency_is_rounded_up_to_control_periods():
    assert [periods(config(latency=ms), 0.1) for ms in (0.0, 1.0, 100.0, 100.1, 250.0)] == [0, 1, 1, 2, 3]


def test_what_is_executed_before_the_new_chunk_comes_is_the_old_one():
    policy, env = TwoWays(), Walk(3)
    observation, _ = env.reset(seed=0)
    execution = execution_of(config("realtime", 2), policy, env, 0)
    chunks, taken = [], []
    for _ in range(7):
        taken.append(execution.act(observation))
        chunks.append(execution.plan.actions)
        observation = env.step(taken[-1])[0]
    old, new = chunks[3], chunks[4]
    assert not torch.equal(old, new)
    assert torch.equal(new[:, :2], old[:, 4:6]), "though the agent, which actions are relative to, has moved"
    assert torch.equal(torch.stack(taken[4:7], 1), torch.cat([old[:, 4:6], new[:, 2:3]], 1))


def test_the_mask_falls_from_the_delay_to_the_end_of_the_old_chunk():
    weights = mask(torch.tensor([8, 4, 0]), 2, 8)
    assert weights[0, :2].tolist() == [1, 1]
    assert bool((weights[0].diff() < 0)[1:].all())
    c = (8 - 3) / (8 - 2 + 1)
    assert float(weights[0, 3]) == pytest.approx(c * (math.exp(c) - 1) / (math.e - 1), rel=1e-5)
    assert weights[1, 4:].tolist() == [0] * 4
    assert weights[2].tolist() == [0] * 8


def test_without_guidance_a_chunk_is_drawn_as_ever():
    policy, noise = TwoWays(), torch.randn(16, LENGTH, 1, generator=torch.Generator().manual_seed(0))
    scene = Scene(torch.zeros(16, 1), torch.zeros(16, 1, 1))
    free = policy.flow_to(noise, scene)
    for weights, guidance in ((torch.ones(16, LENGTH), 0.0), (torch.zeros(16, LENGTH), 5.0)):
        torch.testing.assert_close(inpainted(policy, noise, scene, -free, weights, guidance), free, rtol=0, atol=1e-5)


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_where_going_on_jumps_a_guided_chunk_does_not(delay):
    env, jerk = Walk(64), {}
    for mode in ("async", "realtime"):
        jerk[mode] = Jerk(0.1)
        evaluator = Evaluator(EvaluatorConfig(64, 0, 0, 0, config(mode, delay, 4)))
        env.last = 40
        evaluator.run(TwoWays(relative=False), env, quiet=True, watch=jerk[mode])
    assert jerk["async"].border > 3 * jerk["realtime"].border


@pytest.mark.parametrize("mode", ["wait", "async", "ensemble", "realtime"])
def test_an_episode_is_the_same_among_any_others(mode):
    one, again, many = (played(TwoWays(), n, b, 15, mode=mode, delay=2, every=3) for n, b in ((80, 1), (80, 1), (20, 5)))
    assert one == again
    for number in range(4):
        assert many[number] == pytest.approx(one[number], abs=1e-4)


def test_jerk_tells_borders_from_the_rest():
    jerk = Jerk(1.0)
    for k, value in enumerate([0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0, 14.0, 0.0, 0.0]):
        jerk(torch.tensor([[value]]), torch.tensor([k in (0, 4, 9)]), torch.tensor([k == 8]))
    assert jerk.counts == [1, 5]
    assert jerk.border == 12.0
    assert jerk.inside == pytest.approx(12 / 5)


@pytest.mark.parametrize(
    ("keys", "policy", "told"),
    [
        ({"mode": "realtime"}, Scribe(), "mode=async"),
        ({"mode": "async", "delay": 3, "every": 2}, TwoWays(), "one plan at a time"),
        ({"mode": "async", "delay": 5}, TwoWays(), "one plan at a time"),
        ({"mode": "async", "delay": 3, "every": 6}, TwoWays(), "every at most 5"),
        ({"mode": "async", "delay": 5, "every": 5}, TwoWays(), "choose mode=wait"),
        ({"every": 0}, TwoWays(), "at least 1"),
        ({"delay": 1, "latency": 20.0}, TwoWays(), "only one"),
        ({"delay": -1}, TwoWays(), "negative"),
        ({"guidance": -1.0}, TwoWays(), "negative"),
    ],
)
def test_what_cannot_be_done_is_refused(keys, policy, told):
    with pytest.raises(ConfigError, match=told):
        played(policy, 1, **keys)


@pytest.mark.parametrize("name", sorted(file.stem for file in (paths.CONFIGS / "evaluator").glob("*.yaml")))
def test_every_yaml_plays_at_once(name):
    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        node = compose("evaluate", [f"evaluator={name}"]).evaluator.execution
    assert type(execution_of(config(**{**node, "mode": str(node.mode)}), TwoWays(), Walk(), 0)) is Execution


def learner(kind, steps):
    generative = GenerativeConfig(kind, 100, steps, 3.0, False, Times.uniform, Prediction.epsilon)
    return DiffusionPolicyConfig(LENGTH, 4, 1, FLAT, MLP, None, [0.0], [1.0], 1.0, generative)


def trained(kind, steps):
    """A small policy that has learnt chunks that rise or fall, equally likely."""
    torch.manual_seed(0)
    policy = DiffusionPolicy(learner(kind, steps), WALK)
    optimizer = torch.optim.Adam(policy.parameters(), 1e-3)
    for _ in range(500):
        chunk = torch.where(torch.rand(128, 1, 1) < 0.5, 1.0, -1.0) * RAMP + 0.05 * torch.randn(128, LENGTH, 1)
        inputs = {"condition": torch.zeros(128, 1), "anchor": torch.zeros(128, 1), "valid": torch.ones(128, LENGTH)}
        optimizer.zero_grad()
        policy.loss({**inputs, "action": chunk})["loss"].backward()
        optimizer.step()
    return policy.eval()


@pytest.mark.parametrize(("kind", "steps"), [(Kind.flow, 10), (Kind.diffusion, 10), (Kind.diffusion, 100)])
def test_learnt_fields_are_guided_too(kind, steps):
    policy = trained(kind, steps)
    noise = torch.randn(256, LENGTH, 1, generator=torch.Generator().manual_seed(1))
    scene = Scene(torch.zeros(256, 1), torch.zeros(256, 1, 1))
    with torch.no_grad():
        free = policy.flow_to(noise, scene)
    drawn = inpainted(policy, noise, scene, free, torch.ones(256, LENGTH), 0.0)
    torch.testing.assert_close(drawn, free, rtol=0, atol=1e-2)
    held = inpainted(policy, noise, scene, RAMP.expand(256, -1, -1), mask(torch.full((256,), LENGTH), 2, LENGTH), 5.0)
    assert float((free.mean((1, 2)) > 0).float().mean()) < 0.6
    assert float((held.mean((1, 2)) > 0).float().mean()) > 0.7
    assert float((held - RAMP)[:, :2].abs().median()) < 0.1


@pytest.mark.parametrize("operator", list(Operator))
def test_compositions_are_guided_where_they_have_a_field(operator):
    node = {**vars(learner(Kind.flow, 4)), "_target_": "policies.diffusion_policy.DiffusionPolicy"}
    node["generative"] = {**vars(node["generative"]), "kind": "flow", "times": "uniform"}
    policy = Gpc(GpcConfig([node, node], [0.5, 0.5], None, operator, 1.0, 4, 0.5, 4), WALK)
    if operator is not Operator.convex:
        with pytest.raises(ConfigError, match="operator=convex"):
            played(policy, 1, mode="realtime")
        return
    plain = played(policy, 12)[0]
    assert played(policy, 12, mode="realtime", guidance=0.0)[0] == pytest.approx(plain, abs=1e-5)


def test_what_follows_no_field_is_refused():
    for kind, stochastic in ((Kind.regression, False), (Kind.diffusion, True)):
        keys = learner(kind, 10)
        keys.generative.stochastic = stochastic
        with pytest.raises(ConfigError, match="guides a velocity field"):
            played(DiffusionPolicy(keys, WALK), 1, mode="realtime")
