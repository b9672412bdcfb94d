"""Scenes are valid, closed, passable, the same from the same seed, and the held-out split has a grammar of its own."""

import hashlib
import inspect
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label

from robot.core.errors import ConfigError
from sim.navigation.scene import CELL, LAYERS, PALETTE, Z_STEP, Scene
from sim.navigation.scenes import FAMILIES, SPLITS, generate, unseen
from sim.navigation.scenes.canvas import Canvas

KINDS = [(family, split) for family in FAMILIES for split in SPLITS]
SEEDS = 20
GOLDEN: dict[tuple[str, str], tuple[str, str]] = {
    ("home", "train"): ("644100be95ec", "c9d8c7cc2a60"),
    ("home", "test"): ("ac9b2ac977c0", "3117b21615d7"),
    ("office", "train"): ("15fdc3896d18", "0aff49d7502b"),
    ("office", "test"): ("0f428a846a3b", "8b76cbe3634f"),
    ("hall", "train"): ("d39ce92f96be", "9cc51b8d2d48"),
    ("hall", "test"): ("d391e62038ff", "ffe30c937a81"),
    ("warehouse", "train"): ("4483393da2ac", "f438991346e7"),
    ("warehouse", "test"): ("c9dc58694d94", "3aac802ebe25"),
    ("outdoor", "train"): ("ea4bccdde578", "0416736234c2"),
    ("outdoor", "test"): ("eb070958b8c9", "b2675b3b6148"),
}
"""First digits of the SHA-256 of the scenes of seeds 0 and 1. A change here means that trained policies saw other scenes."""


@cache
def _scenes(family: str, split: str) -> list[Scene]:
    return [generate(seed, split, family) for seed in range(SEEDS)]


def _digest(scene: Scene) -> str:
    return hashlib.sha256(scene.solids.tobytes() + scene.colours.tobytes()).hexdigest()[:12]


@pytest.mark.parametrize(("family", "split"), KINDS)
def test_the_same_seed_gives_the_same_scene(family: str, split: str):
    assert tuple(_digest(generate(seed, split, family)) for seed in (0, 1)) == GOLDEN[family, split]


@pytest.mark.parametrize(("family", "split"), KINDS)
def test_all_scenes_differ(family: str, split: str):
    other = SPLITS[1 - SPLITS.index(split)]
    digests = [_digest(scene) for scene in (*_scenes(family, split), *_scenes(family, other))]
    assert len(set(digests)) == 2 * SEEDS


@pytest.mark.parametrize(("family", "split"), KINDS)
def test_intervals_are_ascending_and_disjoint(family: str, split: str):
    for scene in _scenes(family, split):
        bottom, top = scene.solids[..., 0].astype(int), scene.solids[..., 1].astype(int)
        used = top > 0
        assert (top[used] > bottom[used]).all()
        assert (bottom[~used] == 0).all()
        assert (used[..., :-1] >= used[..., 1:]).all(), "unused intervals come last"
        assert (bottom[..., 1:] >= top[..., :-1])[used[..., 1:]].all()
        assert scene.colours.max() < len(PALETTE)
        assert not np.isfinite(scene.ceiling) or top.max() * Z_STEP <= scene.ceiling + 1e-6


@pytest.mark.parametrize(("family", "split"), KINDS)
def test_the_border_is_closed_and_the_size_fits(family: str, split: str):
    for scene in _scenes(family, split):
        wall = (scene.solids[..., 0, 0] == 0) & (scene.solids[..., 0, 1] * Z_STEP >= 1.3)
        assert wall[[0, -1]].all()
        assert wall[:, [0, -1]].all()
        assert 7.9 <= min(scene.size) <= max(scene.size) <= 16.1


