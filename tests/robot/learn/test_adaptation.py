"""What can be read from a policy's memory: the probe on planted relations, and a small study from flights to figure."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import sim.gym
from policies.onnx import OnnxConfig, OnnxPolicy
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.core.paths import PRETRAINED
from robot.examples import adapt_raptor
from robot.learn import adaptation


def planted(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of very different scales and a linear function of them, (N, K) and (N,)."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((800, 6))
    return x * np.logspace(-3, 3, 6) + 5, 2 + x @ np.arange(1.0, 7.0) + noise * generator.standard_normal(800)


def test_the_probe_finds_a_planted_relation() -> None:
    clean, noisy = (adaptation.probe(*planted(noise)) for noise in (0.0, np.sqrt(91)))
    assert clean.r2 > 0.97
    assert noisy.r2 == pytest.approx(0.5, abs=0.1)
    assert noisy.low < noisy.r2 < noisy.high


def test_the_probe_finds_nothing_where_nothing_is() -> None:
    x, y = planted(0.0)
    found = adaptation.probe(x, np.random.default_rng(1).permutation(y))
    assert found.r2 == pytest.approx(0, abs=0.1)
    assert found.low < 0.05


def test_a_constant_input_and_one_far_off_do_no_harm() -> None:
    x, y = planted(0.0)
    x = np.concatenate([x, np.full((len(x), 1), 3.0)], 1)
    x[::100] += 1e4
    assert adaptation.probe(x, y).r2 > 0.5


def test_components_hold_all_variance_of_a_plane() -> None:
    generator = np.random.default_rng(0)
    places, share = adaptation.components(generator.standard_normal((20, 30, 2)) * [2, 1] @ generator.standard_normal((2, 16)))
    assert places.shape == (20, 30, 2)
    assert share.sum() == pytest.approx(1)
    assert share[0] > share[1]


def test_the_study_writes_a_figure_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "figures" / "adaptation.png"
    adapt_raptor.main(["vehicles=64", "seconds=0.6", f"output={output}"])
    assert "thrust-to-weight, memory" in capsys.readouterr().out
    with Image.open(output) as picture:
        assert min(picture.size) > 500


def test_what_is_observed_is_before_the_decision() -> None:
    env = build(sim.gym.config("quadrotor", num_envs=16, limits={"terminate": False}), "env")
    flights = adaptation.fly(OnnxPolicy(OnnxConfig(str(PRETRAINED / "raptor"), 1)), env, 0.1, 0)
    assert flights.hidden.shape == (10, 16, 16)
    assert flights.observations.shape == (10, 16, 22)
    assert (flights.observations[0, :, 18:] == 0).all()
    assert (flights.observations[1, :, 18:] != 0).any()


def test_flights_that_may_end_early_are_refused() -> None:
    env = build(sim.gym.config("quadrotor", num_envs=16), "env")
    with pytest.raises(ConfigError, match="terminate=false"):
        adaptation.fly(OnnxPolicy(OnnxConfig(str(PRETRAINED / "raptor"), 1)), env, 0.1, 0)


def test_unknown_keys_are_answered(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        adapt_raptor.main(["vehicle=3"])
    assert "did you mean vehicles?" in capsys.readouterr().err
