"""Training curves as inline SVG; a little script (templates/report.js) adds the values under the pointer."""

import itertools
import json
import math
from html import escape

import numpy as np
from numpy.typing import NDArray

from robot.learn.report_results import MEASURES

Array = NDArray[np.float64]
Columns = dict[str, Array]

WIDTH, HEIGHT = 440, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 40
"""Margins around the plot [px]."""
BUCKETS = 120
"""Points of a curve; what lies between them is shown as a band."""
LOG_RATIO = 30.0
"""Largest over smallest value above which an axis is logarithmic."""
ALONE = ("gradient", "learning_rate")
"""Metrics that get a chart of their own since their unit is another."""


def charts(columns: Columns) -> str:
    """A figure for each group of metrics; empty if there is nothing to draw."""
    return "".join(figure(title, columns["step"], series) for title, series in grouped(columns).items())


def grouped(columns: Columns) -> dict[str, Columns]:
    """Metrics by the chart they belong to: the prefix before '/', evaluation measures, losses, or alone."""
    groups: dict[str, Columns] = {}
    for name, values in columns.items():
        if name in ("step", "wall") or not np.isfinite(values).any():
            continue
        prefix, _, rest = name.rpartition("/")
        if prefix in ("eval", "evaluate", "evaluation") or (not prefix and name in MEASURES):
            measure = MEASURES.get(rest)
            title = "Evaluation" if measure is not None and measure.share else f"Evaluation: {rest.replace('_', ' ')}"
        elif prefix:
            title = prefix.capitalize()
        else:
            title = name.replace("_", " ").capitalize() if name in ALONE else "Losses"
        groups.setdefault(title, {})[rest] = values
    order = sorted(groups, key=lambda title: (title != "Losses", not title.startswith("Evaluation"), title))
    return {title: groups[title] for title in order}


def figure(title: str, steps: Array, series: Columns, over: str = "step", limits: tuple[Array, Array] | None = None) -> str:
    """One chart with axes, legend with the last values, and the data that the tooltip needs.

    Args:
        title: above the chart.
        steps: positions on the x axis (N,), rising.
        series: curves (N,) by name.
        over: what the x axis shows; anything but training steps may get a logarithmic axis.
        limits: lower and upper end of an interval at each point (N,), for a chart of one curve.
    """
    everything = np.concatenate([values[np.isfinite(values)] for values in [*series.values(), *(limits or ())]])
    logarithmic = bool(everything.min() > 0 and everything.max() / everything.min() > LOG_RATIO)
    share = all(name in MEASURES and MEASURES[name].share for name in series)
    low, high = (0.0, 1.0) if share else _range(everything, logarithmic)
    used = steps[np.any([np.isfinite(values) for values in series.values()], axis=0)]
    wide = over != "step" and bool(used.min() > 0 and used.max() / used.min() > LOG_RATIO)
    end = float(used.max()) if used.max() > used.min() else float(used.min()) + 1.0
    x = _Axis(float(used.min()), end, LEFT, WIDTH - RIGHT, wide)
    y = _Axis(low, high, HEIGHT - BOTTOM, TOP, logarithmic)
    parts, legend, data = [_grid(x, y, over, steps if over != "step" else None)], [], []
    if limits is not None:
        parts.append(f'<path class="band" fill="var(--s1)" d="{_band(x(steps), y(limits[0]), y(limits[1]))}"/>')
    for number, (name, values) in enumerate(series.items()):
        s, v, below, above = buckets(steps, values)
        colour = f"var(--s{number % 6 + 1})"
        if len(s) < np.isfinite(values).sum():
            parts.append(f'<path class="band" fill="{colour}" d="{_band(x(s), y(below), y(above))}"/>')
        parts.append(f'<path class="curve" stroke="{colour}" d="{_line(x(s), y(v))}"/>')
        if len(s) <= 12:
            parts += [f'<circle r="3" fill="{colour}" cx="{px:.1f}" cy="{py:.1f}"/>' for px, py in zip(x(s), y(v), strict=True)]
        label = escape(name.replace("_", " "))
        legend.append(f'<span><i style="background:{colour}"></i>{label} <b>{_short(float(v[-1]))}</b></span>')
        points = [
            [_number(a), round(float(px), 1), round(float(py), 1), _short(float(b))]
            for a, px, py, b in zip(s, x(s), y(v), v, strict=True)
        ]
        data.append({"name": name.replace("_", " "), "points": points})
    note = " <small>log scale</small>" if logarithmic else ""
    payload = json.dumps(data).replace("</", "<\\/")
    words = "training steps" if over == "step" else over
    return (
        f'<figure class="chart" data-over="{escape(over)}"><figcaption>{escape(title)}{note}</figcaption>'
        f'<div class="legend">{"".join(legend)}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over {escape(words)}">'
        f"{''.join(parts)}"
        f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" visibility="hidden"/></svg>'
        f'<div class="tip" hidden></div><script type="application/json">{payload}</script></figure>'
    )


