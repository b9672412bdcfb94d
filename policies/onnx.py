"""ONNX: one file that holds the whole decision, from raw named observations, noise and memory to actions.

The Interface, the names of memory tensors and the sizes of the noise are in the file's metadata, so a runtime needs nothing
else. `OnnxPolicy` runs such a file as a Policy.
"""

import json
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from policies.policy import Memory, Observation, Plan, Policy
from robot.core.errors import CheckpointError, NotSupportedError
from robot.core.interface import Interface

FILE = "policy.onnx"
OUTPUTS = ("action", "candidates", "values")


class _Flat(nn.Module):
    """Positional tensors in and out, as the exporter wants them."""

    def __init__(self, module: nn.Module, observation: list[str], memory: list[str]) -> None:
        super().__init__()
        self.module, self.observation, self.memory = module, observation, memory

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip([*self.observation, *self.memory, "noise"], tensors, strict=True))
        out = self.module({k: named[k] for k in self.observation}, {k: named[k] for k in self.memory}, named["noise"])
        return tuple(out[k] for k in (*OUTPUTS, *self.memory) if k in out)


def export(policy: Policy, folder: Path, extra: dict[str, str] | None = None) -> Path:
    """Write `folder`/policy.onnx atomically; any batch size, float32 throughout.

    Raises:
        NotSupportedError: the policy has no exportable graph.
    """
    module = policy.eval().export()
    observation = example(policy.interface, 2)
    memory = policy.initial_memory(2)
    names = [*observation, *memory, "noise"]
    inputs = (*observation.values(), *memory.values(), torch.randn(2, *policy.noise_shape()))
    with torch.no_grad():
        given = module(observation, memory, inputs[-1])
    outputs = [*(name for name in OUTPUTS if name in given), *(f"next_{name}" for name in memory)]
    if len(set(names)) != len(names):
        raise NotSupportedError(f"inputs of a graph need names of their own, got {names}; rename what stands twice")
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{FILE}.tmp"
    batch = torch.export.Dim("batch", min=1, max=4096)
    for name in ("onnx_ir", "onnxscript"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Flat(module, list(observation), list(memory)).eval(), inputs, input_names=names, output_names=outputs,
            dynamic_shapes=(tuple({0: batch} for _ in inputs),), opset_version=18, dynamo=True, verbose=False,
        )  # fmt: skip
    meta = {
        "interface": policy.interface.to_json(),
        "memory": json.dumps({name: list(value.shape[1:]) for name, value in memory.items()}),
        "noise": json.dumps(list(policy.noise_shape())),
        **(extra or {}),
    }
    program.model.metadata_props.update(meta)
    program.save(str(draft), external_data=False)
    strip(draft)
    os.replace(draft, folder / FILE)
    return folder / FILE


def strip(file: Path) -> None:
    """Remove what the exporter notes of its own work, stack traces with paths above all: a third of the file."""
    import onnx

    model = onnx.load(file)
    for graph in (model.graph, *model.functions):
        for part in (*graph.node, *graph.value_info):
            del part.metadata_props[:]
            part.doc_string = ""
    for part in (*model.graph.input, *model.graph.output, *model.graph.initializer, model.graph):
        del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, file)


def parity(policy: Policy, file: Path, batch: int = 3, seed: int = 0) -> float:
    """Largest difference between torch and onnxruntime over actions, candidates, values and memory, two steps in a row.

    Numbers above 1 count relative to their size, since actions may be hundreds of pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    runtime = OnnxPolicy(OnnxConfig(str(file), 0))
    worst, memory, other = 0.0, policy.initial_memory(batch), runtime.initial_memory(batch)
    for _ in range(2):
        observation = example(policy.interface, batch, generator)
        noise = torch.randn(batch, *policy.noise_shape(), generator=generator)
        with torch.no_grad():
            a, b = policy.plan(observation, memory, noise), runtime.plan(observation, other, noise)
        pairs = [(a.actions, b.actions), (a.candidates, b.candidates), (a.values, b.values)]
        pairs += [(a.memory[k], b.memory[k]) for k in a.memory]
        gaps = [((x - y).abs() / x.abs().clamp_min(1.0)).max() for x, y in pairs if x is not None and y is not None]
        worst = max(worst, *map(float, gaps))
        memory, other = a.memory, b.memory
    return worst


def example(interface: Interface, batch: int, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """Plausible random observations (batch, …) within the fields' bounds."""
    observation = {}
    for field in interface.observation:
        low = -1.0 if field.low is None else field.low
        high = low + 4.0 if field.high is None else field.high
        value = torch.rand(batch, *field.shape, generator=generator) * (high - low) + low
        if field.name == "robot":
            value = value.abs() * 0.2 + 0.3
        observation[field.name] = value if field.dtype == "float32" else (value * 64).to(torch.uint8)
    return observation


@dataclass
class OnnxConfig:
    path: str
    """The .onnx file, or a folder with policy.onnx in it."""
    threads: int
    """Threads of onnxruntime, 0 for all cores."""


class OnnxPolicy(Policy):
    """An exported policy, run by onnxruntime."""

    def __init__(self, config: OnnxConfig) -> None:
        import onnxruntime as ort

        path = Path(config.path)
        path = path / FILE if path.is_dir() else path
        options = ort.SessionOptions()
        options.intra_op_num_threads = config.threads
        try:
            self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            meta = self.session.get_modelmeta().custom_metadata_map
            interface = Interface.from_json(meta["interface"])
            self.memory_shapes = json.loads(meta["memory"])
            self.noise = tuple(json.loads(meta["noise"]))
        except KeyError as error:
            raise CheckpointError(f"'{path}' has no {error} in its metadata; export it with: python -m robot.export") from error
        except Exception as error:
            raise CheckpointError(f"'{path}' is not a readable ONNX policy: {str(error).splitlines()[0]}") from error
        super().__init__(interface)

    def initial_memory(self, batch: int) -> Memory:
        return {name: torch.zeros(batch, *shape) for name, shape in self.memory_shapes.items()}

    def noise_shape(self) -> tuple[int, ...]:
        return self.noise

    def decide(self, inputs: dict[str, Tensor], memory: Memory, noise: Tensor | None = None) -> Plan:
        raise NotSupportedError("an exported policy decides from observations only: call plan")

    def plan(self, observation: Observation, memory: Memory, noise: Tensor | None = None) -> Plan:
        batch = next(iter(observation.values())).shape[0]
        noise = torch.randn(batch, *self.noise) if noise is None else noise
        feed = {**{k: observation[k] for k in self.interface.names}, **memory, "noise": noise}
        given = {entry.name for entry in self.session.get_inputs()}
        results = self.session.run(None, {k: np.ascontiguousarray(v.numpy()) for k, v in feed.items() if k in given})
        out = {entry.name: torch.from_numpy(r) for entry, r in zip(self.session.get_outputs(), results, strict=True)}
        after = {name: out[f"next_{name}"] for name in self.memory_shapes}
        return Plan(out["action"], after, out.get("candidates"), out.get("values"))
