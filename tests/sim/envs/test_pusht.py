"""PushT against Chipmunk's own interface, recorded people, and geometry done another way."""

import json
import math
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from robot.core.config import build
from robot.core.errors import ConfigError, TillerError
from sim import gym
from sim.pusht.geometry import AREA, BAR, OUTLINE, STEM, coverage, placed
from sim.pusht.physics import DT, SUBSTEPS, Tables
from sim.pusht.physics import build as table

GOAL = np.array([256.0, 256.0, math.pi / 4])


def make(**keys):
    return build(gym.config("pusht", **{"threads": 1, **keys}), "env")


def played(actions, agent, pose):
    """The states after each control period, by pymunk's own interface with plain Python arithmetic."""
    space, block, disc = table()
    disc.position = tuple(agent)
    block.angle = pose[2]
    block.position = tuple(pose[:2])
    space.step(DT)
    out = []
    for action in actions:
        for _ in range(SUBSTEPS):
            pull = [100.0 * (a - p) + 20.0 * (0.0 - v) for a, p, v in zip(action, disc.position, disc.velocity, strict=True)]
            disc.velocity = tuple(v + a * DT for v, a in zip(disc.velocity, pull, strict=True))
            space.step(DT)
        out.append([*disc.position, *disc.velocity, *block.position, block.angle])
    return np.array(out)


def test_tables_are_pymunk_to_the_last_bit_on_any_number_of_threads():
    rng = np.random.default_rng(0)
    actions = rng.uniform(100, 400, (60, 5, 2)).repeat(3, axis=0)
    agents, poses = rng.uniform(50, 450, (5, 2)), np.column_stack([rng.uniform(150, 350, (5, 2)), rng.uniform(-3, 3, 5)])
    reference = np.stack([played(actions[:, i], agents[i], poses[i]) for i in range(5)], axis=1)
    assert np.abs(reference[-1, :, 4:6] - poses[:, :2]).max() > 10, "nothing was pushed"
    for threads in (1, 3):
        tables = Tables(5, threads)
        for i in range(5):
            tables.place(i, agents[i], poses[i])
        ours = np.stack([tables.step(action).copy() for action in actions])
        np.testing.assert_array_equal(ours, reference)


def test_coverage_is_the_share_of_points_inside_both():
    rng = np.random.default_rng(1)
    points = rng.uniform(-150, 150, (200_000, 2))

    def inside(pose):
        local = (points - pose[:2]) @ np.array([[math.cos(pose[2]), -math.sin(pose[2])], [math.sin(pose[2]), math.cos(pose[2])]])
        boxes = [(local[:, 0] > b[0]) & (local[:, 0] < b[1]) & (local[:, 1] > b[2]) & (local[:, 1] < b[3]) for b in (BAR, STEM)]
        return boxes[0] | boxes[1]

    for _ in range(5):
        a, b = np.array([*rng.uniform(-30, 30, 2), rng.uniform(-3, 3)]), np.array([*rng.uniform(-30, 30, 2), rng.uniform(-3, 3)])
        both = (inside(a) & inside(b)).mean() * 300**2 / AREA
        assert coverage(a, b) == pytest.approx(both, abs=0.02)
    assert coverage(GOAL, GOAL) == pytest.approx(1.0, abs=1e-12)
    assert coverage(GOAL + np.array([300.0, 0, 0]), GOAL) == 0.0
    assert coverage(GOAL + np.array([0, 0, 2 * math.pi]), GOAL) == pytest.approx(1.0, abs=1e-9)


def test_the_outline_has_the_area():
    x, y = placed(OUTLINE, np.array([30.0, -20.0, 1.3])).T
    assert 0.5 * abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) == pytest.approx(AREA)


def test_standard_starts_are_the_originals():
    """RandomState(100000) draws agent, then T, then the angle; the T is turned about its centre of mass after it is placed."""
    env = make(num_envs=2)
    observation, _ = env.reset(seed=100_000)
    draws = np.random.RandomState(100_000)
    agent = [draws.randint(50, 450), draws.randint(50, 450)]
    told = np.array([draws.randint(100, 400), draws.randint(100, 400)], float)
    angle = draws.randn() * 2 * math.pi - math.pi
    assert observation["agent"][0].tolist() == agent
    centre = told + np.array([0.0, 45.0])
    expected = centre - 45.0 * np.array([-math.sin(angle), math.cos(angle)])
    np.testing.assert_allclose(observation["block"][0, :2].numpy(), expected, atol=1.0)
    assert observation["block"][0, 2].item() == pytest.approx(angle % (2 * math.pi), abs=0.02)
    other, _ = env.reset(seed=100_001)
    assert torch.equal(other["agent"][0], observation["agent"][1])


def test_an_episode_that_reaches_the_goal_ends_and_counts():
    env = make(num_envs=2, standard=False)
    env.reset(seed=0)
    env.tables.place(0, (30.0, 30.0), GOAL)
    _, reward, terminated, _, info = env.step(torch.full((2, 2), 30.0))
    assert terminated.tolist() == [True, False]
    assert reward[0] == 1.0
    assert info["final_info"]["success"][0] == 1
    assert info["final_info"]["score"][0] == 1
    assert 0 <= reward[1] < 1


def test_friction_holds_the_block_back():
    moved = []
    for friction in (0.0, 1.0):
        env = make(num_envs=1, standard=False, friction=[friction, friction])
        env.reset(seed=0)
        env.tables.place(0, (256.0, 150.0), (256.0, 256.0, 0.0), friction=friction)
        for _ in range(10):
            env.step(torch.tensor([[310.0, 262.0]]))
        moved.append(env.tables.state[0, 4:].copy())
    assert np.abs(moved[0] - moved[1]).max() > 1e-3
    assert env.params["friction"].tolist() == [1.0]


