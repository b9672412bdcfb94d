"""report.html of a run: one file without external resources, with curves, results, videos, the config and what to do next.

A run folder may hold config.yaml, versions.json, metrics.jsonl, results/<policy>/{results.json, episodes.parquet},
ablations/<name>/results.json, videos/ and onnx/; what is missing or broken is named in the page and left out.
"""

import base64
import json
import os
import platform
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from robot.core.errors import ConfigError, DatasetError
from robot.learn import log, report_curves, report_results, report_sweep
from robot.learn.report_results import Result
from robot.learn.video import poster

NAME = "report.html"
TEMPLATES = Path(__file__).parent / "templates"
MEDIA = {".mp4": "video/mp4", ".webm": "video/webm", ".webp": "image/webp", ".gif": "image/gif", ".png": "image/png"}
LARGEST = 24e6
"""Bytes of videos that one page holds; further ones are named."""


@dataclass
class Page:
    """What was found for a page."""

    title: str
    where: str
    results: list[Result] = field(default_factory=list)
    ours: Result | None = None
    ablations: list[Result] = field(default_factory=list)
    sweep: str = ""
    columns: report_curves.Columns = field(default_factory=dict)
    videos: list[Path] = field(default_factory=list)
    config: str = ""
    about: dict[str, str] = field(default_factory=dict)
    commands: list[tuple[str, str]] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


def build_report(run: Path | str) -> Path:
    """Write `report.html` into a run folder or a folder of results, and return its path.

    Raises:
        ConfigError: there is no such folder.
    """
    run = Path(run)
    if not run.is_dir():
        raise ConfigError(f"run: there is no folder '{run}'; train one with python -m robot.train policy=navdp")
    page = Page(_title(run), str(run))
    page.results = _results(report_results.find(run), page)
    page.ablations = _results(sorted(path.parent for path in (run / "ablations").glob("*/results.json")), page)
    config = run / "config.yaml"
    page.config = config.read_text(encoding="utf-8", errors="replace") if config.exists() else ""
    page.ours = _ours(page.results, page.config)
    page.columns = _columns(run, page)
    videos = [path for path in (run / "videos").glob("*") if path.suffix in MEDIA and not path.name.startswith(".")]
    page.videos = sorted(videos, key=lambda path: (not path.stem.startswith("episode-"), path.name))
    page.about = _about(run, page)
    page.commands = _commands(run, page)
    return write(page, run / NAME)


def compare(folders: Sequence[Path | str], output: Path | str, over: str | None = None) -> Path:
    """Write one page that sets the results of several folders side by side, and return its path.

    With `over`, a key of their configs, it also draws the measures over that key's values.
    """
    found = {str(folder): report_results.find(Path(folder)) for folder in folders}
    empty = [name for name, inside in found.items() if not inside]
    if empty or not found:
        raise ConfigError(
            f"results: no results.json in {empty or 'no folders'}; make one with python -m robot.evaluate policy=<name>"
        )
    page = Page("Comparison", ", ".join(found))
    for name, inside in found.items():
        page.results += [_named(result, name, found) for result in _results(inside, page)]
    page.sweep = report_sweep.charts(page.results, over) if over else ""
    page.about = _about(None, page)
    page.commands = [(f"Make {result.name} again", result.command) for result in page.results if result.command]
    return write(page, Path(output))


def write(page: Page, path: Path) -> Path:
    """Assemble and write atomically."""
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    sections = [_header(page), _results_section(page), _curves_section(page), _videos_section(page), _groups_section(page)]
    sections += [_ablations_section(page), _commands_section(page), _config_section(page), _complaints_section(page)]
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(page.title)}</title><style>{style}</style></head><body><main>{''.join(sections)}</main>"
        f"<script>{script}</script></body></html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
    return path


def _results(folders: list[Path], page: Page) -> list[Result]:
    out = []
    for folder in folders:
        try:
            out.append(report_results.load(folder))
        except ValueError as error:
            page.complaints.append(f"{error}; it is left out.")
    return out


def _columns(run: Path, page: Page) -> report_curves.Columns:
    try:
        return log.read(run)
    except DatasetError as error:
        page.complaints.append(f"{error}; there are no curves.")
        return {}


def _ours(results: list[Result], config: str) -> Result | None:
    """The policy that this run trained: the one that its config does not name as a baseline."""
    if not config:
        return results[0] if len(results) == 1 else None
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        node = OmegaConf.to_container(OmegaConf.create(config))
    except (OmegaConfBaseException, YAMLError, ValueError):
        node = None
    baselines = (node.get("baselines") or []) if isinstance(node, dict) else []
    trained = [result for result in results if result.name not in baselines]
    return trained[0] if trained else None


