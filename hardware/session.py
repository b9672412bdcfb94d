"""An exported policy in onnxruntime: one file, numpy in and out."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import CheckpointError, InterfaceError
from robot.core.interface import Interface

Array = NDArray[Any]


@dataclass(frozen=True)
class Spec:
    """What a policy's file says of itself."""

    interface: Interface
    memory: dict[str, tuple[int, ...]]
    """Shapes of what it remembers; zeros at the start of an episode."""
    noise: tuple[int, ...]
    """Shape of the standard normal noise of a decision."""
    steps: int
    """Actions a decision."""


class Session:
    """One thread, no spinning: a core beside it stays free for the servo loop."""

    def __init__(self, file: str | Path, seed: int) -> None:
        """
        Raises:
            CheckpointError: the file is missing, is no ONNX graph, or was not exported by `robot.export`.
        """
        import onnxruntime as ort

        path = Path(file)
        path = path / "policy.onnx" if path.is_dir() else path
        if not path.is_file():
            raise CheckpointError(f"policy: there is no '{path}'; export one with: python -m robot.export policy=<run>")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise CheckpointError(f"'{path}' is no readable ONNX file: {str(error).splitlines()[0][:200]}") from error
        self.names = [entry.name for entry in self.session.get_inputs()]
        self.outputs = [entry.name for entry in self.session.get_outputs()]
        self.spec = self._spec(path)
        self.random = np.random.default_rng()
        self.reset()
        with contextlib.suppress(Exception):  # the first is the slowest; of what no robot sees, some policies make nothing
            self.plan({f.name: np.ones(f.shape, f.dtype) for f in self.spec.interface.observation})
        self.random = np.random.default_rng(seed)
        self.reset()

    def _spec(self, path: Path) -> Spec:
        known = self.session.get_modelmeta().custom_metadata_map
        try:
            interface = Interface.from_json(known["interface"])
            memory = {name: tuple(shape) for name, shape in json.loads(known["memory"]).items()}
            shape = self.session.get_outputs()[self.outputs.index("action")].shape
            return Spec(interface, memory, tuple(json.loads(known["noise"])), int(shape[1]))
        except (InterfaceError, KeyError, ValueError, IndexError, TypeError) as error:
            raise CheckpointError(
                f"'{path}' says nothing of the robot it is for ({error!r}); export it again with: python -m robot.export"
            ) from error

    def reset(self) -> None:
        """Begin an episode: memory is zero."""
        self.memory = {name: np.zeros((1, *shape), np.float32) for name, shape in self.spec.memory.items()}

    def plan(self, observation: dict[str, Array]) -> Array:
        """Actions (Ta, *action shape) from one observation, arrays without batch; the memory moves on."""
        feed: dict[str, Array] = {
            field.name: np.asarray(observation[field.name], field.dtype)[None] for field in self.spec.interface.observation
        }
        feed |= self.memory
        feed["noise"] = self.random.standard_normal((1, *self.spec.noise), np.float32)
        results = self.session.run(None, {name: np.ascontiguousarray(feed[name]) for name in self.names})
        found = {name: np.asarray(value) for name, value in zip(self.outputs, results, strict=True)}
        self.memory = {name: found[f"next_{name}"] for name in self.memory}
        return found["action"][0]
