"""From a yaml node to an object: types are enforced, and every mistake is named with what is accepted."""

import enum
import sys
import types
from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf

from robot.core.config import build, config_class, locate
from robot.core.errors import ConfigError


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


@dataclass
class WheelConfig:
    radius: float
    """[m]"""


@dataclass
class CartConfig:
    width: int
    """[px]"""
    colour: Colour
    """Of the paint."""
    wheels: dict[str, WheelConfig]
    """By name."""
    sizes: list[float]
    """[m]"""
    driver: str | None
    """Who drives."""


class Cart:
    def __init__(self, config: CartConfig, interface: str = "none") -> None:
        self.config, self.interface = config, interface


class Plain:
    def __init__(self, interface: str) -> None:
        self.interface = interface


GOOD = {"width": 3, "colour": "red", "wheels": {"left": {"radius": 0.1}}, "sizes": [1, 2.5], "driver": None}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("carts")
    module.Cart, module.Plain = Cart, Plain  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "carts", module)


def cart(**changes: object) -> Cart:
    return build(OmegaConf.create({"_target_": "carts.Cart", **GOOD, **changes}), "cart")


def test_values_arrive_with_their_types() -> None:
    config = cart().config
    assert config == CartConfig(3, Colour.red, {"left": WheelConfig(0.1)}, [1.0, 2.5], None)
    assert isinstance(config.sizes[0], float)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widht": 4}, ["cart", "'widht'", "did you mean 'width'?", "accepted: width, colour, wheels, sizes, driver"]),
        ({"width": "wide"}, ["cart", "'width'", "wide"]),
        ({"width": 2.5}, ["'width'", "2.5"]),
        ({"width": "???"}, ["cart", "width"]),
        ({"colour": "green"}, ["'colour'", "green", "red"]),
        ({"wheels": {"left": {"radios": 1.0}}}, ["cart", "radios"]),
        ({"sizes": ["a"]}, ["sizes", "a"]),
    ],
)
def test_mistakes_are_named(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        cart(**changes)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_a_missing_key_is_an_error_since_no_class_has_defaults() -> None:
    node = {key: value for key, value in GOOD.items() if key != "width"}
    with pytest.raises(ConfigError, match=r"cart.*width"):
        build({"_target_": "carts.Cart", **node}, "cart")


def test_runtime_objects_go_to_those_who_ask() -> None:
    node = OmegaConf.create({"_target_": "carts.Cart", **GOOD})
    assert build(node, "cart", interface="mine", env="unused").interface == "mine"
    assert build({"_target_": "carts.Plain"}, "plain", interface="mine", stats=None).interface == "mine"


def test_targets_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match="no _target_"):
        build({"width": 3}, "cart")
    with pytest.raises(ConfigError, match=r"'carts\.Wagon' cannot be imported"):
        build({"_target_": "carts.Wagon"}, "cart")
    with pytest.raises(ConfigError, match="takes no keys"):
        build({"_target_": "carts.Plain", "width": 3}, "plain", interface="x")


def test_config_class_is_found_by_annotation() -> None:
    assert config_class(Cart) is CartConfig
    assert config_class(Plain) is None
    assert locate("robot.core.config.locate") is locate
