"""The results of a report: read from disk, and as tables with intervals."""

import json
import math
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from robot.core.optional import require
from robot.learn.statistics import paired

Interval = dict[str, Any]
"""`{"mean", "low", "high", "n"}`, None where a value is not known."""


@dataclass(frozen=True)
class Measure:
    """How a metric is shown.

    Attributes:
        title: column head.
        unit: of the numbers shown.
        scale: number shown over number stored.
        digits: after the point.
        better: 1 more is better, -1 less is better, 0 neither by itself.
        share: whether it is a share of 1 and gets a bar.
    """

    title: str
    unit: str = ""
    scale: float = 1.0
    digits: int = 2
    better: int = 0
    share: bool = False


MEASURES = {
    "success": Measure("Success", "%", 100.0, 1, 1, True),
    "spl": Measure("SPL", "", 1.0, 3, 1, True),
    "score": Measure("Score", "", 1.0, 3, 1),
    "max_coverage": Measure("Coverage, largest", "", 1.0, 3, 1),
    "final_coverage": Measure("Coverage, final", "", 1.0, 3, 1),
    "collision": Measure("Collision", "%", 100.0, 1, -1, True),
    "time": Measure("Time", "s", 1.0, 1),
    "time_to_collision_median": Measure("Time to collision, median", "s", 1.0, 1, 1),
    "area": Measure("Area seen", "m²", 1.0, 1, 1),
    "path_length": Measure("Path", "m", 1.0, 1),
    "geodesic": Measure("Shortest path", "m", 1.0, 1),
}
MAIN = ("success", "score", "final_coverage", "spl", "collision", "time")
"""Columns of the first table, as far as an env has them."""
REFERENCE = frozenset({"expert"})
"""Policies that know the whole scene: an upper bound, marked as such, never the best."""


@dataclass
class Result:
    """What one results.json says, and where it lies."""

    name: str
    folder: Path
    metrics: dict[str, Interval]
    groups: dict[str, dict[str, dict[str, Interval]]] = field(default_factory=dict)
    latency_ms: dict[str, float] = field(default_factory=dict)
    episodes: int = 0
    seed: int | None = None
    env: str = ""
    command: str = ""
    revision: str = ""
    config: dict[str, Any] = field(default_factory=dict)


def find(folder: Path) -> list[Path]:
    """Folders with a results.json: the folder itself, or those under its results/."""
    inside = sorted(path.parent for path in (folder / "results").glob("*/results.json"))
    return [folder, *inside] if (folder / "results.json").exists() else inside


def load(folder: Path) -> Result:
    """Read one results.json; a ValueError says what is wrong with it."""
    path = folder / "results.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read ({error})") from error
    metrics = raw.get("metrics") if isinstance(raw, dict) else None
    if not isinstance(metrics, dict) or not all(isinstance(value, dict) and "mean" in value for value in metrics.values()):
        raise ValueError(f"{path} has no metrics of the form {{name: {{mean, low, high, n}}}}")
    known = {key: raw[key] for key in ("groups", "latency_ms", "config") if isinstance(raw.get(key), dict)}
    texts = {key: str(raw.get(key) or "") for key in ("env", "command", "revision")}
    name = str(raw.get("policy") or folder.name)
    return Result(name, folder, metrics, episodes=int(raw.get("episodes") or 0), seed=raw.get("seed"), **texts, **known)


def number(value: float | None, digits: int, scale: float = 1.0) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value * scale:.{digits}f}".replace("-", "−")


def interval_text(value: Interval | None, measure: Measure) -> str:
    """ "86.2 [84.0, 88.3]", without the brackets where the interval is not known."""
    if not value or value.get("mean") is None:
        return "–"
    mean, low, high = (number(value.get(key), measure.digits, measure.scale) for key in ("mean", "low", "high"))
    return mean if value.get("low") is None or value.get("high") is None else f"{mean} [{low}, {high}]"


def measure_of(name: str) -> Measure:
    return MEASURES.get(name) or Measure(name.replace("_", " ").capitalize())


