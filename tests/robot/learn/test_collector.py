"""Collection: order and content independent of the batch, and of where the process was killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robot.collect import main
from robot.core.interface import Field, Interface
from robot.data import files
from robot.data.episodes import DatasetWriter, EpisodeDataset
from robot.learn.collector import Collector
from sim.env import Env, Observation

INTERFACE = Interface(
    (Field("depth", (4, 5), "float32", "m", "camera", 0.0, 5.0), Field("state", (), "float32", "m")),
    Field("move", (2,), "float32", "m"),
    dt=0.5,
)
SEED = 11


class Walk(Env):
    """A random walk that ends after a random time; the image is the state and noise of the episode."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(INTERFACE, num_envs, max_steps=6)
        self.labels = {"family": ["home", "office"]}
        self.state = torch.zeros(num_envs)
        self.texture = torch.zeros(num_envs, 4, 5)
        self.limit = torch.zeros(num_envs)
        self.played = 0

    def _reset(self, ids: Tensor) -> None:
        for i in ids.tolist():
            rng = self.rng(i)
            self.texture[i] = torch.from_numpy(rng.integers(0, 4000, (4, 5)).astype(np.float32))
            self.limit[i] = float(rng.integers(2, 9))
            self.state[i] = 0.0

    def _apply(self, action: Tensor) -> None:
        self.played += 1
        self.state += action[:, 0].abs() + 1.0

    def _observe(self) -> Observation:
        depth = (self.texture + 10 * self.steps[:, None, None]) / 1000
        return {"depth": depth, "state": self.state.clone()}

    def _reward(self) -> dict[str, Tensor]:
        return {"distance": self.state.clone()}

    def _terminated(self) -> Tensor:
        return self.state >= self.limit

    def metrics(self) -> dict[str, Tensor]:
        return {"success": self._terminated(), "distance": self.state, "family": (self.limit > 5).long()}


class Chunks:
    """Plans of two actions from the observation, noise and a memory that counts the plans of the episode."""

    def initial_memory(self, batch: int) -> dict[str, Tensor]:
        return {"plans": torch.zeros(batch)}

    def noise_shape(self) -> tuple[int, ...]:
        return (2, 2)

    def act(
        self, observation: Observation, memory: dict[str, Tensor], noise: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        plans = memory["plans"] + 1
        return 0.1 * noise + 0.01 * (plans + observation["state"])[:, None, None], {"plans": plans}


def collect(root: Path, worlds: int, episodes: int, resume: bool = False) -> None:
    with DatasetWriter(root, INTERFACE, {"seed": SEED}, 3, resume) as writer:
        Collector(Walk(worlds), Chunks(), progress=False).run(writer, episodes, SEED)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("once")
    collect(root, 1, 11)
    return root


def test_frames_are_what_the_policy_saw_and_did(once: Path) -> None:
    dataset = EpisodeDataset(once)
    assert dataset.headers["episode"].tolist() == list(range(11))
    assert set(dataset.headers["seed"]) == {SEED}
    assert {"home", "office"} == set(dataset.headers["family"])
    assert 0 < dataset.headers["success"].sum() < 11
    for number in range(11):
        episode = dataset.episode(number)
        env, action = Walk(11), torch.zeros(11, 2)
        observation, _ = env.reset(seed=SEED)
        for t in range(len(episode)):
            np.testing.assert_allclose(episode.arrays["observation.depth"][t], observation["depth"][number], atol=1e-6)
            assert episode.arrays["observation.state"][t] == observation["state"][number]
            action[number] = torch.tensor(episode.arrays["action"][t])
            observation, reward, terminated, truncated, info = env.step(action)
            assert episode.arrays["reward"][t] == reward[number]
            assert episode.arrays["terminated"][t] == terminated[number]
            assert bool((terminated | truncated)[number]) == (t == len(episode) - 1)
        assert episode.header["success"] == bool(terminated[number])
        assert episode.header["distance"] == float(info["final_info"]["distance"][number])


@pytest.mark.parametrize("worlds", [2, 16])
def test_the_files_do_not_depend_on_the_batch(once: Path, tmp_path: Path, worlds: int) -> None:
    collect(tmp_path, worlds, 11)
    assert contents(tmp_path) == contents(once)


@pytest.mark.parametrize(("parts", "worlds"), [((4, 11), 3), ((1, 2, 9, 11), 1), ((6, 11, 11), 8)])
def test_a_longer_run_extends_a_shorter_one(once: Path, tmp_path: Path, parts: tuple[int, ...], worlds: int) -> None:
    for number, episodes in enumerate(parts):
        collect(tmp_path, worlds, episodes, resume=number > 0)
        assert len(EpisodeDataset(tmp_path)) == episodes
    assert contents(tmp_path) == contents(once)


def test_episodes_that_are_there_are_not_played_again(once: Path, tmp_path: Path) -> None:
    collect(tmp_path, 1, 9)
    env = Walk(1)
    with DatasetWriter(tmp_path, INTERFACE, {"seed": SEED}, 3, resume=True) as writer:
        Collector(env, Chunks(), progress=False).run(writer, 11, SEED)
    assert env.played == EpisodeDataset(once).lengths[9:].sum()


class Killed(BaseException):
    pass


def crash_in_replace(monkeypatch: pytest.MonkeyPatch, number: int, after: bool) -> None:
    """Let the process end in the `number`-th rename of a file, just before or just after it takes effect."""
    count = 0
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count == number and not after:
            raise Killed
        rename(source, target)
        if count == number:
            raise Killed

    monkeypatch.setattr(files.os, "replace", replace)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 4, 5, 6, 10, 13])
