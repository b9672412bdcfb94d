"""What a recurrent policy finds out about the vehicle it flies: one batch of flights, and what can be read from its memory.

A linear probe (ridge regression on standardised inputs, cut at the 1st and 99th percentile so that one vehicle far off does
not decide) is fitted on half of the vehicles and scored on the other half by
R^2 = 1 - sum (y - y')^2 / sum (y - mean y)^2. The same probe on the observation of that moment, which holds the last action,
is the control: what it can read needs no memory. Intervals are percentiles of a bootstrap over the held-out vehicles.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from robot.core.errors import ConfigError
from robot.core.optional import require
from sim.quadrotor import dynamics, vehicle

Array = NDArray[np.floating[Any]]
RIDGE = 1e-2
"""Weight of the squared coefficients beside the mean squared error of standardised values."""
RESAMPLES = 1000
HIGH, MIDDLE, LOW = "#2a7fd4", "#8a8f98", "#d1495b"


@dataclass
class Flights:
    """N flights of T control periods; everything is of the moment before a command is carried out."""

    dt: float
    """Control period [s]."""
    hidden: Array
    """Memory after the decision (T, N, H)."""
    observations: Array
    """(T, N, 22)."""
    quantities: dict[str, Array]
    """What differs between vehicles, (N,) each, in SI units."""


@dataclass
class Probe:
    """R^2 on held-out vehicles with its 95 % interval."""

    r2: float
    low: float
    high: float


@torch.no_grad()
def fly(policy: Any, env: Any, seconds: float, seed: int) -> Flights:
    """One flight of every world of a quadrotor env, which must last longer than `seconds` and must not terminate."""
    if env.config.limits.terminate or env.max_steps * env.config.dt <= seconds:
        raise ConfigError(f"env: set limits.terminate=false and time_limit above {seconds} s, so that no flight ends early")
    observation, _ = env.reset(seed=seed)
    memory = policy.initial_memory(env.num_envs)
    if not memory:
        raise ConfigError(f"policy: {type(policy).__name__} has no memory to look into; take a recurrent one such as raptor")
    hidden, seen = [], []
    for _ in range(round(seconds / env.config.dt)):
        plan = policy.plan(observation, memory)
        memory = plan.memory
        hidden.append(torch.cat([value.flatten(1) for value in memory.values()], 1).numpy().copy())
        seen.append(torch.cat([observation[name].flatten(1) for name in env.interface.names], 1).numpy().copy())
        observation, *_ = env.step(plan.actions[:, 0])
    return Flights(env.config.dt, np.stack(hidden), np.stack(seen), quantities(env.params))


def quantities(params: dynamics.Params) -> dict[str, Array]:
    """What a policy could want to know of vehicles, (N,) each; mass as its logarithm, since it spans two decades."""
    lift = params["thrust_coefficients"].sum(-1)
    torque = (params["rotor_positions"][..., 1].abs() * lift).sum(-1) / 2
    found = {
        "thrust-to-weight": vehicle.thrust_to_weight(params), "log mass": params["mass"].log(),
        "torque-to-inertia": torque / params["inertia"][:, 0], "rise time": params["rise"][:, 0],
    }  # fmt: skip
    return {name: value.double().numpy() for name, value in found.items()}


def probe(inputs: ArrayLike, target: ArrayLike, seed: int = 0) -> Probe:
    """How well `target` (N,) is a linear function of `inputs` (N, K), learned on one half and tested on the other."""
    x, y = np.asarray(inputs, np.float64), np.asarray(target, np.float64)
    if len(x) != len(y) or len(y) < 8:
        raise ConfigError(f"probe: {len(x)} inputs and {len(y)} targets; both must be the same number of vehicles, at least 8")
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(y))
    train, test = order[: len(y) // 2], order[len(y) // 2 :]
    x = x.clip(*np.percentile(x[train], [1, 99], axis=0))
    centre, spread = x[train].mean(0), x[train].std(0)
    x = (x - centre) / np.where(spread > 1e-9, spread, np.inf)
    mean = y[train].mean()
    gram = x[train].T @ x[train] / len(train) + RIDGE * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, x[train].T @ (y[train] - mean) / len(train))
    residual, truth = y[test] - mean - x[test] @ weights, y[test]
    picks = generator.integers(len(test), size=(RESAMPLES, len(test)))
    low, high = np.percentile([_r2(residual[p], truth[p]) for p in picks], [2.5, 97.5])
    return Probe(_r2(residual, truth), float(low), float(high))


def _r2(residual: Array, truth: Array) -> float:
    return float(1 - (residual**2).sum() / max(((truth - truth.mean()) ** 2).sum(), 1e-12))


def probes(flights: Flights, quantity: str, times: Array, memory: bool) -> list[Probe]:
    """The probe at `times` (M,) [s], on the memory or, as a control, on the observation of that moment."""
    series = flights.hidden if memory else flights.observations
    return [probe(series[round(time / flights.dt)], flights.quantities[quantity]) for time in times]


def components(hidden: Array) -> tuple[Array, Array]:
    """The first two principal components (T, N, 2) of memories (T, N, H), and the share of variance of each (2,)."""
    flat = hidden.reshape(-1, hidden.shape[-1]).astype(np.float64)
    centred = flat - flat.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return (centred @ vectors[:, :-3:-1]).reshape(*hidden.shape[:2], 2), values[:-3:-1] / values.sum()


def draw(flights: Flights, times: Array, found: dict[str, tuple[list[Probe], list[Probe]]], path: Path | str) -> Path:
    """One figure: memory in two dimensions, errors by thrust-to-weight, probes over time on memory and on observation."""
    figure = require("matplotlib.figure", extra="train").Figure(figsize=(13, 7.6), layout="constrained")
    axes = figure.subplots(2, 3)
    _memory(figure, axes[0, 0], flights)
    _errors(axes[0, 1], axes[0, 2], flights, slice(0, 3), "position error [m]")
    _errors(axes[1, 0], None, flights, slice(12, 15), "speed relative to the reference [m/s]")
    first, *others = found
    for series, label, colour in zip(found[first], ("memory", "observation alone"), (LOW, MIDDLE), strict=True):
        _band(axes[1, 1], times, series, label, colour)
    axes[1, 1].set_title(f"linear probe: {first}")
    for name, colour in zip(others, (HIGH, LOW, "#3a9d6e"), strict=False):
        _band(axes[1, 2], times, found[name][0], name, colour)
        axes[1, 2].plot(times, [p.r2 for p in found[name][1]], color=colour, linestyle=":", linewidth=1.2)
    axes[1, 2].set_title("others (dotted: observation alone)")
    for axis in axes[1, 1:]:
        axis.set(xlabel="time [s]", ylabel="held-out $R^2$", ylim=(-0.12, 1.02))
        axis.axhline(0, color="#c0c4cc", linewidth=0.8)
        axis.legend(frameon=False, loc="best")
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    return path


def _memory(figure: Any, axis: Any, flights: Flights, each: int = 12) -> None:
    """The vehicles of the lowest and the highest thrust-to-weight: paths of two seconds, a dot at the end."""
    ratio = flights.quantities["thrust-to-weight"]
    order = np.argsort(ratio)
    shown = np.concatenate([order[:each], order[-each:]])
    steps = min(len(flights.hidden), round(2 / flights.dt))
    places, share = components(flights.hidden[:steps])
    colours = require("matplotlib", extra="train").colormaps["coolwarm_r"]
    span = (float(ratio.min()), float(ratio.max()))
    for k in shown:
        colour = colours((ratio[k] - span[0]) / max(span[1] - span[0], 1e-9))
        axis.plot(*places[:, k].T, color=colour, linewidth=0.8, alpha=0.7)
    dots = axis.scatter(*places[-1, shown].T, c=ratio[shown], cmap=colours, vmin=span[0], vmax=span[1], s=22, zorder=3)
    figure.colorbar(dots, ax=axis, label="thrust-to-weight")
    axis.set(xlabel=f"component 1 ({share[0]:.0%} of variance)", ylabel=f"component 2 ({share[1]:.0%})")
    axis.set_title(f"memory over {steps * flights.dt:g} s: {len(shown)} extreme vehicles")


def _errors(early: Any, whole: Any, flights: Flights, columns: slice, label: str) -> None:
    """Median and quartiles by tercile of thrust-to-weight: the first half second linearly, and all on a logarithmic axis."""
    size = np.linalg.norm(flights.observations[..., columns], axis=-1).clip(1e-5)
    time = flights.dt * np.arange(len(size))
    terciles = np.array_split(np.argsort(flights.quantities["thrust-to-weight"]), 3)
    ratio = flights.quantities["thrust-to-weight"]
    for axis in (early, whole):
        if axis is None:
            continue
        for ids, colour in zip(terciles, (LOW, MIDDLE, HIGH), strict=True):
            low, middle, high = np.percentile(size[:, ids], [25, 50, 75], axis=1)
            axis.plot(time, middle, color=colour, label=f"{ratio[ids].min():.1f} to {ratio[ids].max():.1f}")
            axis.fill_between(time, low, high, color=colour, alpha=0.18, linewidth=0)
        axis.set(xlabel="time [s]", ylabel=label)
        axis.legend(frameon=False, title="thrust-to-weight")
    early.set_xlim(0, 0.5)
    early.set_title("the first 500 ms: median, quartiles")
    if whole is not None:
        whole.set(yscale="log", title="and beyond")


def _band(axis: Any, times: Array, series: list[Probe], label: str, colour: str) -> None:
    axis.plot(times, [p.r2 for p in series], color=colour, label=label)
    axis.fill_between(times, [p.low for p in series], [p.high for p in series], color=colour, alpha=0.18, linewidth=0)
