"""Trajectory models on a world whose law is known, and transitions that they imagine."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from policies.trajectory import Trajectory
from robot.core.config import build
from robot.core.errors import CheckpointError, ConfigError
from robot.core.interface import Field, Interface
from robot.data.episodes import DatasetWriter, Episode
from robot.learn import checkpoint
from robot.learn.guided import Guided, GuidedConfig, Pieces
from robot.learn.sources import EpisodesConfig

LINE = Interface((Field("point", (1,)),), Field("target", (1,)), 0.1)
ENV = SimpleNamespace(interface=LINE)
NODE = {
    "_target_": "policies.trajectory.Trajectory", "chunk": 8, "execute": 2, "history": 1, "anchor": "point", "offset": [0.0],
    "features": {"_target_": "policies.nn.features.Flat", "scale": {"point": 1.0}, "offset": {}, "differences": [], "finer": 0.0},
    "denoiser": {"_target_": "policies.nn.mlp.ResidualMlp", "width": 96, "blocks": 2}, "scale": [0.4], "temperature": 1.0,
    "generative": {
        "kind": "flow", "train_steps": 50, "sample_steps": 8, "clip": 3.0, "stochastic": False, "times": "uniform",
        "prediction": "epsilon",
    },
    "rewards": 0.5,
}  # fmt: skip
SPREAD = 0.4
"""Deviation of the recorded targets from where the point is."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The point goes half of the way to its target each step; the reward is minus its square. Episodes end beyond 1.5."""
    folder, rng = tmp_path_factory.mktemp("line") / "data", np.random.default_rng(0)
    with DatasetWriter(folder, LINE, {"task": "line"}) as writer:
        for number in range(150):
            points, targets = [rng.uniform(-1, 1)], []
            while len(targets) < 20 and abs(points[-1]) < 1.5:
                targets.append(points[-1] + SPREAD * rng.normal())
                points.append(0.5 * (points[-1] + targets[-1]))
            seen, count = np.array(points[:-1], np.float32)[:, None], len(targets)
            arrays = {"observation.point": seen, "action": np.array(targets, np.float32)[:, None]}
            arrays |= {
                "reward": -(np.array(points[1:], np.float32) ** 2),
                "terminated": np.arange(count) == 19 + 20 * (count == 20),
            }
            writer.append(Episode(arrays, {"seed": 0, "episode": number, "success": False}))
    return str(folder)


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """A trained model's run folder."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    model = build(NODE, "policy", interface=LINE)
    source = Pieces(EpisodesConfig(root, 0, 256, None), ENV)  # type: ignore[arg-type]
    source.open(folder, 0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for step in range(500):
        optimizer.zero_grad()
        model.loss(source.batch(step, model))["loss"].backward()
        optimizer.step()
        schedule.step()
    return kept(folder, model)


def kept(folder, model, node=None):
    OmegaConf.save(OmegaConf.create({"policy": node or NODE}), folder / "config.yaml")
    checkpoint.save(folder, 1, model, dict(model.state_dict()), torch.optim.AdamW(model.parameters()))
    return str(folder)


@pytest.fixture(scope="module")
def model(run):
    return checkpoint.load_policy(run)[0]


def imagined(model, guidance=0.0, would=None, count=512):
    generator = torch.Generator().manual_seed(3)
    start = torch.rand(count, 1, generator=generator) * 1.6 - 0.8
    noise = torch.randn(count, *model.noise_shape(), generator=generator)
    return start, model.imagine(start, start, noise, would, guidance)


def unlawful(piece):
    """Root mean square by which points miss where their law leads."""
    point = piece.condition[..., 0]
    return float((point[:, 1:] - 0.5 * (point[:, :-1] + piece.action[:, :-1, 0])).square().mean().sqrt())


def test_frames_are_told_back_exactly():
    model = build(NODE, "policy", interface=LINE)
    model.study({"condition": np.random.default_rng(0).normal(2, 3, (50, 1)).astype(np.float32)})
    batch = {name: torch.randn(4, 8, 1) for name in ("condition", "anchor", "action")}
    batch |= {"reward": torch.randn(4, 8), "terminated": (torch.rand(4, 8) < 0.5).float()}
    piece = model.told(model.frames(batch), batch["anchor"][:, 0])
    for name, value in batch.items():
        torch.testing.assert_close(getattr(piece, name), value, rtol=1e-4, atol=1e-4)


def test_what_is_imagined_begins_where_it_is_told_and_obeys_the_law(model):
    start, piece = imagined(model)
    assert float((piece.condition[:, 0] - start).abs().mean()) < 0.05
    assert float((piece.anchor - piece.condition).abs().mean()) < 0.05
    assert unlawful(piece) < 0.2 * SPREAD
    shuffled = piece.action[torch.randperm(len(start))]
    piece.action = shuffled
    assert unlawful(piece) > 0.5 * SPREAD


def test_without_guidance_it_does_what_was_recorded(model):
    _, piece = imagined(model)
    did = piece.action[..., 0] - piece.condition[..., 0]
    assert float(did.mean()) == pytest.approx(0.0, abs=0.05)
    assert float(did.std()) == pytest.approx(SPREAD, rel=0.15)
    reward = -((0.5 * (piece.condition + piece.action)[..., 0]) ** 2)
    assert float(torch.corrcoef(torch.stack([piece.reward.flatten(), reward.flatten()]))[0, 1]) > 0.7


def test_guidance_leads_towards_the_policy_and_stays_lawful(model):
    def would(condition, anchor):
        return anchor - 0.5

    gaps, errors = [], []
    for guidance in (0.0, 0.3, 1.0):
        _, piece = imagined(model, guidance, would)
        gaps.append(float((piece.action - (piece.anchor - 0.5)).square().mean()))
        errors.append(unlawful(piece))
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 0.7 * gaps[0]
    assert max(errors) < 0.35 * SPREAD


def test_it_plans_as_a_policy(model):
    actions, _ = model.act({"point": torch.zeros(3, 1)}, {}, torch.randn(3, *model.noise_shape()))
    assert actions.shape == (3, 2, 1)


class Left(torch.nn.Module):
    """A policy that goes left, with the little that Guided needs of it."""

    execute, config = 2, SimpleNamespace(discount=0.9)

    def __init__(self, model):
        super().__init__()
        self.prepare, self.initial_memory, self.interface, self.encode = model.prepare, model.initial_memory, LINE, model.encode

    def noise_shape(self):
        return (2, 1)

    def flow_to(self, noise, scene):
        return noise - 1.0

    def actions(self, x, scene):
        return scene.anchor + 0.5 * x


def guided(root, run, **changes):
    config = {
        "root": root,
        "episodes": 0,
        "batch_size": 32,
        "expert": None,
        "model": run,
        "refresh": 3,
        "pieces": 40,
        "share": 0.75,
    }
    return Guided(GuidedConfig(**{**config, "guidance": 0.5, **changes}), ENV)  # type: ignore[arg-type]


def test_batches_mix_what_was_recorded_and_what_is_imagined(root, run, model, tmp_path):
    source = guided(root, run)
    source.open(tmp_path, 0)
    batch = source.batch(0, Left(model))
    assert {name: tuple(value.shape) for name, value in batch.items()} == {
        "condition": (32, 1), "anchor": (32, 1), "next_condition": (32, 1), "next_anchor": (32, 1), "action": (32, 2, 1),
        "reward": (32,), "discount": (32,), "return": (32,),
    }  # fmt: skip
    went = source.imagined["action"][:, 0] - source.imagined["anchor"]
    assert float(went.mean()) < -0.1  # recorded ones go nowhere on the whole, imagined ones left
    recorded = torch.from_numpy(source.table["reward"])
    assert all(bool((recorded == value).any()) for value in batch["reward"][:8])
    assert not any(bool((recorded == value).any()) for value in batch["reward"][8:])


def test_a_resumed_run_sees_the_same_batches(root, run, model, tmp_path):
    policy, source = Left(model), guided(root, run)
    source.open(tmp_path, 0)
    whole = [source.batch(step, policy) for step in range(4)]
    source.saved(4)
    after = [source.batch(step, policy) for step in (4, 5)]
    again = guided(root, run)
    again.open(tmp_path, 0)
    again.resume(4)
    for step, expected in zip((4, 5), after, strict=True):
        found = again.batch(step, policy)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not torch.equal(whole[0]["reward"], whole[3]["reward"])


def test_a_run_whose_imagined_episodes_are_lost_says_so(root, run, tmp_path):
    source = guided(root, run)
    source.open(tmp_path, 0)
    with pytest.raises(CheckpointError, match=r"imagined\.npz"):
        source.resume(7)


@pytest.mark.parametrize("changes", [{"refresh": 0}, {"share": 1.0}, {"pieces": 0}, {"guidance": -1.0}])
def test_what_makes_no_sense_is_refused(root, run, changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        guided(root, run, **changes)


def test_a_model_of_another_kind_or_task_is_refused(root, run, tmp_path):
    other = Interface((Field("point", (1,), unit="m"),), Field("target", (1,)), 0.1)
    folder = tmp_path / "other"
    folder.mkdir()
    with pytest.raises(ConfigError, match="another task"):
        guided(root, kept(folder, build(NODE, "policy", interface=other)))
    plain = {**NODE, "_target_": "policies.diffusion_policy.DiffusionPolicy"}
    plain.pop("rewards")
    with pytest.raises(ConfigError, match="imagines nothing"):
        guided(root, kept(tmp_path / "other", build(plain, "policy", interface=LINE), plain))


def test_pieces_know_where_episodes_end(root, tmp_path):
    model = build(NODE, "policy", interface=LINE)
    assert isinstance(model, Trajectory)
    source = Pieces(EpisodesConfig(root, 0, 200, None), ENV)  # type: ignore[arg-type]
    source.open(tmp_path, 0)
    batch = source.batch(0, model)
    assert batch["condition"].shape == (200, 8, 1)
    rows = (batch["valid"] == 0).nonzero()
    assert len(rows)
    for row, frame in rows:  # what is past the end is the last frame again
        assert torch.equal(batch["action"][row, frame], batch["action"][row, frame - 1])
