"""The report of a synthetic run: what is in the page, what is left out, and what a browser makes of it."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from robot.core.errors import ConfigError
from robot.learn import report, report_curves, report_results
from robot.learn.log import RunLog
from robot.learn.statistics import interval, paired, summary
from robot.learn.video import write_video

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
RATES = {"navdp": 0.86, "random_candidate": 0.8, "dwa": 0.55, "straight": 0.2, "expert": 0.97}
FAMILIES, ROBOTS = ("home", "office", "warehouse"), ("wheeled", "humanoid")
EPISODES = 120


def rows_of(rate, seed=0):
    """Episodes with the difficulty in common, so that pairing matters."""
    generator = np.random.default_rng(seed)
    difficulty, ratio = generator.random(EPISODES), generator.uniform(0.7, 1.0, EPISODES)
    success = (difficulty < rate).astype(float)
    return {
        "episode": np.arange(EPISODES), "seed": np.zeros(EPISODES), "success": success, "spl": success * ratio,
        "collision": 1 - success, "time": generator.uniform(10, 40, EPISODES), "area": generator.uniform(20, 60, EPISODES),
    }  # fmt: skip


def write_results(folder, name, rate, parquet=True):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = rows_of(rate)
    names = ("success", "spl", "collision", "time", "area")
    part = lambda chosen: {key: summary(rows[key][chosen]) for key in names}  # noqa: E731
    groups = {
        "family": {f: part(rows["episode"] % len(FAMILIES) == k) for k, f in enumerate(FAMILIES)},
        "embodiment": {r: part(rows["episode"] % len(ROBOTS) == k) for k, r in enumerate(ROBOTS)},
    }
    content = {
        "policy": name, "env": "navigation", "episodes": EPISODES, "seed": 0, "metrics": part(slice(None)), "groups": groups,
        "latency_ms": {"p50": 21.25, "p99": 33.0}, "config": {}, "revision": "abc1234",
        "command": f"python -m robot.train policy={name}",
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(content))
    if parquet:
        pq.write_table(pa.table(rows), folder / "episodes.parquet")


def write_log(run, rows=300):
    generator = np.random.default_rng(0)
    with RunLog(run, tensorboard=False) as file:
        for k in range(1, rows + 1):
            loss = 1.2 * math.exp(-k / 60) + 0.12 + 0.04 * generator.random()
            file.write(20 * k, {"generator": 0.6 * loss, "critic": 0.4 * loss, "loss": loss, "gradient": 1 + generator.random()})
            if k % 60 == 0:
                rate = 0.86 * (1 - math.exp(-k / 90))
                file.write(20 * k, {"eval/success": rate, "eval/spl": 0.9 * rate})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run: log, results of five policies, a video, config."""
    run = tmp_path_factory.mktemp("runs") / "navdp-navigation" / "2025-01-02_03-04-05"
    write_log_and_config(run)
    for name, rate in RATES.items():
        write_results(run / "results" / name, name, rate)
    shades = np.linspace(0, 1, 24)
    pictures = [
        np.tile((255 * np.stack([np.full(96, s), np.linspace(0, 1, 96), np.full(96, 1 - s)], -1)).astype(np.uint8), (64, 1, 1))
        for s in shades
    ]
    write_video(run / "videos" / "episode-0003.mp4", pictures, fps=12)
    write_video(run / "videos" / "dwa-episode-0003.webp", pictures, fps=12)
    report.build_report(run)
    return run


def write_log_and_config(run):
    run.mkdir(parents=True)
    write_log(run)
    names = ", ".join(name for name in RATES if name != "navdp")
    (run / "config.yaml").write_text(f"seed: 0\nbaselines: [{names}]\nnote: a <b>bold</b> & plain value\n")
    (run / "versions.json").write_text(json.dumps({"revision": "abc1234", "torch": "2.13.0"}))
    (run / "checkpoints").mkdir()