@pytest.mark.parametrize(("family", "split"), KINDS)
def test_a_robot_gets_nearly_everywhere(family: str, split: str):
    good = 0
    for scene in _scenes(family, split):
        room = distance_transform_edt(~scene.occupied(0.04, 0.6)) * CELL > 0.3
        areas = np.bincount(label(room)[0].ravel())[1:]
        good += areas.max() >= 0.6 * areas.sum() and areas.max() * CELL**2 >= 15.0
    assert good >= SEEDS - 1


@pytest.mark.parametrize(("family", "split"), KINDS)
def test_a_low_robot_passes_under_what_stops_a_tall_one(family: str, split: str):
    layered = [(scene.occupied(0.04, 1.35) & ~scene.occupied(0.04, 0.45)).sum() * CELL**2 for scene in _scenes(family, split)]
    assert sum(area > 0.05 for area in layered) >= SEEDS - 4


def _seen(monkeypatch: pytest.MonkeyPatch, family: str, split: str) -> bool:
    """Whether any of ten scenes draws furniture that is kept for the test split."""

    def caught(site, pose, width, depth):
        raise RuntimeError("unseen")

    for _, function in inspect.getmembers(unseen, inspect.isfunction):
        monkeypatch.setattr(function, "__code__", caught.__code__)
    for seed in range(10):
        try:
            generate(seed, split, family)
        except RuntimeError:
            return True
    return False


@pytest.mark.parametrize("family", FAMILIES)
def test_training_never_shows_the_furniture_of_the_test_split(family: str, monkeypatch: pytest.MonkeyPatch):
    assert not _seen(monkeypatch, family, "train")


@pytest.mark.parametrize("family", ["home", "office", "hall"])
def test_the_test_split_shows_furniture_of_its_own(family: str, monkeypatch: pytest.MonkeyPatch):
    assert _seen(monkeypatch, family, "test")


def test_the_family_follows_from_the_seed_when_none_is_asked_for():
    counts = {family: 0 for family in FAMILIES}
    for seed in range(60):
        counts[generate(seed).family] += 1
    assert min(counts.values()) >= 4
    assert generate(7).family == generate(7).family


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "train", "castle"), "home, office, hall"),
        ((0, "validation", None), "train, test"),
        ((-1, "train", None), "0 and above"),
    ],
)
def test_a_wrong_argument_is_named(arguments: tuple, message: str):
    with pytest.raises(ConfigError, match=message):
        generate(*arguments)


def test_overlapping_and_touching_intervals_join():
    canvas = Canvas(2, 2)
    for z0, z1, colour in ((0.0, 0.2, 1), (0.1, 0.4, 2), (0.4, 0.5, 2), (0.5, 0.6, 3), (1.0, 1.2, 1)):
        canvas.box(0.0, 0.0, 0.05, 0.05, z0, z1, colour)
    solids, colours = canvas.solids()
    assert solids[0, 0].tolist() == [[0, 25], [25, 30], [50, 60], [0, 0]]
    assert colours[0, 0].tolist() == [2, 3, 1, 0]
    assert not solids[1].any()


def test_a_full_cell_joins_its_two_closest_intervals():
    canvas = Canvas(1, 1)
    for z0 in (0.0, 1.0, 2.0, 3.0, 2.3):
        canvas.box(0.0, 0.0, 0.05, 0.05, z0, z0 + 0.1, 1)
    solids, _ = canvas.solids()
    assert LAYERS == 4
    assert solids[0, 0].tolist() == [[0, 5], [50, 55], [100, 120], [150, 155]]


def test_shapes_cover_their_area():
    canvas = Canvas(200, 200)
    canvas.disc(2.5, 2.5, 1.0, 0.0, 1.0, 1)
    canvas.turned(7.0, 7.0, (2.0, 1.0), (0.8, 0.6), (0.0, 1.0), 1)
    solids, _ = canvas.solids()
    filled = solids[..., 0, 1] > 0
    assert filled[:100, :100].sum() * CELL**2 == pytest.approx(np.pi, rel=0.02)
    assert filled[100:, 100:].sum() * CELL**2 == pytest.approx(2.0, rel=0.02)
