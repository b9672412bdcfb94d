"""Chunks carried out world by world, and what becomes of them in a replay."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from policies.policy import Plan, Policy
from robot.core.errors import ConfigError
from robot.core.interface import Field, Interface
from robot.learn.execution import Execution
from robot.learn.replay import Replay, ReplayConfig, transitions
from sim.env import Env

LINE = Interface((Field("where", (1,)),), Field("push", (1,)), 0.1)


class Line(Env):
    """A point that is pushed; the episode e ends after 3 + e % 3 steps, in success if e is even."""

    def __init__(self, worlds: int) -> None:
        super().__init__(LINE, worlds, max_steps=100)
        self.where = torch.zeros(worlds, 1)

    def _reset(self, ids):
        self.where[ids] = 10.0 * self.episode[ids, None]

    def _apply(self, action):
        self.where = self.where + action

    def _observe(self):
        return {"where": self.where.clone()}

    def _reward(self):
        return {"place": self.where[:, 0].clone()}

    def _terminated(self):
        return self.steps >= 3 + self.episode % 3

    def metrics(self):
        return {"success": (self.episode % 2 == 0).float()}


class Counter(Policy):
    """Plans of two actions: how often it was asked in this episode, and a hundredth of where it was."""

    def __init__(self):
        super().__init__(LINE)
        self.asked, self.execute = 0, 2
        self.config = SimpleNamespace(discount=0.5)

    def initial_memory(self, batch):
        return {"seen": torch.zeros(batch, 1)}

    def noise_shape(self):
        return (1,)

    def prepare(self, observation, memory):
        return {"where": observation["where"], "seen": memory["seen"]}, {"seen": memory["seen"] + 1}

    def decide(self, inputs, memory, noise=None):
        self.asked += len(inputs["where"])
        actions = torch.stack([inputs["seen"], inputs["where"] / 100], dim=1)
        return Plan(actions, memory, aside={"noise": noise})

    def loss(self, batch):
        return {"loss": batch["reward"].mean()}


def drive(worlds, steps):
    env, policy = Line(worlds), Counter()
    observation, _ = env.reset(seed=0)
    execution, taken = Execution(policy, env, 0), {}
    for _ in range(steps):
        numbers = env.episode.tolist()
        action = execution.act(observation)
        for i, number in enumerate(numbers):
            taken.setdefault(number, []).append(round(float(action[i, 0]), 4))
        observation, _, _, _, info = env.step(action)
        execution.end(info["done"])
    return taken, policy, execution


def test_a_plan_ends_with_its_episode_and_every_step_is_seen():
    taken, policy, _ = drive(3, 12)
    assert taken[0] == [0.0, 0.0, 2.0], "the second plan has seen two steps"
    assert taken[3] == [0.0, 0.3, 2.0], "the next episode of the world begins with a plan of its own"
    assert policy.asked < 3 * 12 * 0.7


def test_what_a_world_does_depends_on_no_other():
    many, _, _ = drive(4, 12)
    one, _, _ = drive(1, 40)
    for number in range(4):
        assert many[number] == one[number]


def test_policies_that_plan_whole_batches_are_asked_for_whole_batches():
    env, policy = Line(3), Counter()
    policy.alone = False
    observation, _ = env.reset(seed=0)
    execution = Execution(policy, env, 0)
    for _ in range(4):
        observation, _, _, _, info = env.step(execution.act(observation))
        execution.end(info["done"])
    assert policy.asked % 3 == 0


def test_transitions_of_recorded_episodes():
    """Two episodes, of 4 frames that end in success and of 3 that ran out of time; chunks of 2, discount one half."""
    frames = {
        "where": np.arange(7.0)[:, None], "action": np.arange(7.0)[:, None], "reward": np.array([1.0, 2, 3, 4, 10, 20, 30]),
        "terminated": np.array([0.0, 0, 0, 1, 0, 0, 0]),
    }  # fmt: skip
    table = transitions(frames, np.array([3, 3, 3, 3, 6, 6, 6]), 2, 0.5)
    np.testing.assert_allclose(table["reward"][:4], [2.0, 3.5, 5.0, 4.0])
    np.testing.assert_allclose(table["discount"][:4], [0.25, 0.25, 0.0, 0.0])
    assert table["next_where"][:2, 0].tolist() == [2.0, 3.0]
    np.testing.assert_allclose(table["reward"][4:6], [20.0, 20.0])
    np.testing.assert_allclose(table["discount"][4:6], [0.25, 0.5])
    assert table["next_where"][4:6, 0].tolist() == [6.0, 6.0]
    np.testing.assert_allclose(table["return"][:4], [1 + 1 + 0.75 + 0.5, 2 + 1.5 + 1, 5.0, 4.0])
    assert table["action"][2, :, 0].tolist() == [2.0, 3.0]


def test_trials_become_transitions(tmp_path):
    env, policy = Line(2), Counter()
    replay = Replay(ReplayConfig(4, 1, 8, None, 0.0), env)
    replay.open(tmp_path, 0)
    batch = replay.batch(0, policy)
    assert set(batch) >= {"where", "action", "reward", "discount", "next_where", "noise"}
    table = {name: value[: replay.size] for name, value in replay.table.items()}
    first = int(np.nonzero((table["where"][:, 0] == 0) & (table["seen"][:, 0] == 0))[0][0])
    assert table["reward"][first] == 0.0
    assert table["discount"][first] == 0.25
    assert table["next_seen"][first] == 2.0
    ended = table["discount"] == 0
    assert ended.any()
    assert (table["discount"][~ended] == 0.25).all()
    assert replay.steps == 16


class Plain(Counter):
    """The same, with nothing set aside."""

    def decide(self, inputs, memory, noise=None):
        plan = super().decide(inputs, memory, noise)
        plan.aside = {}
        return plan


def test_every_frame_begins_a_transition_as_in_recorded_episodes(tmp_path):
    replay, periods = Replay(ReplayConfig(4, 1, 40, None, 0.0), Line(1)), 40
    replay.open(tmp_path, 0)
    replay.batch(0, Plain())
    env, policy, columns = Line(1), Plain(), {name: [] for name in ("where", "action", "reward", "terminated")}
    observation, _ = env.reset(seed=1)
    execution = Execution(policy, env, 1)
    for _ in range(periods):
        columns["where"].append(observation["where"][0].numpy())
        action = execution.act(observation)
        observation, reward, terminated, _, info = env.step(action)
        for name, value in (("action", action[0]), ("reward", reward[0]), ("terminated", terminated[0])):
            columns[name].append(value.float().numpy())
        execution.end(info["done"])
    frames = {name: np.stack(values) for name, values in columns.items()}
    ends = np.nonzero(frames["terminated"])[0]
    count = ends[-1] + 1
    last = ends[np.searchsorted(ends, np.arange(count))]
    expected = transitions({name: value[:count] for name, value in frames.items()}, last, 2, 0.5)
    own = {name: value[: replay.size] for name, value in replay.table.items()}

    def rows(table, n):
        return sorted(
            np.column_stack([table[name][:n].reshape(n, -1) for name in ("where", "action", "reward", "discount")])
            .round(4)
            .tolist()
        )

    got = rows(own, replay.size)
    for row in rows(expected, count):
        assert row in got
    assert replay.size - count <= 5, "what the last, unfinished episode gave"


def test_interrupted_trials_go_on_with_the_same_numbers(tmp_path):
    def batches(replay, steps):
        return [replay.batch(step, Counter())["reward"] for step in steps]

    whole = Replay(ReplayConfig(4, 2, 8, None, 0.0), Line(2))
    whole.open(tmp_path / "a", 0)
    (tmp_path / "a").mkdir()
    batches(whole, range(4))
    whole.saved(4)
    expected = batches(whole, range(4, 8))
    resumed = Replay(ReplayConfig(4, 2, 8, None, 0.0), Line(2))
    resumed.open(tmp_path / "a", 0)
    resumed.resume(4)
    for a, b in zip(expected, batches(resumed, range(4, 8)), strict=True):
        assert torch.equal(a, b)
    assert resumed.steps == whole.steps


def test_wrong_keys_are_refused():
    with pytest.raises(ConfigError, match="share"):
        Replay(ReplayConfig(4, 1, 1, None, 1.0), Line(1))