def test_a_crash_at_any_rename_loses_at_most_a_shard(
    once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    with monkeypatch.context() as patch:
        crash_in_replace(patch, number, after)
        with pytest.raises(Killed):
            Collector(Walk(2), Chunks(), progress=False).run(DatasetWriter(tmp_path, INTERFACE, {"seed": SEED}, 3), 11, SEED)
    whole = (number - (not after)) // 5
    if whole:
        dataset = EpisodeDataset(tmp_path)
        assert len(dataset) == 3 * whole
        assert [len(episode) for episode in dataset] == dataset.lengths.tolist()
    collect(tmp_path, 2, 11, resume=True)
    assert contents(tmp_path) == contents(once)


def test_kill_nine_then_resume_gives_the_same_files(once: Path, tmp_path: Path) -> None:
    here = Path(__file__).resolve()
    program = (
        f"import sys, time; sys.path[:0] = [{str(here.parents[3])!r}, {str(here.parent)!r}]\n"
        "import test_collector as t; from pathlib import Path\n"
        "apply = t.Walk._apply\n"
        "def slow(env, action): time.sleep(0.02); apply(env, action)\n"
        f"t.Walk._apply = slow; t.collect(Path({str(tmp_path)!r}), 2, 11)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 60
    while not (tmp_path / "meta/episodes/chunk-000/file-001.parquet").exists() and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 3 <= len(EpisodeDataset(tmp_path)) < 11
    collect(tmp_path, 2, 11, resume=True)
    assert contents(tmp_path) == contents(once)


def test_the_bar_counts_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DatasetWriter(tmp_path, INTERFACE, {"seed": SEED}, 3) as writer:
        Collector(Walk(2), Chunks(), progress=True).run(writer, 2, SEED)
    assert "2/2" in capsys.readouterr().err


def test_the_command_says_where_the_data_is_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("robot.core.config.build", lambda node, where, **_: {"env": Walk(2), "policy": Chunks()}[where])
    arguments = [f"output={tmp_path}/data", f"seed={SEED}", "episodes_per_file=2", "progress=false"]
    main([*arguments, "episodes=3"])
    assert f"3 episodes, {EpisodeDataset(tmp_path / 'data').lengths.sum()} frames" in capsys.readouterr().out
    main([*arguments, "episodes=5", "env.num_envs=3", "resume=true"])
    said = capsys.readouterr().out.splitlines()
    assert f"{tmp_path}/data" in said[-2]
    assert said[-1].startswith("next: python -m robot.train env=navigation")
    tiller = EpisodeDataset(tmp_path / "data").info["tiller"]
    assert (tiller["task"], tiller["seed"], tiller["env"]["dt"]) == ("navigation", SEED, 0.4)
    assert EpisodeDataset(tmp_path / "data").headers["episode"].tolist() == [0, 1, 2, 3, 4]
    for change, word in (
        ("resume=false", "resume=true"),
        ("resume=true env.dt=0.5", "another env"),
        ("episodes=0", "at least 1"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*arguments, "episodes=5", *change.split()])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert word in error
