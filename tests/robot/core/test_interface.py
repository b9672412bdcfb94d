"""What flows: exact round trips, differences in words, and observations that are refused with their name."""

from dataclasses import replace

import numpy as np
import pytest

from robot.core.errors import InterfaceError, ObservationError
from robot.core.interface import Field, Interface

DEPTH = Field("depth", (4, 6), unit="m", frame="camera", low=0.0, high=5.0)
GOAL = Field("goal", (3,), unit="m, m, rad", frame="body", names=("x", "y", "yaw"))
PATH = Field("path", (24, 3), frame="body")
INTERFACE = Interface((DEPTH, GOAL), PATH, 0.1 + 0.2)


def good(batch: int = 2) -> dict[str, np.ndarray]:
    return {"depth": np.zeros((batch, 4, 6), np.float32), "goal": np.ones((batch, 3), np.float32)}


def test_round_trip_is_exact() -> None:
    assert Interface.from_json(INTERFACE.to_json()) == INTERFACE
    assert Interface.from_json(INTERFACE.to_json()).dt == 0.1 + 0.2


@pytest.mark.parametrize("text", ["", "{", "{}", '{"observation": [1], "action": {}, "dt": 1}', "[]"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InterfaceError, match="not an Interface"):
        Interface.from_json(text)


def test_equal_interfaces_do_not_differ() -> None:
    assert INTERFACE.compare(Interface.from_json(INTERFACE.to_json())) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(INTERFACE, dt=0.1), "dt"),
        (replace(INTERFACE, observation=(DEPTH,)), "'goal' is missing"),
        (replace(INTERFACE, observation=(DEPTH, GOAL, Field("more", (1,)))), "'more' is not expected"),
        (replace(INTERFACE, observation=(GOAL, DEPTH)), "order"),
        (replace(INTERFACE, observation=(replace(DEPTH, unit="mm"), GOAL)), "'depth': unit expected 'm', found 'mm'"),
        (replace(INTERFACE, observation=(replace(DEPTH, high=None), GOAL)), "high"),
        (replace(INTERFACE, action=replace(PATH, shape=(16, 3))), "action: shape"),
        (replace(INTERFACE, action=replace(PATH, frame="world")), "action: frame"),
    ],
)
def test_every_difference_is_said_once(other: Interface, words: str) -> None:
    differences = INTERFACE.compare(other)
    assert len(differences) == 1
    assert words in differences[0]


def test_fields_are_found_by_name() -> None:
    assert INTERFACE.field("goal") is GOAL
    assert INTERFACE.field("path") is PATH
    with pytest.raises(InterfaceError, match=r"'gaol'.*depth.*goal.*path"):
        INTERFACE.field("gaol")


def test_impossible_fields_are_refused() -> None:
    with pytest.raises(InterfaceError, match="2 element names for a last axis of 3"):
        Field("goal", (3,), names=("x", "y"))
    with pytest.raises(InterfaceError, match="unique"):
        Interface((GOAL, GOAL), PATH, 0.1)
    with pytest.raises(TypeError):
        Field("goal", (3,), dtype="float33")


def test_good_observations_pass() -> None:
    INTERFACE.check(good())
    INTERFACE.check({**good(1), "unknown extra": np.zeros(7)})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"goal": np.ones((2, 4))}, r"'goal' has shape \(2, 4\), expected \(B, 3\)"),
        ({"goal": np.ones(3)}, "'goal' has shape"),
        ({"goal": np.ones((5, 3))}, "batch 5"),
        ({"goal": np.array([[0, 0, 0], [0, np.nan, np.inf]])}, r"'goal' is not finite in 2 of 6 elements, first at \(1, 1\)"),
    ],
)
def test_bad_observations_are_named(change: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(ObservationError, match=words):
        INTERFACE.check({**good(), **change})


def test_missing_fields_are_named() -> None:
    with pytest.raises(ObservationError, match=r"lacks \['goal'\]"):
        INTERFACE.check({"depth": good()["depth"]})