def main_columns(results: list[Result]) -> list[str]:
    """The metrics of the first table: the usual ones, or the first four of an env that has others."""
    names = dict.fromkeys(name for result in results for name in result.metrics)
    return [name for name in MAIN if name in names] or list(names)[:4]


def ranked(results: list[Result], ours: Result | None, column: str) -> list[Result]:
    """Ours first, then by the column, best first, then the references."""
    sign = measure_of(column).better or 1

    def key(result: Result) -> tuple[bool, bool, float]:
        mean = (result.metrics.get(column) or {}).get("mean")
        return result is not ours, result.name in REFERENCE, -sign * (-math.inf if mean is None else mean)

    return sorted(results, key=key)


def table(results: list[Result], columns: list[str], ours: Result | None) -> str:
    """Rows are policies; the best mean of each column is marked, and the difference to ours is over the same episodes."""
    best = {name: _best(results, name) for name in columns}
    against = columns[0] if ours is not None and len(results) > 1 else ""
    differences = {id(r): difference(r, ours, against) for r in results if ours is not None and r is not ours} if against else {}
    timed = any(result.latency_ms for result in results)
    heads = [_head(name) for name in columns]
    if any(differences.values()):
        measure = measure_of(against)
        unit = "points" if measure.unit == "%" else measure.unit
        heads.append(f"<th>Gain in {escape(_lower(measure.title))}<small>{unit}, paired</small></th>")
    if timed:
        heads.append("<th>Decision<small>ms, p50 / p99</small></th>")
    heads.append("<th>n</th>")
    rows = []
    for result in results:
        cells = [_cell(result, name, best[name] is result) for name in columns]
        if any(differences.values()):
            cells.append(f'<td class="num">{differences.get(id(result)) or "–"}</td>')
        if timed:
            cells.append(f'<td class="num">{_latency(result)}</td>')
        cells.append(f'<td class="num">{result.episodes or "–"}</td>')
        rows.append(f"<tr{_row_class(result, ours)}>{_name_cell(result, ours)}{''.join(cells)}</tr>")
    return _wrap(f"<thead><tr><th>Policy</th>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody>", "results")


def plain_table(results: list[Result], columns: list[str], ours: Result | None) -> str:
    """All other metrics, without bars."""
    heads = "".join(_head(name) for name in columns)
    rows = "".join(
        f"<tr{_row_class(result, ours)}>{_name_cell(result, ours)}"
        + "".join(f'<td class="num">{interval_text(result.metrics.get(name), measure_of(name))}</td>' for name in columns)
        + "</tr>"
        for result in results
    )
    return _wrap(f"<thead><tr><th>Policy</th>{heads}</tr></thead><tbody>{rows}</tbody>")


def group_table(results: list[Result], label: str, column: str, ours: Result | None) -> str:
    """One metric by the values of a label, e.g. scene family: rows are its values, columns policies."""
    measure = measure_of(column)
    values = list(dict.fromkeys(value for result in results for value in result.groups.get(label, {})))
    heads = "".join(f"<th{_row_class(r, ours)}>{escape(r.name.replace('_', ' '))}</th>" for r in results)
    rows = []
    for value in values:
        cells = []
        for result in results:
            found = result.groups.get(label, {}).get(value, {}).get(column)
            cells.append(f"<td{_row_class(result, ours, 'num')}{_heat(found, measure)}>{interval_text(found, measure)}</td>")
        rows.append(f"<tr><th scope=row>{escape(str(value).replace('_', ' '))}</th>{''.join(cells)}</tr>")
    head = f"<thead><tr><th>{escape(label.replace('_', ' ').capitalize())}</th>{heads}</tr></thead>"
    return _wrap(f"{head}<tbody>{''.join(rows)}</tbody>", "groups")


