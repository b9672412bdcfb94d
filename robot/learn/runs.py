"""Run folders: where they are, what they hold, and the steps that entry points share."""

import json
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from omegaconf import DictConfig, OmegaConf

from policies.policy import Policy
from robot.core.config import build
from robot.core.errors import CheckpointError, ConfigError, InterfaceError
from robot.core.paths import CONFIGS, PRETRAINED
from robot.learn.evaluator import Evaluator, Report, revision, write_results
from robot.learn.video import Film, write_video
from sim.env import Env

RUNS = Path("runs")
FASTER = 3
"""Films of pictures run so many times faster than the world."""
HEADLINE = (
    ("success", 100, 1), ("score", 1, 3), ("final_coverage", 1, 3), ("spl", 1, 3), ("collision", 100, 1), ("lost", 100, 1),
    ("final_error", 1, 3), ("rmse", 1, 3), ("time", 1, 1),
)  # fmt: skip
"""Measures in a printed row, of those that an env has: name, factor, digits."""


def played(choice: str, node: DictConfig) -> str:
    """What results call a policy: its yaml's name, or for a saved one its folder's."""
    return Path(node.path).resolve().name if choice in ("onnx", "checkpoint") else choice


def folder_for(output: str | None, name: str, resume: bool) -> Path:
    """The run folder: the one given, the newest of this name to resume, or a new one by the time."""
    if output:
        return Path(output)
    group = RUNS / name
    if resume:
        runs = sorted(path for path in group.glob("*") if (path / "config.yaml").exists())
        if not runs:
            raise CheckpointError(f"resume=true, but '{group}' has no run; leave resume out to start one")
        return runs[-1]
    return group / time.strftime("%Y-%m-%d_%H-%M-%S")


def start(run: Path, cfg: DictConfig) -> None:
    """Make the folder with the resolved config and the versions; a folder with another config is refused."""
    run.mkdir(parents=True, exist_ok=True)
    file = run / "config.yaml"
    plain = {key: value for key, value in OmegaConf.to_container(cfg, resolve=True).items() if key not in ("resume", "output")}
    if file.exists():
        before = OmegaConf.to_container(OmegaConf.merge(plain, OmegaConf.load(file)))  # keys it did not know have their defaults
        changed = sorted(key for key in {*plain, *before} if plain.get(key) != before.get(key))
        if changed:
            raise ConfigError(
                f"'{run}' holds a run with other values of {changed}; give the same ones to go on, or another output"
            )
        return
    OmegaConf.save(OmegaConf.create(plain), file)
    packages = ("torch", "numpy", "numba", "mujoco", "gymnasium", "onnxruntime")
    versions = {name: metadata.version(name) for name in packages}
    about = {"revision": revision(), "python": platform.python_version(), "machine": platform.processor(), **versions}
    (run / "versions.json").write_text(json.dumps(about, indent=1))


def begin_with(policy: Any, run: str) -> None:
    """Give a new policy the weights of a run of the same policy.

    Raises:
        CheckpointError: there is no such run, or its policy is another one.
    """
    from robot.learn.checkpoint import load_policy

    try:
        policy.load_state_dict(load_policy(run)[0].state_dict())
    except RuntimeError as error:
        first = str(error).splitlines()[min(1, len(str(error).splitlines()) - 1)].strip()
        raise CheckpointError(
            f"start={run}: its weights do not fit this policy: {first}; start takes a run of the same policy"
        ) from error


def make_policy(node: DictConfig, name: str, env: Env, **runtime: Any) -> Any:
    """A policy for an env: it must have the env's Interface, and one that learns must come with weights."""
    policy = build(node, "policy", interface=env.interface, env=env, **runtime)
    if any(True for _ in getattr(policy, "parameters", tuple)()) and "path" not in node:
        raise CheckpointError(
            f"policy '{name}' has no trained weights in '{PRETRAINED / name}'; train it with python -m robot.train policy={name} "
            "and evaluate policy=<its run folder>"
        )
    differences = env.interface.compare(policy.interface)
    if differences:
        raise InterfaceError(f"policy and env do not fit: {'; '.join(differences[:3])}; name the env it is for with env=<name>")
    return policy