def test_disturbance_moves_the_agent_and_no_record_shows_it():
    calm, shaken = make(num_envs=3), make(num_envs=3, disturbance=20.0)
    for env in (calm, shaken):
        env.reset(seed=1)
    target = torch.full((3, 2), 200.0)
    a = torch.stack([calm.step(target)[0]["agent"] for _ in range(40)])[20:]
    b = torch.stack([shaken.step(target)[0]["agent"] for _ in range(40)])[20:]
    assert float(a.std()) < 0.1
    assert 3 < float(b.std()) < 20


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"friction": [0.5, 0.1]}, "friction"), ({"goal": [1.0, 2.0]}, "3 finite"), ({"threshold": 1.5}, "threshold"),
        ({"pixels": -1}, "pixels"), ({"num_envs": 0}, "num_envs"), ({"goal": [float("nan"), 0.0, 0.0]}, "finite"),
    ],
)  # fmt: skip
def test_wrong_keys_are_refused_in_words(keys, words):
    with pytest.raises(ConfigError, match=words):
        make(**keys)


@pytest.mark.parametrize("store", ["npz", "zarr"])
def test_demonstrations_of_people_become_a_dataset(tmp_path, store, capsys):
    from robot.data.episodes import EpisodeDataset
    from robot.examples.convert_pusht import main

    actions = np.array([[200.0, 220.0]] * 6 + [[320.0, 300.0]] * 4)
    tables = Tables(1)
    states = []
    for first, last in ((0, 6), (6, 10)):
        tables.place(0, (150.0, 150.0), (256.0, 256.0, 0.5))
        for action in actions[first:last]:
            states.append([*tables.state[0, :2], *tables.state[0, 4:]])
            tables.step(action[None])
    arrays = {"state": np.array(states, np.float32), "action": actions.astype(np.float32), "episode_ends": np.array([6, 10])}
    source = tmp_path / f"people.{store}"
    if store == "npz":
        np.savez(source, **arrays)
    else:
        for name, value in arrays.items():
            folder = source / ("meta" if name == "episode_ends" else "data") / name
            folder.mkdir(parents=True)
            chunks = [4, *value.shape[1:]]
            about = {"dtype": value.dtype.str, "shape": list(value.shape), "chunks": chunks, "compressor": {"id": "zlib"}}
            (folder / ".zarray").write_text(json.dumps(about))
            for k in range(-(-len(value) // 4)):
                part = np.zeros(chunks, value.dtype)
                part[: len(value[4 * k : 4 * k + 4])] = value[4 * k : 4 * k + 4]
                (folder / ".".join([str(k)] + ["0"] * (value.ndim - 1))).write_bytes(zlib.compress(part.tobytes()))
    main([f"source={source}", f"output={tmp_path / 'out'}"])
    assert "2 episodes, 10 frames" in capsys.readouterr().out
    dataset = EpisodeDataset(tmp_path / "out")
    assert dataset.lengths.tolist() == [6, 4]
    episode = dataset.episode(0)
    np.testing.assert_array_equal(episode.observation["block"], arrays["state"][:6, 2:])
    np.testing.assert_array_equal(episode.arrays["action"], arrays["action"][:6])
    speed = np.linalg.norm(episode.observation["agent_velocity"], axis=1)
    assert speed[0] == 0
    assert speed[1] > 10
    with pytest.raises(TillerError, match="no store"):
        main([f"source={tmp_path / 'nothing.npz'}", f"output={tmp_path / 'x'}"])


def test_the_mirror_is_a_symmetry_of_the_task():
    """What the mirrored actions do from the mirrored start is the mirror of what was done."""
    from robot.examples.convert_pusht import mirrored

    actions = np.array([[240.0, 330.0]] * 8 + [[300.0, 310.0]] * 8 + [[256.0, 200.0]] * 8)
    tables, columns = Tables(1), {"agent": [], "agent_velocity": [], "block": []}
    tables.place(0, (150.0, 240.0), (256.0, 256.0, 0.5))
    for action in actions:
        for name, part in zip(columns, (slice(0, 2), slice(2, 4), slice(4, 7)), strict=True):
            columns[name].append(tables.state[0, part].copy())
        tables.step(action[None])
    there = {name: np.stack(value) for name, value in columns.items()} | {"action": actions}
    assert np.abs(there["block"][-1] - there["block"][0]).max() > 10
    other = mirrored(there)
    tables.place(0, other["agent"][0], other["block"][0])
    for k, action in enumerate(other["action"]):
        gap = np.abs(tables.state[0, :4] - np.concatenate([other["agent"][k], other["agent_velocity"][k]])).max()
        turn = (tables.state[0, 6] - other["block"][k, 2] + np.pi) % (2 * np.pi) - np.pi
        assert max(gap, np.abs(tables.state[0, 4:6] - other["block"][k, :2]).max(), 60 * abs(turn)) < 1e-3
        tables.step(action[None])
    goal = mirrored({**there, "block": GOAL[None]})["block"][0]
    assert coverage(goal, GOAL) == pytest.approx(1.0)


DATA = Path(os.environ.get("TILLER_PUSHT", "data/pusht_cchi_v7_lowdim.npz"))


@pytest.mark.skipif(not DATA.exists(), reason="TILLER_PUSHT names no file of human demonstrations")
def test_recorded_actions_of_people_give_the_recorded_states():
    from tests.bench.bench_pusht import replay

    errors = replay(DATA)
    assert np.median(errors) < 1e-3
    assert errors.max() < 1.0