def _named(result: Result, folder: str, found: dict[str, Any]) -> Result:
    """With its folder in the name, since two folders may hold the same policy."""
    if len(found) > 1 and result.name not in report_results.REFERENCE:
        result.name = f"{result.name} ({Path(folder).name})"
    return result


def _title(run: Path) -> str:
    parent = run.resolve().parent.name
    stamped = re.match(r"\d{4}-\d\d-\d\d", run.name)
    return parent if stamped and parent else run.resolve().name


def _about(run: Path | None, page: Page) -> dict[str, str]:
    versions: dict[str, Any] = {}
    if run is not None and (run / "versions.json").exists():
        try:
            versions = json.loads((run / "versions.json").read_text())
        except ValueError as error:
            page.complaints.append(f"{run / 'versions.json'} cannot be read ({error}); versions are left out.")
    made_from = str(versions.get("revision") or next((r.revision for r in page.results if r.revision), ""))
    facts = {"Revision": made_from, "Date": datetime.fromtimestamp(time.time()).strftime("%d %B %Y, %H:%M"), "Machine": machine()}
    if len(page.columns.get("wall", ())):
        facts["Training"] = f"{int(page.columns['step'][-1])} steps in {duration(float(page.columns['wall'][-1]))}"
    facts |= {name: str(versions[name]) for name in ("python", "torch") if versions.get(name)}
    model = run / "onnx" / "policy.onnx" if run is not None else None
    if model is not None and model.exists():
        facts["ONNX"] = f"{model.stat().st_size / 1e6:.1f} MB"
    return {name: value for name, value in facts.items() if value}


def machine() -> str:
    """Processor and number of cores of this machine, as far as it tells."""
    model = platform.processor() or platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpus.read_text(errors="replace"))
        model = found.group(1) if found and found.group(1).strip() != "unknown" else model
    return f"{model}, {os.cpu_count()} cores"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _commands(run: Path, page: Page) -> list[tuple[str, str]]:
    commands = []
    env = f"env={page.ours.env} " if page.ours and page.ours.env else ""
    if (run / "checkpoints").is_dir():
        commands += [
            (
                "Evaluate it on more episodes, with videos",
                f"python -m robot.evaluate policy={run} {env}episodes=500 evaluator.videos=4",
            ),
            ("Export it to ONNX", f"python -m robot.export policy={run}"),
        ]
    if (run / "tensorboard").is_dir():
        commands.append(("Watch the curves", f"tensorboard --logdir {run}"))
    made = next((result.command for result in [page.ours, *page.results] if result and result.command), "")
    return commands + ([("Make these results again", made)] if made else [])


def _header(page: Page) -> str:
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in page.about.items())
    tiles = _tiles(page)
    head = f'<p class="where">{escape(page.where)}</p><h1>{escape(page.title)}</h1>'
    return f'<header>{head}<dl class="facts">{facts}</dl>{tiles}</header>'


def _tiles(page: Page) -> str:
    """The figures one looks for first."""
    if page.ours is None:
        return ""
    tiles = []
    for name in report_results.main_columns(page.results)[:4]:
        value, measure = page.ours.metrics.get(name), report_results.measure_of(name)
        if value and value.get("mean") is not None:
            mean, _, limits = report_results.interval_text(value, measure).partition(" ")
            tiles.append((measure.title, mean, measure.unit, limits))
    middle = page.ours.latency_ms.get("p50")
    if middle is not None:
        tail = report_results.number(page.ours.latency_ms.get("p99"), 1)
        tiles.append(("Decision", report_results.number(middle, 1), "ms", f"p99 {tail}"))
    inner = "".join(
        f"<div><span>{escape(title)}</span><strong>{mean}<em>{escape(unit)}</em></strong><small>{limits}</small></div>"
        for title, mean, unit, limits in tiles
    )
    return f'<div class="tiles">{inner}</div>'


def _section(identity: str, title: str, inner: str, note: str = "") -> str:
    note = f'<p class="note">{note}</p>' if note else ""
    return f'<section id="{identity}"><h2>{title}</h2>{note}{inner}</section>'


def _missing(sentence: str) -> str:
    return f'<p class="missing">{escape(sentence)}</p>'


def _results_section(page: Page) -> str:
    if not page.results:
        return _section("results", "Results", _missing("No results yet: this folder has no results/<policy>/results.json."))
    main = report_results.main_columns(page.results)
    rows = report_results.ranked(page.results, page.ours, main[0]) if main else page.results
    inner = report_results.table(rows, main, page.ours)
    other = [n for n in dict.fromkeys(n for r in rows for n in r.metrics) if n not in main and any(_known(r, n) for r in rows)]
    if other:
        inner += f"<details><summary>More measures</summary>{report_results.plain_table(rows, other, page.ours)}</details>"
    return _section("results", "Results", inner, _protocol(page))


