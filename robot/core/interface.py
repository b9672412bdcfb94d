"""What flows between a robot (or its simulation) and a policy: named fields with shape, unit and frame.

The environment has one Interface, a policy is built from one, and dataset headers, ONNX metadata and drivers each carry
one, so that two parts that do not fit are refused before anything moves.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from robot.core.errors import InterfaceError, ObservationError


@dataclass(frozen=True)
class Field:
    """One named array. `shape` leaves out the batch; `low` and `high` bound every element, None means unbounded."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    unit: str = ""
    frame: str = ""
    low: float | None = None
    high: float | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "names", tuple(self.names))
        if self.names and self.shape and len(self.names) != self.shape[-1]:
            raise InterfaceError(f"field '{self.name}': {len(self.names)} element names for a last axis of {self.shape[-1]}")
        np.dtype(self.dtype)


@dataclass(frozen=True)
class Interface:
    """Ordered observation fields, one action field, and the control period `dt` [s] between two actions."""

    observation: tuple[Field, ...]
    action: Field
    dt: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", tuple(self.observation))
        seen = [field.name for field in self.observation]
        if len(set(seen)) != len(seen):
            raise InterfaceError(f"observation names must be unique, got {seen}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(field.name for field in self.observation)

    def field(self, name: str) -> Field:
        """The observation field (or the action field) called `name`."""
        for field in (*self.observation, self.action):
            if field.name == name:
                return field
        raise InterfaceError(f"no field '{name}'; there are {[*self.names, self.action.name]}")

    def compare(self, other: "Interface") -> list[str]:
        """Differences in words, empty when both are equal. `self` is what is expected, `other` what was found."""
        differences = []
        if self.dt != other.dt:
            differences.append(f"dt: expected {self.dt} s, found {other.dt} s")
        mine = {field.name: field for field in self.observation}
        theirs = {field.name: field for field in other.observation}
        differences += [f"observation '{name}' is missing" for name in mine if name not in theirs]
        differences += [f"observation '{name}' is not expected" for name in theirs if name not in mine]
        pairs = [(f"observation '{name}'", mine[name], theirs[name]) for name in mine if name in theirs]
        pairs.append(("action", self.action, other.action))
        for label, expected, found in pairs:
            for key, value in asdict(expected).items():
                if value != getattr(found, key):
                    differences.append(f"{label}: {key} expected {value!r}, found {getattr(found, key)!r}")
        if not differences and self.names != other.names:
            differences.append(f"observation order: expected {self.names}, found {other.names}")
        return differences

    def to_json(self) -> str:
        return json.dumps(asdict(self), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Interface":
        try:
            raw = json.loads(text)
            return Interface(tuple(_field(f) for f in raw["observation"]), _field(raw["action"]), float(raw["dt"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InterfaceError(f"this text is not an Interface: {error!r}") from error

    def check(self, observation: Mapping[str, Any]) -> None:
        """Raise an ObservationError unless every field is there, batched, of its shape and finite.

        Arrays are numpy or anything `numpy.asarray` takes, shape (B, *field.shape).
        """
        missing = [name for name in self.names if name not in observation]
        if missing:
            raise ObservationError(f"observation lacks {missing}; it must have {list(self.names)}")
        batch = None
        for field in self.observation:
            array = np.asarray(observation[field.name])
            if array.shape[1:] != field.shape or array.ndim != len(field.shape) + 1:
                expected = ", ".join(["B", *map(str, field.shape)])
                raise ObservationError(f"observation '{field.name}' has shape {array.shape}, expected ({expected})")
            batch = array.shape[0] if batch is None else batch
            if array.shape[0] != batch:
                raise ObservationError(f"observation '{field.name}' has batch {array.shape[0]}, the fields before it {batch}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                bad = np.argwhere(~np.isfinite(array))
                raise ObservationError(
                    f"observation '{field.name}' is not finite in {len(bad)} of {array.size} elements, "
                    f"first at {tuple(int(i) for i in bad[0])}"
                )


def _field(raw: dict[str, Any]) -> Field:
    return Field(**{**raw, "shape": tuple(raw["shape"]), "names": tuple(raw["names"])})