class Cells(HTMLParser):
    """The cells of each table, as text."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.inside = [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.inside = True
        elif tag == "small" and self.inside:
            self.tables[-1][-1][-1] += " "

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.tables[-1][-1][-1] += data


def test_the_page_needs_nothing_from_outside(run):
    text = (run / report.NAME).read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", text)
    assert not re.findall(r"https?://|@import|url\(", text)
    assert "a &lt;b&gt;bold&lt;/b&gt; &amp; plain value" in text
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []


def test_the_table_has_the_right_numbers(run):
    head, *rows = Cells((run / report.NAME).read_text()).tables[0]
    titles = [cell.split()[0] for cell in head]
    assert titles == ["Policy", "Success", "SPL", "Collision", "Time", "Gain", "Decision", "n"]
    assert [row[0].split(" this")[0] for row in rows] == ["navdp", "random candidate", "dwa", "straight", "expert privileged"]
    for name, row in zip(("navdp", "random_candidate", "dwa", "straight", "expert"), rows, strict=True):
        values = rows_of(RATES[name])
        mean, low, high = (100 * value for value in interval(values["success"]))
        assert row[1].removeprefix("★ ") == f"{mean:.1f} [{low:.1f}, {high:.1f}]"
        mean, low, high = interval(values["spl"])
        assert row[2].removeprefix("★ ") == f"{mean:.3f} [{low:.3f}, {high:.3f}]"
        assert row[-2:] == ["21.2 / 33.0", str(EPISODES)]
    assert all("★" in cell for cell in rows[0][1:4])
    assert not any("★" in cell for row in rows[1:] for cell in row)


def test_differences_to_ours_are_paired(run):
    _, ours, _, dwa, *_ = Cells((run / report.NAME).read_text()).tables[0]
    mean, low, high = (100 * value for value in paired(rows_of(RATES["dwa"])["success"], rows_of(RATES["navdp"])["success"]))
    assert ours[5] == "–"
    assert dwa[5] == f"{mean:.1f} [{low:.1f}, {high:.1f}]".replace("-", "−")


def test_groups_have_a_row_a_value_and_a_column_a_policy(run):
    tables = Cells((run / report.NAME).read_text()).tables
    family = next(table for table in tables if table[0][0] == "Family")
    assert family[0][1:] == ["navdp", "random candidate", "dwa", "straight", "expert"]
    assert [row[0] for row in family[1:]] == list(FAMILIES)
    chosen = rows_of(RATES["dwa"])["success"][1::3]
    assert family[2][3].startswith(f"{100 * chosen.mean():.1f} [")


def test_what_is_missing_is_said(tmp_path):
    text = report.build_report(tmp_path).read_text()
    for sentence in ("No results yet", "No training curves", "No videos", "No config"):
        assert sentence in text
    with pytest.raises(ConfigError, match="no folder"):
        report.build_report(tmp_path / "nowhere")


@pytest.mark.parametrize("broken", ["{", "[1]", '{"metrics": {"success": 0.3}}', '{"policy": "x"}', "\x00\xff"])
def test_a_broken_results_file_is_named_and_the_others_stay(tmp_path, broken):
    write_results(tmp_path / "results" / "dwa", "dwa", 0.5, parquet=False)
    (tmp_path / "results" / "bad").mkdir()
    (tmp_path / "results" / "bad" / "results.json").write_bytes(broken.encode("latin-1"))
    text = report.build_report(tmp_path).read_text()
    assert "bad/results.json" in text
    assert Cells(text).tables[0][1][0].startswith("dwa")


def test_other_broken_parts_are_named_too(tmp_path):
    write_log_and_config(tmp_path / "run")
    (tmp_path / "run" / "versions.json").write_text("{")
    (tmp_path / "run" / "metrics.jsonl").write_text('nonsense\n{"step": 1, "wall": 0}\n')
    (tmp_path / "run" / "config.yaml").write_text("a: [1\n")
    write_results(tmp_path / "run" / "results" / "dwa", "dwa", 0.5)
    (tmp_path / "run" / "results" / "dwa" / "episodes.parquet").write_text("no parquet")
    write_results(tmp_path / "run" / "results" / "navdp", "navdp", 0.5)
    text = report.build_report(tmp_path / "run").read_text()
    assert "versions.json cannot be read" in text
    assert "metrics.jsonl, line 1" in text


def test_values_that_are_not_known_are_dashes():
    measure = report_results.MEASURES["success"]
    assert report_results.interval_text({"mean": 0.5, "low": None, "high": None, "n": 1}, measure) == "50.0"
    assert report_results.interval_text({"mean": None, "low": None, "high": None, "n": 0}, measure) == "–"
    assert report_results.interval_text(None, measure) == "–"


def test_another_env_shows_its_own_measures(tmp_path):
    metrics = {"coverage": summary([0.8, 0.9, 0.7]), "steps_to_success": summary([100.0, 120.0])}
    (tmp_path / "results.json").write_text(json.dumps({"policy": "x", "metrics": metrics}))
    table = Cells(report.build_report(tmp_path).read_text()).tables[0]
    assert table[0][1:3] == ["Coverage", "Steps to success"]
    assert table[1][1].startswith("0.80 [")


def test_comparison_sets_folders_side_by_side(tmp_path, run):
    write_results(tmp_path / "later", "navdp", 0.9)
    page = report.compare([run, tmp_path / "later"], tmp_path / "out" / "comparison.html")
    names = [row[0] for row in Cells(page.read_text()).tables[0][1:]]
    assert names[0] == "navdp (later)"
    assert f"navdp ({run.name.replace('_', ' ')})" in names
    with pytest.raises(ConfigError, match="nothing"):
        report.compare([tmp_path / "nothing"], tmp_path / "x.html")


def test_a_sweep_is_drawn_over_its_key(tmp_path):
    for teachers, rate in ((4, 0.5), (64, 0.8), (1024, 0.9)):
        write_results(tmp_path / f"run{teachers}" / "results" / "raptor", "raptor", rate)
        write_results(tmp_path / f"run{teachers}" / "results" / "cascade", "cascade", 0.2)
        config = f"baselines: [cascade]\nenv: {{fleet: {teachers}, name: x}}\n"
        (tmp_path / f"run{teachers}" / "config.yaml").write_text(config)
    folders = [tmp_path / f"run{teachers}" for teachers in (1024, 4, 64)]
    text = report.compare(folders, tmp_path / "x.html", "env.fleet").read_text()
    payloads = re.findall(r'<script type="application/json">(.*?)</script>', text)
    (success,) = [s for s in map(json.loads, payloads) if s[0]["name"] == "success"]
    x, left, _, values = zip(*success[0]["points"], strict=True)
    assert x == (4, 64, 1024)
    assert [float(value) for value in values] == pytest.approx([rows_of(r)["success"].mean() for r in (0.5, 0.8, 0.9)], abs=1e-3)
    assert (left[1] - left[0]) / (left[2] - left[0]) == pytest.approx(0.5, abs=0.01), "4 : 64 : 1024 on a logarithmic axis"
    with pytest.raises(ConfigError, match="not a number"):
        report.compare(folders, tmp_path / "x.html", "env.name")


def test_the_command_says_where_the_page_is(tmp_path, run, capsys):
    from robot.report import main

    before = (run / report.NAME).stat().st_mtime_ns
    main([f"run={run}"])
    assert capsys.readouterr().out.strip() == f"report    {run / report.NAME}"
    assert (run / report.NAME).stat().st_mtime_ns > before
    main([f"results=[{run}]", f"output={tmp_path / 'x.html'}"])
    assert (tmp_path / "x.html").exists()
    for wrong in ([], [f"run={run}", f"results=[{run}]"], ["run=nowhere"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 3


def test_curves_go_through_their_points():
    steps = np.arange(1.0, 6.0)
    svg = report_curves.figure("Losses", steps, {"loss": np.array([1.0, 2.0, 3.0, 2.0, 5.0])})
    points = np.array(json.loads(re.findall(r'json">(.*?)</script>', svg)[0])[0]["points"])[:, :3].astype(float)
    drawn = re.findall(r'class="curve"[^>]* d="M([^"]*)"', svg)[0]
    np.testing.assert_allclose([[float(n) for n in pair.split()] for pair in drawn.split("L")], points[:, 1:])
    assert np.ptp(np.diff(points[:, 1])) < 0.11
    slope = np.diff(points[:, 2]) / np.array([1, 1, -1, 3])
    assert (slope < 0).all()
    assert np.ptp(slope) < 0.11


def test_long_curves_keep_mean_and_range_and_the_last_step():
    values = np.sin(np.arange(5000.0))
    values[7] = np.nan
    s, mean, low, high = report_curves.buckets(np.arange(5000.0), values)
    assert len(s) == report_curves.BUCKETS
    assert s[-1] == 4999
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert np.isfinite(mean).all()
    assert high.max() == np.nanmax(values)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.9), (0, 123456), (1e-5, 3e-5), (5, 5.001)])
def test_ticks_are_round_and_inside(low, high):
    ticks = report_curves.nice_ticks(low, high, 5)
    assert 3 <= len(ticks) <= 11
    assert low - 1e-9 <= ticks[0]
    assert ticks[-1] <= high * (1 + 1e-9)
    leading = np.diff(ticks)[0] / 10 ** math.floor(math.log10(np.diff(ticks)[0] * (1 + 1e-9)))
    assert round(leading, 6) in (1, 2, 5)


def test_chromium_shows_curves_table_and_video_without_errors(run):
    """The page in a browser: the light one, the dark one, and one as narrow as a phone."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    complaints = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url[:80]))
        page.goto((run / report.NAME).as_uri())
        lengths = page.eval_on_selector_all("svg path.curve", "paths => paths.map(p => p.getTotalLength())")
        assert len(lengths) == 6
        assert min(lengths) > 100
        assert page.locator("table.results tbody tr").count() == len(RATES)
        rate = 100 * rows_of(RATES["navdp"])["success"].mean()
        assert page.locator("table.results tbody td").first.inner_text().startswith(f"★ {rate:.1f} [")
        assert page.locator("table.results td.best").first.is_visible()
        assert page.locator("video").first.get_attribute("poster").startswith("data:image/webp")
        page.wait_for_function("() => document.querySelector('video').readyState >= 2", timeout=20000)
        assert page.eval_on_selector("video", "v => v.duration") == pytest.approx(2.0, abs=0.2)
        page.eval_on_selector("video", "v => v.play()")
        page.wait_for_function("() => document.querySelector('video').currentTime > 0.2", timeout=20000)
        assert page.eval_on_selector(".videos img", "i => i.naturalWidth") == 96
        page.locator(".chart svg").first.hover()
        assert "step" in page.locator(".chart .tip").first.inner_text()
        page.set_viewport_size({"width": 375, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        browser.close()
    assert complaints == []
