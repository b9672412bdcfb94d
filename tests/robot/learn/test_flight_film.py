"""Flights of an evaluation become films and a plot, and the report shows them."""

from pathlib import Path

import numpy as np

import sim.gym
from policies.onnx import OnnxConfig, OnnxPolicy
from robot.core.config import build
from robot.core.paths import PRETRAINED
from robot.learn import flight_film, runs
from robot.learn.evaluator import Evaluator, EvaluatorConfig
from robot.learn.report import build_report
from sim.envs.quadrotor import Quadrotor


def quadrotor() -> Quadrotor:
    return build(sim.gym.config("quadrotor", num_envs=4, time_limit=0.4, threads=1), "env")


def raptor() -> OnnxPolicy:
    return OnnxPolicy(OnnxConfig(str(PRETRAINED / "raptor"), 1))


def test_the_report_of_an_evaluation_shows_its_flights(tmp_path: Path) -> None:
    evaluator = Evaluator(EvaluatorConfig(episodes=4, seed=0, videos=2, latency_plans=0, execution=None))
    report = runs.evaluate(raptor(), "raptor", quadrotor(), evaluator, tmp_path / "results" / "raptor", {"env": "quadrotor"})
    runs.draw(report, tmp_path / "videos", "")
    names = sorted(path.name for path in (tmp_path / "videos").iterdir())
    assert names == ["episode-0000.mp4", "episode-0001.mp4", "errors-of-all-flights.png"]
    page = build_report(tmp_path).read_text()
    assert page.count("data:video/mp4;base64") == 2
    assert "data:image/png;base64" in page
    assert "Flights in real time" in page


def test_what_is_recorded_is_what_the_evaluator_played() -> None:
    env = quadrotor()
    report = Evaluator(EvaluatorConfig(4, 3, 0, 0, None)).run(raptor(), env, quiet=True)
    (_, errors), (_, flight) = flight_film.record(raptor(), env, 1, 3)
    assert isinstance(errors, flight_film.Errors)
    assert isinstance(flight, flight_film.Flight)
    flown = np.isfinite(errors.distance).sum(0)
    np.testing.assert_array_equal(flown, np.round(report.columns["time"] / env.config.dt))
    squares = np.nansum(errors.distance[1:] ** 2, axis=0) + report.columns["final_error"] ** 2
    np.testing.assert_allclose(np.sqrt(squares / flown), report.columns["rmse"], rtol=1e-4)
    assert flight.states.shape == (flown[0], 17)
    assert flight.memory.shape == (flown[0], 16)
