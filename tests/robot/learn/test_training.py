"""Training end to end on a tiny run: killed and resumed it gives the same numbers; bad input is one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robot.core.errors import CheckpointError
from robot.learn import checkpoint

TINY = [
    "policy=navdp", "policy.width=32", "policy.heads=2", "policy.layers=1", "policy.hidden=32", "policy.fusion_hidden=32",
    "policy.candidates=2", "policy.generative.sample_steps=1", "env.num_envs=2", "env.families=[hall]", "data.round_plans=4",
    "data.round_updates=4", "data.batch_size=8", "data.rounds_kept=2", "trainer.steps=16", "trainer.log_every=2",
    "trainer.checkpoint_every=4", "trainer.threads=1", "evaluator.episodes=2", "evaluator.latency_plans=0", "export=false",
    "env.time_limit=4.0", "trainer.evaluate_every=8", "trainer.evaluate_episodes=2", "baselines=[regression,straight]",
]  # fmt: skip


def train(output: Path, *more: str) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "robot.train", *TINY, f"output={output}", *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = checkpoint.newest(run)
    assert folder is not None
    return {**load_file(folder / "policy.safetensors"), **load_file(folder / "train.safetensors")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    process = train(run)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "report" in out
    return run


def test_a_killed_run_resumes_to_the_same_numbers(whole: Path, tmp_path: Path):
    run = tmp_path / "run"
    process = train(run)
    deadline = time.monotonic() + 200
    while not list((run / "checkpoints").glob("step-00000008")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.newest(run).name < "step-00000016", "killed too late to show anything"
    out, err = (process := train(run)).communicate(timeout=300)
    assert process.returncode == 0, err + out
    expected, found = weights(whole), weights(run)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    rows = [[json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (whole, run)]
    for a, b in zip(*rows, strict=True):
        assert {k: v for k, v in a.items() if k != "wall"} == {k: v for k, v in b.items() if k != "wall"}
    results = [json.loads((folder / "results/navdp/results.json").read_text())["metrics"] for folder in (whole, run)]
    assert results[0] == results[1]


def test_a_run_holds_what_its_user_looks_for(whole: Path):
    for name in ("config.yaml", "versions.json", "metrics.jsonl", "report.html", "results/navdp/episodes.parquet"):
        assert (whole / name).exists(), name
    assert list((whole / "tensorboard").iterdir())


def test_a_baseline_that_learns_is_trained_alike(whole: Path):
    folder = checkpoint.newest(whole / "baselines" / "regression")
    assert folder.name == "step-00000016"
    assert (whole / "results" / "regression" / "results.json").exists()
    assert (whole / "results" / "straight" / "results.json").exists()
    assert not (whole / "baselines" / "straight").exists(), "what has nothing to learn is only evaluated"
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "eval/success" in row] == [8, 16]
    policy, config = checkpoint.load_policy(whole)
    assert config.policy.width == 32
    assert not policy.training


def test_another_config_in_the_same_folder_is_refused(whole: Path):
    process = train(whole, "seed=5")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.startswith("error: ")
    assert "['seed']" in err
    assert len(err.strip().splitlines()) == 1


def test_a_corrupt_checkpoint_names_the_file(whole: Path, tmp_path: Path):
    run = tmp_path / "copy"
    shutil.copytree(whole, run)
    file = checkpoint.newest(run) / "policy.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=r"policy\.safetensors.*missing or corrupt"):
        checkpoint.load_policy(run)
    with pytest.raises(CheckpointError, match=r"no config\.yaml"):
        checkpoint.load_policy(tmp_path)