def _known(result: Result, name: str) -> bool:
    return (result.metrics.get(name) or {}).get("mean") is not None


def _protocol(page: Page) -> str:
    env = {result.env for result in page.results if result.env}
    seeds = {result.seed for result in page.results if result.seed is not None}
    where = f" in <code>{escape(env.pop())}</code>" if len(env) == 1 else ""
    seed = f", seed {seeds.pop()}" if len(seeds) == 1 else ""
    gain = " Gains are over this run, episode by episode." if page.ours and len(page.results) > 1 else ""
    return f"Means with 95 % intervals{where}{seed}. n is the number of episodes.{gain}"


def _curves_section(page: Page) -> str:
    if page.sweep:
        return _section("sweep", "Over one key", f'<div class="charts">{page.sweep}</div>', "Bands are 95 % intervals.")
    charts = report_curves.charts(page.columns) if page.columns else ""
    if not charts:
        return _section("curves", "Training", _missing("No training curves: this folder has no rows in metrics.jsonl."))
    return _section("curves", "Training", f'<div class="charts">{charts}</div>')


def _videos_section(page: Page) -> str:
    if not page.videos:
        return _section("videos", "Episodes", _missing("No videos: ask for them with evaluator.videos=4."))
    figures, left, used = [], [], 0
    for path in page.videos:
        used += path.stat().st_size
        if used > LARGEST:
            left.append(path.name)
            continue
        data = f"data:{MEDIA[path.suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"
        label = _caption(path, page)
        media = f'<img src="{data}" alt="{label}">'
        if MEDIA[path.suffix].startswith("video"):
            still = poster(path)
            still = f' poster="data:image/webp;base64,{base64.b64encode(still).decode()}"' if still else ""
            media = f'<video src="{data}"{still} controls muted loop playsinline preload="metadata" aria-label="{label}"></video>'
        figures.append(f"<figure>{media}<figcaption>{label}</figcaption></figure>")
    inner = f'<div class="videos">{"".join(figures)}</div>'
    if left:
        inner += _missing(f"Not embedded, since the page would grow too large: {', '.join(left)}.")
    speeds = {"quadrotor": "Flights in real time.", "navigation": "Seen from above, at four times the speed."}
    first = page.results[0].env.partition("_")[0] if page.results else ""
    note = speeds.get(first, "At three times the speed.")
    return _section("videos", "Episodes", inner, note)


def _caption(path: Path, page: Page) -> str:
    policy, _, episode = path.stem.rpartition("episode-")
    if not episode.isdigit():
        return escape(path.stem.replace("_", " ").replace("-", " "))
    name = policy.rstrip("-") or (page.ours.name if page.ours else "")
    return escape(" · ".join(part for part in (name.replace("_", " "), f"episode {int(episode)}") if part))


def _groups_section(page: Page) -> str:
    labels = dict.fromkeys(label for result in page.results for label, values in result.groups.items() if len(values) > 1)
    if not labels:
        return ""
    main = report_results.main_columns(page.results)[0]
    measure = report_results.measure_of(main)
    rows = report_results.ranked(page.results, page.ours, main)
    inner = "".join(
        f"<h3>By {escape(label.replace('_', ' '))}</h3>{report_results.group_table(rows, label, main, page.ours)}"
        for label in labels
    )
    unit = f" [{measure.unit}]" if measure.unit else ""
    return _section("groups", "Where it works", inner, f"{escape(measure.title)}{unit} with 95 % intervals.")


def _ablations_section(page: Page) -> str:
    if not page.ablations:
        return ""
    columns = report_results.main_columns(page.ablations)
    rows = ([page.ours] if page.ours else []) + report_results.ranked(page.ablations, None, columns[0])
    return _section("ablations", "Ablations", report_results.table(rows, columns, page.ours), "One thing changed at a time.")


def _commands_section(page: Page) -> str:
    if not page.commands:
        return ""
    items = "".join(f"<li><span>{escape(what)}</span><code>{escape(command)}</code></li>" for what, command in page.commands)
    return _section("next", "What to run next", f'<ul class="commands">{items}</ul>')


def _config_section(page: Page) -> str:
    if not page.config:
        return _section("config", "Config", _missing("No config: this folder has no config.yaml."))
    inner = f"<details><summary>config.yaml, resolved</summary><pre>{escape(page.config)}</pre></details>"
    return _section("config", "Config", inner)


def _complaints_section(page: Page) -> str:
    if not page.complaints:
        return ""
    items = "".join(f"<li>{escape(complaint)}</li>" for complaint in page.complaints)
    return _section("complaints", "What could not be read", f"<ul>{items}</ul>")
