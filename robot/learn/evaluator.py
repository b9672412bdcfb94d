"""The one rollout loop: a policy plays the episodes 0 … N-1 of a run, a row an episode.

Episode e is the same world and the same policy noise whatever the number of parallel worlds: the env numbers episodes and
the noise of a decision is drawn from the seed, the episode and its step.
"""

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from robot.core.errors import ConfigError
from robot.core.paths import ROOT
from robot.learn.realtime import ExecutionConfig, execution_of
from robot.learn.statistics import median, summary
from robot.learn.video import Film
from sim.env import Env

Watch = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None]
"""Of a step: actions (B, *action), worlds where another plan begins (B,), worlds whose episode ends (B,)."""


@dataclass
class EvaluatorConfig:
    episodes: int
    """Episodes to play."""
    seed: int
    """Seed of the run; episode e draws from (seed, e)."""
    videos: int
    """How many of the first episodes are recorded for video."""
    latency_plans: int
    """Decisions of a single robot that are timed, 0 for none."""
    execution: ExecutionConfig | None
    """How plans are carried out that take time; null: as if they took none."""


@dataclass
class Report:
    """Rows by episode number, and what was recorded on the way."""

    columns: dict[str, np.ndarray]
    labels: dict[str, list[str]]
    latency_ms: dict[str, float]
    traces: list[Any] = field(default_factory=list)

    def metrics(self, rows: np.ndarray | None = None) -> dict[str, dict[str, float]]:
        """Mean with 95 % interval of every measure; `time_to_collision` is a median over episodes."""
        chosen = slice(None) if rows is None else rows
        names = [name for name in self.columns if name not in self.labels and name not in ("episode", "seed")]
        out = {name: summary(self.columns[name][chosen]) for name in names}
        if "collision" in self.columns:
            first = np.where(self.columns["collision"] > 0, self.columns["time"], np.inf)[chosen]
            value, low, high = median(first)
            finite = [float(v) if np.isfinite(v) else None for v in (value, low, high)]
            out["time_to_collision_median"] = {"mean": finite[0], "low": finite[1], "high": finite[2], "n": len(first)}
        return out

    def groups(self) -> dict[str, dict[str, dict[str, Any]]]:
        """The metrics for each value of each label."""
        out: dict[str, dict[str, dict[str, Any]]] = {}
        for label, names in self.labels.items():
            index = self.columns[label].astype(int)
            out[label] = {name: self.metrics(index == k) for k, name in enumerate(names) if bool((index == k).any())}
        return out


