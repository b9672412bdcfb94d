"""Recorded episodes as a source: what is stored is what the policy would have prepared; collect, then train, end to end."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from robot.core.config import build
from robot.core.errors import DatasetError
from robot.core.paths import CONFIGS
from robot.data.episodes import EpisodeDataset
from robot.learn.sources import Episodes, EpisodesConfig

WORLD = ["env.num_envs=2", "env.families=[hall]", "env.time_limit=4.0"]
SMALL = ["policy.width=32", "policy.heads=2", "policy.layers=1", "policy.hidden=32", "policy.fusion_hidden=32"]
TINY = [
    *WORLD, *SMALL, "policy=navdp", "env=navigation", "data=episodes", "policy.candidates=2", "trainer.steps=4",
    "trainer.log_every=2", "trainer.checkpoint_every=4", "trainer.threads=1", "evaluator.episodes=2",
    "evaluator.latency_plans=0", "export=false", "data.batch_size=8",
]  # fmt: skip


def command(module: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "walks"
    done = command("robot.collect", *WORLD, "policy=expert", "episodes=3", f"output={root}")
    assert done.returncode == 0, done.stderr
    assert f"data=episodes data.root={root}" in done.stdout
    return root


def composed(*more: str):
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return compose("train", [*TINY, *more])


def test_frames_are_prepared_with_the_memory_of_their_episode(recorded: Path):
    cfg = composed(f"data.root={recorded}")
    env = build(cfg.env, "env")
    policy = build(cfg.policy, "policy", interface=env.interface)
    source = Episodes(EpisodesConfig(str(recorded), 0, 4096, None), env)
    source.open(recorded, 0)
    batch = source.batch(0, policy)
    dataset = EpisodeDataset(recorded)
    assert len(source.columns["action"]) == dataset.lengths.sum()
    assert torch.equal(batch["action"], source.batch(0, policy)["action"])
    assert not torch.equal(batch["action"], source.batch(1, policy)["action"])
    for episode in dataset:
        memory = policy.initial_memory(1)
        for t in range(len(episode)):
            now = {name: torch.tensor(value[t : t + 1]) for name, value in episode.observation.items()}
            inputs, memory = policy.prepare(now, memory)
        match = np.abs(source.columns["action"] - episode.arrays["action"][-1]).sum((1, 2)).argmin()
        for name in ("view", "near", "depth", "goal"):
            np.testing.assert_allclose(source.columns[name][match], inputs[name][0].numpy(), atol=2e-3)


def test_collected_episodes_train_a_policy(recorded: Path, tmp_path: Path):
    run = tmp_path / "run"
    done = command("robot.train", *TINY, f"data.root={recorded}", f"output={run}", "policy.critic_loss=0", "policy.choose=false")
    assert done.returncode == 0, done.stderr
    assert (run / "report.html").exists()


def test_a_critic_cannot_be_taught_by_episodes(recorded: Path, tmp_path: Path):
    done = command("robot.train", *TINY, f"data.root={recorded}", f"output={tmp_path / 'run'}")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].endswith("policy.critic_loss=0 policy.choose=false")


def test_what_does_not_fit_or_is_not_there_is_named(recorded: Path, tmp_path: Path):
    env = build(composed(f"data.root={recorded}", "env.depth_height=24").env, "env")
    with pytest.raises(DatasetError, match="depth"):
        Episodes(EpisodesConfig(str(recorded), 0, 8, None), env)
    with pytest.raises(DatasetError, match="nowhere"):
        Episodes(EpisodesConfig(str(tmp_path / "nowhere"), 0, 8, None), env)
