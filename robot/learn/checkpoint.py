"""Checkpoints and exported policies: safetensors, JSON and ONNX, no pickled code.

A run folder holds `config.yaml` and `checkpoints/step-00001000/{policy,train}.safetensors, state.json}`. A checkpoint is
written under another name and renamed, so that the newest complete one is always whole.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from policies.policy import Policy
from robot.core.config import build
from robot.core.errors import CheckpointError
from robot.core.interface import Interface


def save(
    run: Path, step: int, policy: Policy, average: dict[str, Tensor], optimizer: torch.optim.Optimizer, keep: int = 1
) -> Path:
    """Write the checkpoint of `step`; older ones but the newest `keep` are removed."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    draft = folder.with_suffix(".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in average.items()}, draft / "policy.safetensors")
    save_file(_training_state(policy, optimizer), draft / "train.safetensors")
    state = {"step": step, "interface": json.loads(policy.interface.to_json()), "torch": torch.__version__}
    (draft / "state.json").write_text(json.dumps(state))
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(draft, folder)
    for old in sorted(folder.parent.glob("step-????????"))[:-keep]:
        shutil.rmtree(old)
    return folder


def newest(run: Path) -> Path | None:
    """The newest complete checkpoint of a run, None if it has none."""
    return max((run / "checkpoints").glob("step-????????"), default=None)


def restore(folder: Path, policy: Policy, average: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
    """Load everything that training needs to go on; returns the step."""
    state = _state(folder)
    tensors = _tensors(folder / "train.safetensors")
    weights = {k[7:]: v for k, v in tensors.items() if k.startswith("policy/")}
    _load(policy, weights, folder)
    for name, value in _tensors(folder / "policy.safetensors").items():
        average[name].copy_(value)
    names = dict(policy.named_parameters())
    for name, parameter in names.items():
        entry = {k.split("/")[0]: v for k, v in _moments(tensors, name).items()}
        if entry:
            optimizer.state[parameter] = entry
    return int(state["step"])


def load_policy(path: str | Path, overrides: dict[str, Any] | None = None, env: Any = None) -> tuple[Policy, DictConfig]:
    """The policy of a run folder with its averaged weights, and the run's config; `env` is for policies that read it.

    Raises:
        CheckpointError: no run there, no checkpoint in it, or one that cannot be read or does not fit.
    """
    run = Path(path)
    if not (run / "config.yaml").exists():
        raise CheckpointError(
            f"'{run}' is no run folder: it has no config.yaml; train one with: python -m robot.train policy=navdp"
        )
    config = OmegaConf.load(run / "config.yaml")
    folder = newest(run)
    if folder is None:
        raise CheckpointError(
            f"'{run}' has no complete checkpoint yet; go on with: python -m robot.train output={run} resume=true"
        )
    state = _state(folder)
    interface = Interface.from_json(json.dumps(state["interface"]))
    node = OmegaConf.merge(config.policy, overrides or {})
    policy = build(node, "policy", interface=interface, env=env)
    _load(policy, _tensors(folder / "policy.safetensors"), folder)
    return policy.eval(), config


@dataclass
class CheckpointConfig:
    path: str
    """Run folder."""
    overrides: dict[str, Any]
    """Keys of the policy's config to change, e.g. {candidates: 32}; those that change the weights' shapes fail."""


def Checkpoint(config: CheckpointConfig, env: Any = None) -> Policy:
    """The policy of a run folder, as a component."""
    return load_policy(config.path, config.overrides, env)[0]


def _training_state(policy: Policy, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"policy/{name}": value.contiguous() for name, value in policy.state_dict().items()}
    for name, parameter in policy.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = torch.as_tensor(value).contiguous()
    return tensors


def _moments(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if key.endswith("/" + name) and not key.startswith("policy/")}


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint file '{file}' is missing or corrupt ({error}); "
            "remove its folder to fall back to an older one, or train again"
        ) from error


def _state(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint '{folder}' has no readable state.json ({error}); remove the folder and resume"
        ) from error


def _load(policy: nn.Module, weights: dict[str, Tensor], folder: Path) -> None:
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(
            f"checkpoint '{folder}' has weights that are not finite: {', '.join(broken[:3])}; "
            "remove its folder to fall back to an older one, or train again"
        )
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f"checkpoint '{folder}' does not fit the policy of its config.yaml: {lines[min(1, len(lines) - 1)]}"
        ) from error