def difference(result: Result, ours: Result | None, column: str) -> str:
    """Metric of `result` minus ours over the same episodes, with its interval; empty where they are not the same."""
    if ours is None:
        return ""
    try:
        mine, theirs = _episodes(ours, column), _episodes(result, column)
    except (OSError, ValueError, KeyError):
        return ""
    if mine is None or theirs is None or not np.array_equal(mine[0], theirs[0]):
        return ""
    mean, low, high = paired(theirs[1], mine[1])
    measure = measure_of(column)
    text = interval_text({"mean": mean, "low": low, "high": high}, measure)
    return text if mean <= 0 else f"+{text}"


def _episodes(result: Result, column: str) -> tuple[np.ndarray, np.ndarray] | None:
    """(episode, seed) pairs (N, 2) and the metric (N,) of each, by episode; None without the file."""
    path = result.folder / "episodes.parquet"
    if not path.exists():
        return None
    table = require("pyarrow.parquet", extra="train").read_table(path, columns=["episode", "seed", column])
    numbers = np.stack([table.column(name).to_numpy().astype(np.float64) for name in ("episode", "seed", column)])
    numbers = numbers[:, np.argsort(numbers[0], kind="stable")]
    return numbers[:2], numbers[2]


def _lower(title: str) -> str:
    return title if title.isupper() else title[0].lower() + title[1:]


def _best(results: list[Result], column: str) -> Result | None:
    sign = measure_of(column).better
    able = [r for r in results if r.name not in REFERENCE and (r.metrics.get(column) or {}).get("mean") is not None]
    return max(able, key=lambda r: sign * r.metrics[column]["mean"]) if sign and len(able) > 1 else None


def _head(name: str) -> str:
    measure = measure_of(name)
    unit = f' <span class="unit">{escape(measure.unit)}</span>' if measure.unit else ""
    return f"<th>{escape(measure.title)}{unit}</th>"


def _cell(result: Result, name: str, best: bool) -> str:
    measure, value = measure_of(name), result.metrics.get(name)
    text = interval_text(value, measure)
    mark = '<span class="mark" title="best">★</span> ' if best else ""
    mean, _, limits = text.partition(" ")
    limits = f' <span class="limits">{limits}</span>' if limits else ""
    return f'<td class="num{" best" if best else ""}">{mark}<span class="value">{mean}</span>{limits}{_bar(value, measure)}</td>'


def _bar(value: Interval | None, measure: Measure) -> str:
    """The mean as a bar from 0 to 100 %, its interval as a line over the end."""
    if not measure.share or not value or value.get("mean") is None:
        return ""
    mean = min(max(100 * value["mean"], 0.0), 100.0)
    low, high = (mean if value.get(key) is None else min(max(100 * value[key], 0.0), 100.0) for key in ("low", "high"))
    whisker = f'<b style="left:{low:.1f}%;width:{high - low:.1f}%"></b>'
    return f'<div class="bar{" bad" if measure.better < 0 else ""}"><i style="width:{mean:.1f}%"></i>{whisker}</div>'


def _heat(value: Interval | None, measure: Measure) -> str:
    if not measure.share or not value or value.get("mean") is None:
        return ""
    share = value["mean"] if measure.better > 0 else 1 - value["mean"]
    return f' style="--heat:{100 * min(max(share, 0.0), 1.0):.0f}%"'


def _latency(result: Result) -> str:
    middle, tail = (result.latency_ms.get(key) for key in ("p50", "p99"))
    return "–" if middle is None else f"{number(middle, 1)} / {number(tail, 1)}"


def _name_cell(result: Result, ours: Result | None) -> str:
    note = "this run" if result is ours else "privileged" if result.name in REFERENCE else ""
    note = f"<small>{note}</small>" if note else ""
    return f"<th scope=row>{escape(result.name.replace('_', ' '))}{note}</th>"


def _row_class(result: Result, ours: Result | None, also: str = "") -> str:
    names = " ".join(
        name for name in (also, "ours" if result is ours else "reference" if result.name in REFERENCE else "") if name
    )
    return f' class="{names}"' if names else ""


def _wrap(inner: str, kind: str = "") -> str:
    return f'<div class="scroll" tabindex="0"><table{f" class={kind}" if kind else ""}>{inner}</table></div>'
