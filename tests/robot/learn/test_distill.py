"""Teachers learn, are examined and teach; what is interrupted goes on with the same numbers."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import sim.gym
from policies.raptor import Raptor, RaptorConfig
from robot.core import paths
from robot.core.config import build
from robot.core.errors import CheckpointError, ConfigError
from robot.learn.distill import Distill, examine
from robot.learn.trainer import Trainer, TrainerConfig
from sim.envs.quadrotor import Quadrotor

SHORT = {"steps": 60, "warmup": 5, "log_every": 10, "checkpoint_every": 20, "threads": 1}
PURE = {"position": 0, "velocity": 0, "rate": 0, "yaw": 0, "action": 0, "speed": 0, "edge": 0, "command": 0, "imitation": 1.0}


def make_env(fleet: int = 8, seed: int = 0, **keys: Any) -> Quadrotor:
    node = sim.gym.config("quadrotor_fleet", num_envs=64, fleet=fleet, fleet_seed=seed, threads=1, time_limit=2.0, **keys)
    return build(node, "env")


def source(env: Quadrotor, school: dict[str, Any] | None = None, **changes: Any) -> Distill:
    with initialize_config_dir(str(paths.CONFIGS), version_base=None):
        node = compose("train", ["policy=raptor_small"]).data
    small = {
        "shortest": 20, "longest": 20, "round_updates": 20,
        "school": {
            "trainer": SHORT, "data": {"shortest": 20, "longest": 20, "round_updates": 20}, "retries": 0,
            "acceptance": {"lost": 1.0, "error": float("inf")}, **(school or {}),
        },
    }  # fmt: skip
    merged = OmegaConf.merge(node, small, changes)
    assert isinstance(merged, DictConfig)
    return build(merged, "data", env=env)


def student(env: Quadrotor) -> Raptor:
    torch.manual_seed(3)
    return Raptor(RaptorConfig(16, 16, True), env.interface)


def trainer(steps: int) -> Trainer:
    return Trainer(TrainerConfig(steps, 5e-3, 0.0, 5, 1.0, 0.9, 5, 20, 0, 0, 1))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose teachers have learnt."""
    folder = tmp_path_factory.mktemp("run")
    source(make_env()).open(folder, 0)
    return folder


def test_the_student_comes_closer_to_its_teachers(taught: Path, tmp_path: Path) -> None:
    env = make_env()
    policy, keys = student(env), {"teachers": str(taught), "wean": 0, "cost": PURE, "limit": 0.0}
    learner = source(env, **keys)
    learner.open(tmp_path, 0)
    before = float(learner.loss(policy, learner.batch(0, policy))["loss"].detach())
    trainer(60).fit(policy, source(env, **keys), tmp_path, 0, quiet=True)
    learner.open(tmp_path, 0)
    assert float(learner.loss(policy, learner.batch(0, policy))["loss"].detach()) < 0.5 * before


def test_labels_are_those_of_the_teacher_of_the_vehicle(taught: Path, tmp_path: Path) -> None:
    env = make_env()
    learner, policy = source(env, teachers=str(taught)), student(env)
    learner.open(tmp_path, 0)
    batch = learner.batch(0, policy)
    numbers = env.assigned
    assert numbers is not None
    assert len(set(numbers.tolist())) == 4
    learner.loss(policy, batch)
    assert learner.tape is not None
    seen = learner.tape.observations()
    learner.watched = learner.staff.initial_memory(env.num_envs)
    labels = learner._labels(learner.tape)
    alone, _ = learner.faculty.choose(numbers[-1:]).follow(seen[:, -1:], torch.zeros(1, 3), {"hidden": torch.zeros(1, 16)})
    torch.testing.assert_close(labels[:, -1:], alone.clamp(-1, 1), rtol=1e-4, atol=1e-5)


def test_some_teachers_of_a_larger_fleet(taught: Path, tmp_path: Path) -> None:
    env, whole = make_env(fleet=4), make_env()
    env.reset(seed=0)
    whole.reset(seed=0)
    assert env.params["mass"].unique().tolist() == whole.params["mass"][:32].unique().tolist()
    learner = source(env, teachers=str(taught))
    learner.open(tmp_path, 0)
    assert learner.faculty.config.size == 4
    assert learner.accepted.tolist() == [0, 1, 2, 3]


def test_after_weaning_nobody_teaches_and_any_vehicle_is_flown(taught: Path, tmp_path: Path) -> None:
    env = make_env()
    learner, policy = source(env, teachers=str(taught), wean=20), student(env)
    learner.open(tmp_path, 0)
    learner.batch(0, policy)
    assert learner.teach is not None
    assert len(set(env.params["mass"].tolist())) == 4
    learner.batch(20, policy)
    assert learner.teach is None
    assert len(set(env.params["mass"].tolist())) == 64


def test_an_interrupted_run_gives_the_same_numbers(taught: Path, tmp_path: Path) -> None:
    def run(folder: Path, *lengths: int) -> dict[str, Tensor]:
        for steps in lengths:
            env = make_env()
            policy, broken = student(env), source(env, teachers=str(taught), wean=30)
            given = broken.batch

            def stop(step: int, policy: Any, until: int = steps, given: Any = given) -> Any:
                if step == until:
                    raise KeyboardInterrupt
                return given(step, policy)

            broken.batch = stop
            try:
                trainer(60).fit(policy, broken, folder, 0, quiet=True)
            except KeyboardInterrupt:
                continue
        return policy.state_dict()

    whole, parts = run(tmp_path / "a", 60), run(tmp_path / "b", 33, 60)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_interrupted_teachers_go_on(tmp_path: Path, taught: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import robot.learn.distill as module

    calls = []

    def fails_at_second(*given: Any):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return examine(*given)

    monkeypatch.setattr(module, "examine", fails_at_second)
    with pytest.raises(KeyboardInterrupt):
        source(make_env()).open(tmp_path, 0)
    monkeypatch.setattr(module, "examine", examine)
    source(make_env()).open(tmp_path, 0)
    first, second = (torch.load(folder / "teachers.pt", weights_only=True) for folder in (taught, tmp_path))
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name


def test_teachers_that_fail_are_reported_and_do_not_teach(tmp_path: Path) -> None:
    learner = source(make_env(fleet=4), {"acceptance": {"lost": 0.0, "error": 1e-6}, "retries": 1})
    with pytest.raises(ConfigError, match=r"none of 4 teachers passed its acceptance flight; see '.*teachers.json'"):
        learner.open(tmp_path, 0)
    rows = json.loads((tmp_path / "teachers.json").read_text())
    assert [row["accepted"] for row in rows] == [False] * 4
    assert all(row["error"] > 1e-6 for row in rows)


def test_what_does_not_fit_is_refused(taught: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"env.fleet=6: there is a teacher a vehicle"):
        source(make_env(fleet=6))
    with pytest.raises(CheckpointError, match=r"holds teachers of 8 other vehicles.*env.fleet_seed"):
        source(make_env(seed=1), teachers=str(taught)).open(tmp_path, 0)
    with pytest.raises(CheckpointError, match=r"no '.*nowhere/teachers.pt'"):
        source(make_env(), teachers=str(tmp_path / "nowhere")).open(tmp_path, 0)