def buckets(steps: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """At most BUCKETS points: mean step, mean, smallest and largest of the finite values of each stretch; the last stays."""
    finite = np.isfinite(values)
    s, v = steps[finite], values[finite]
    edges = np.unique(np.linspace(0, len(s), min(len(s), BUCKETS) + 1).round().astype(int))
    parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
    return (
        np.array([s[part][-1] for part in parts]),
        np.array([v[part].mean() for part in parts]),
        np.array([v[part].min() for part in parts]),
        np.array([v[part].max() for part in parts]),
    )


class _Axis:
    """Values to pixels, and where the ticks are."""

    def __init__(self, low: float, high: float, start: float, end: float, logarithmic: bool) -> None:
        self.low, self.high, self.start, self.end, self.logarithmic = low, high, start, end, logarithmic

    def __call__(self, values: Array) -> Array:
        low, high, at = self.low, self.high, np.asarray(values, np.float64)
        if self.logarithmic:
            low, high, at = math.log10(low), math.log10(high), np.log10(np.maximum(at, 1e-300))
        return self.start + (np.clip(at, low, high) - low) / (high - low) * (self.end - self.start)

    def ticks(self, about: int) -> list[float]:
        if not self.logarithmic:
            return nice_ticks(self.low, self.high, about)
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        steps = (1,) if len(decades) > 4 else (1, 3) if len(decades) > 2 else (1, 2, 5)
        candidates = [step * 10.0**decade for decade in decades for step in steps]
        return [tick for tick in candidates if self.low <= tick <= self.high * (1 + 1e-9)]


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten inside [low, high], roughly `about` of them."""
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(factor for factor, below in ((1, 1.5), (2, 3.5), (5, 7.5), (10, math.inf)) if raw / power < below)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _range(values: Array, logarithmic: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(np.percentile(values, 99.5) if values.size > 200 else values.max())
    if logarithmic:
        return low / 1.1, max(high, low * 10) * 1.1
    if 0 <= low < 0.5 * high:
        low = 0.0
    pad = 0.06 * (high - low) if high > low else max(abs(high), 1.0) * 0.5
    return (low if low == 0.0 else low - pad), high + pad


def _grid(x: _Axis, y: _Axis, over: str, marks: Array | None) -> str:
    parts = []
    for tick in y.ticks(5):
        at = float(y(np.array(tick)))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{at + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for tick in x.ticks(5) if marks is None or len(marks) > 8 else marks.tolist():
        at = float(x(np.array(tick)))
        parts.append(f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM + 4}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_count(tick)}</text>')
    base = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 5}" text-anchor="middle" class="label">{escape(over)}</text>'
    )
    return "".join(parts)


def _line(x: Array, y: Array) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True))


def _band(x: Array, low: Array, high: Array) -> str:
    return _line(np.concatenate([x, x[::-1]]), np.concatenate([low, high[::-1]])) + "Z"


def _short(value: float) -> str:
    """Three significant digits."""
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else float(value)


def _count(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:g}"
