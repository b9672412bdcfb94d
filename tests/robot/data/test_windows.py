"""Windows: what is gathered, what is padding, and an order that can be resumed."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from robot.core.errors import DatasetError
from robot.core.interface import Field, Interface
from robot.data.episodes import DatasetWriter, Episode, EpisodeDataset
from robot.data.windows import Shuffle, Windows

INTERFACE = Interface(
    (Field("depth", (2, 3), "float32", "m", "camera", 0.0), Field("clock", (1,), "float32", "s")),
    Field("push", (2,), "float32", "N"),
    dt=0.1,
)
LENGTHS = (4, 1, 6)


def make(number: int, length: int) -> Episode:
    frame = np.arange(length, dtype=np.float32)
    arrays = {
        "observation.depth": np.tile((frame / 8)[:, None, None], (1, 2, 3)),
        "observation.clock": (100 * number + frame)[:, None],
        "action": np.stack([100 * number + frame, -frame], 1),
        "reward": np.zeros(length, np.float32),
        "terminated": np.zeros(length, bool),
    }
    return Episode(arrays, {"episode": number})


@pytest.fixture
def episodes() -> list[Episode]:
    return [make(number, length) for number, length in enumerate(LENGTHS)]


def test_padding_repeats_inside_the_episode_and_is_masked(episodes: list[Episode]) -> None:
    windows = Windows(episodes, obs_steps=3, action_steps=4, interface=INTERFACE)
    assert len(windows) == 11
    batch = windows.gather(np.array([0, 3, 4, 7]))
    assert batch["depth"].shape == (4, 3, 2, 3)
    assert batch["action"].shape == (4, 4, 2)
    np.testing.assert_array_equal(batch["clock"][..., 0], [[0, 0, 0], [1, 2, 3], [100, 100, 100], [200, 201, 202]])
    np.testing.assert_array_equal(batch["action"][..., 0], [[0, 1, 2, 3], [3, 3, 3, 3], [100] * 4, [202, 203, 204, 205]])
    expected = [[True] * 4, [True, False, False, False], [True, False, False, False], [True] * 4]
    np.testing.assert_array_equal(batch["valid"], expected)
    np.testing.assert_array_equal(batch["depth"][3, :, 0, 0], np.float32([0, 0.125, 0.25]))


def test_a_batch_shares_no_memory_with_the_data(episodes: list[Episode]) -> None:
    windows = Windows(episodes, 2, 2, INTERFACE)
    first = windows.gather(np.arange(11))
    kept = {name: value.copy() for name, value in first.items()}
    for value in first.values():
        value[...] = 0
    for name, value in windows.gather(np.arange(11)).items():
        np.testing.assert_array_equal(value, kept[name])


def test_statistics_are_those_of_the_data(episodes: list[Episode]) -> None:
    stats = Windows(episodes, 2, 5, INTERFACE).stats()
    action = np.concatenate([e.arrays["action"] for e in episodes]).astype(np.float64)
    for key, value in (("mean", action.mean(0)), ("std", action.std(0)), ("min", action.min(0)), ("max", action.max(0))):
        np.testing.assert_allclose(stats["action"][key], value)
    depth = np.concatenate([e.arrays["observation.depth"] for e in episodes])
    assert stats["depth"]["mean"].shape == ()
    assert stats["depth"]["mean"] == pytest.approx(depth.mean())
    assert stats["clock"]["std"].shape == (1,)


def test_a_dataset_gives_the_same_windows_as_its_episodes(tmp_path: Path, episodes: list[Episode]) -> None:
    with DatasetWriter(tmp_path, INTERFACE, {}, 2) as writer:
        for episode in episodes:
            writer.append(episode)
    frames = np.arange(11)
    stored = Windows(EpisodeDataset(tmp_path), 2, 3).gather(frames)
    for name, value in Windows(episodes, 2, 3, INTERFACE).gather(frames).items():
        np.testing.assert_array_equal(stored[name], value)


def test_each_pass_visits_every_window_once_in_a_new_order(episodes: list[Episode]) -> None:
    order = Shuffle(Windows(episodes, 1, 1, INTERFACE), 5, np.random.default_rng(0))
    passes = [np.concatenate([next(order)["clock"][:, 0, 0] for _ in range(2)]) for _ in range(3)]
    for seen in passes:
        assert len(set(seen)) == 10
    assert not np.array_equal(passes[0], passes[1])
    assert len(next(Shuffle(Windows(episodes, 1, 1, INTERFACE), 64, np.random.default_rng(0)))["valid"]) == 11


@pytest.mark.parametrize("done", [0, 1, 2, 3, 7])
def test_the_order_goes_on_where_it_was_saved(episodes: list[Episode], done: int) -> None:
    windows = Windows(episodes, 2, 2, INTERFACE)
    whole = Shuffle(windows, 4, np.random.default_rng(3))
    for _ in itertools.repeat(None, done):
        next(whole)
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = Shuffle(windows, 4, np.random.default_rng(99))
    resumed.load_state_dict(state)
    for _ in range(6):
        expected, found = next(whole), next(resumed)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


def test_an_order_over_other_data_is_refused(episodes: list[Episode]) -> None:
    state = Shuffle(Windows(episodes, 1, 1, INTERFACE), 4, np.random.default_rng(0)).state_dict()
    other = Shuffle(Windows(episodes[:1], 1, 1, INTERFACE), 4, np.random.default_rng(0))
    with pytest.raises(DatasetError, match="11 windows, the dataset has 4"):
        other.load_state_dict(state)