def evaluate(policy: Any, name: str, env: Env, evaluator: Evaluator, folder: Path, header: dict[str, Any]) -> Report:
    """Play, write the results, and return them."""
    report = evaluator.run(policy, env)
    if evaluator.config.videos and not report.traces:
        from robot.learn import flight_film

        report.traces = flight_film.record(policy, env, evaluator.config.videos, evaluator.config.seed)
    write_results(report, folder, {"policy": name, "seed": evaluator.config.seed, **header})
    return report


def line(name: str, report: Report) -> str:
    """One row of the table that entry points print."""
    metrics = report.metrics()
    cells = [f"{name:<18}"]
    for key, scale, digits in HEADLINE:
        if key not in metrics:
            continue
        value = metrics[key]
        cells.append(
            f"{key} {scale * value['mean']:.{digits}f} [{scale * value['low']:.{digits}f}, {scale * value['high']:.{digits}f}]"
        )
    return "  ".join([*cells, f"n={metrics['success']['n']}"])


def baseline(name: str, env: Env, policy: Any) -> Any:
    """A policy by the name of its yaml, to be evaluated beside `policy`, which wrappers hold."""
    file = CONFIGS / "policy" / f"{name}.yaml"
    if not file.exists():
        raise ConfigError(f"baselines: no policy '{name}'; there are {sorted(path.stem for path in file.parent.glob('*.yaml'))}")
    node = compose("train", [f"policy={name}"]).policy
    return build(node, f"policy {name}", interface=env.interface, env=env, policy=policy)


def learns(policy: Any) -> bool:
    """Whether a policy has a loss of its own: a baseline that has is trained as the policy beside it."""
    return getattr(type(policy), "loss", Policy.loss) is not Policy.loss


def export(policy: Any, folder: Path, target: str = "onnx") -> str:
    """Export, check parity, and say so in a line.

    Raises:
        CheckpointError: the export and torch disagree by more than 1e-4.
        ConfigError: there is no such target.
    """
    from policies import onnx

    if target == "c":
        return _export_c(policy, folder)
    if target != "onnx":
        raise ConfigError(f"target: no '{target}'; there are onnx and c")

    if type(policy).export is Policy.export:
        return f"exported  nothing: {type(policy).__name__} is for training, not for deployment"
    file = onnx.export(policy, folder, {"revision": revision()})
    gap = onnx.parity(policy, file)
    if gap > 1e-4:
        raise CheckpointError(f"'{file}': onnxruntime differs from torch by {gap:.1e}, more than 1e-4; do not deploy it")
    return f"exported  {file} ({file.stat().st_size / 1e6:.1f} MB), largest difference to torch {gap:.1e}"


def _export_c(policy: Any, folder: Path) -> str:
    from policies import c99

    file = c99.export(policy, folder, {"revision": revision()})
    observations = torch.randn(1000, policy.embed.in_features, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    check = c99.check(policy, file, observations)
    if check is None:
        return f"exported  {file}; no C compiler here to check it with"
    if check.gap > 1e-4:
        raise CheckpointError(f"'{file}': C differs from torch by {check.gap:.1e}, more than 1e-4; do not deploy it")
    return (
        f"exported  {file}: {check.size / 1024:.1f} KiB of code and constants, {check.microseconds:.2f} us a step here, "
        f"largest difference to torch {check.gap:.1e} over 1,000 steps"
    )


def draw(report: Report, folder: Path, prefix: str) -> None:
    """Encode the recorded episodes as videos."""
    if not report.traces:
        return
    from robot.learn import flight_film, render

    folder.mkdir(parents=True, exist_ok=True)
    for trace in report.traces:
        if isinstance(trace, tuple):
            name, flight = trace
            flight_film.draw(flight, folder / "-".join(part for part in (prefix, name) if part))
            continue
        stem = "-".join(part for part in (prefix, f"episode-{trace.episode:04d}") if part)
        if isinstance(trace, Film):
            write_video(folder / f"{stem}.mp4", trace.pictures, fps=round(FASTER / trace.dt))
            continue
        render.render(trace, folder / f"{stem}.mp4")