class Evaluator:
    def __init__(self, config: EvaluatorConfig) -> None:
        if config.episodes < 1:
            raise ConfigError(f"evaluator.episodes: {config.episodes}; at least 1 is needed")
        self.config = config

    @torch.no_grad()
    def run(self, policy: Any, env: Env, quiet: bool = False, watch: Watch | None = None) -> Report:
        """Play; `policy` is a Policy or anything that plans like one. `watch` sees every step, see `realtime.Jerk`."""
        config = self.config
        observation, _ = env.reset(seed=config.seed)
        execution = execution_of(config.execution, policy, env, config.seed)
        rows: dict[int, dict[str, float]] = {}
        recorder = Recorder(env, config.videos)
        columns = (TextColumn("evaluate"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, disable=quiet) as bar:
            task = bar.add_task("evaluate", total=config.episodes)
            while len(rows) < config.episodes:
                action = execution.act(observation)
                recorder.before(execution.plan)
                observation, _, _, _, info = env.step(action)
                self._collect(info, rows)
                if watch is not None:
                    watch(action, execution.border, info["done"])
                execution.end(info["done"])
                recorder.after(info)
                bar.update(task, completed=min(len(rows), config.episodes))
        table = [rows[e] for e in sorted(rows)]
        values = {name: np.array([row[name] for row in table]) for name in table[0]}
        return Report(values, getattr(env, "labels", {}), self._latency(policy, observation), recorder.traces)

    def quick(self, policy: Any, env: Env, episodes: int) -> dict[str, float]:
        """Means for a curve during training, {"eval/<measure>": …}, over other episodes than `run` plays."""
        config = replace(self.config, episodes=episodes, seed=self.config.seed + 500_000, videos=0, latency_plans=0)
        metrics = Evaluator(config).run(policy, env, quiet=True).metrics()
        return {
            f"eval/{name}": metrics[name]["mean"]
            for name in ("success", "spl", "collision", "final_error", "score")
            if name in metrics
        }

    def _collect(self, info: dict[str, Any], rows: dict[int, dict[str, float]]) -> None:
        if "final_info" not in info:
            return
        for i in torch.nonzero(info["done"]).flatten().tolist():
            episode = int(info["episode"][i])
            if episode < self.config.episodes:
                measures = {name: float(value[i]) for name, value in info["final_info"].items()}
                rows[episode] = {"episode": episode, "seed": self.config.seed, **measures}

    def _latency(self, policy: Any, observation: dict[str, torch.Tensor]) -> dict[str, float]:
        """Milliseconds of one decision for one robot, all of torch's threads."""
        if not self.config.latency_plans or not getattr(policy, "alone", False):
            return {}
        one = {name: value[:1] for name, value in observation.items()}
        noise = torch.randn(1, *policy.noise_shape()) if policy.noise_shape() else None
        times, memory = [], policy.initial_memory(1)
        for _ in range(self.config.latency_plans + 3):
            start = time.perf_counter()
            memory = policy.plan(one, memory, noise).memory
            times.append(1e3 * (time.perf_counter() - start))
        return {f"p{q}": float(np.percentile(times[3:], q)) for q in (50, 99)}


class Recorder:
    """Traces of the first episodes, one a world, for videos.

    An env that can be drawn offers `snapshot` and `scenery`, what render.py draws from, or a `picture` of a world as it is.
    """

    def __init__(self, env: Env, count: int) -> None:
        self.env: Any = env
        self.open: dict[int, list[Any]] = {}
        self.traces: list[Any] = []
        self.pictured = hasattr(env, "picture")
        if self.pictured or hasattr(env, "snapshot"):
            self.open = {i: [] for i in range(min(count, env.num_envs))}
        if not self.pictured:
            self.scenery = {i: self.env.scenery(i) for i in self.open}

    def before(self, plan: Any) -> None:
        """Keep what was seen and planned, before it is executed."""
        from robot.learn.render import Step

        for i, steps in self.open.items():
            if self.pictured:
                steps.append(self.env.picture(i))
                continue
            now = self.env.snapshot(i)
            place = lambda action, pose=now["pose"]: _world(action.double().numpy(), pose)  # noqa: E731
            candidates = None if plan.candidates is None else place(plan.candidates[i])
            values = None if plan.values is None else plan.values[i].numpy()
            steps.append(Step(path=place(plan.actions[i, 0]), candidates=candidates, values=values, **now))

    def after(self, info: dict[str, Any]) -> None:
        """Close the traces of the episodes that ended."""
        from robot.learn.render import Trace

        for i in [i for i in self.open if bool(info["done"][i])]:
            final = {name: float(value[i]) for name, value in info["final_info"].items()}
            if self.pictured:
                outcome = "success" if final["success"] else "timeout"
                self.traces.append(Film(int(info["episode"][i]), outcome, self.env.interface.dt, self.open.pop(i)))
                continue
            outcome = "collision" if final["collision"] else "success" if final["success"] else "timeout"
            steps = self.open.pop(i)
            self.traces.append(Trace(episode=int(info["episode"][i]), outcome=outcome, steps=steps, **self.scenery[i]))


def _world(action: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Waypoints (..., T, 2) in frame w of paths (..., T, 3) planned at `pose`."""
    points = np.cumsum(action[..., :2], axis=-2)
    c, s = np.cos(pose[2]), np.sin(pose[2])
    return points @ np.array([[c, s], [-s, c]]) + pose[:2]


def write_results(report: Report, folder: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Write results.json and episodes.parquet, atomically; returns the content of results.json."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    columns: dict[str, Any] = dict(report.columns)
    for label, names in report.labels.items():
        columns[label] = [names[int(k)] for k in report.columns[label]]
    draft = folder / "episodes.parquet.tmp"
    pq.write_table(pa.table(columns), draft)
    os.replace(draft, folder / "episodes.parquet")
    results = {
        **header,
        "episodes": len(report.columns["episode"]),
        "metrics": report.metrics(),
        "groups": report.groups(),
        "latency_ms": report.latency_ms,
        "revision": revision(),
    }
    draft = folder / "results.json.tmp"
    draft.write_text(json.dumps(results, indent=1, allow_nan=False))
    os.replace(draft, folder / "results.json")
    return results


def revision() -> str:
    """The git revision of the checkout, 'unknown' outside one."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
