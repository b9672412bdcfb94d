"""The log of a run survives a kill and a resume."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from robot.core.errors import DatasetError
from robot.learn import log


def fill(run, first, last):
    for step in range(first, last + 1):
        run.write(step, {"loss": 1 / step, **({"eval/sr": step / 10} if step % 2 == 0 else {})})


def rows_without_wall(folder):
    rows = [json.loads(line) for line in (folder / log.NAME).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "wall"} for row in rows]


def test_columns_come_back_with_nan_where_a_row_has_no_value(tmp_path):
    with log.RunLog(tmp_path, tensorboard=False) as run:
        fill(run, 1, 4)
    columns = log.read(tmp_path)
    assert list(columns) == ["step", "wall", "loss", "eval/sr"]
    np.testing.assert_allclose(columns["loss"], [1, 1 / 2, 1 / 3, 1 / 4], rtol=0)
    np.testing.assert_equal(columns["eval/sr"], [np.nan, 0.2, np.nan, 0.4])
    assert (np.diff(columns["wall"]) >= 0).all()


def test_every_row_is_flushed_when_write_returns(tmp_path):
    run = log.RunLog(tmp_path, tensorboard=False)
    run.write(1, {"loss": 2.0})
    assert log.read(tmp_path)["loss"].tolist() == [2.0]
    run.close()


def test_a_resumed_run_has_the_log_of_an_uninterrupted_one(tmp_path):
    with log.RunLog(tmp_path / "whole", tensorboard=False) as run:
        fill(run, 1, 9)
    with log.RunLog(tmp_path / "cut", tensorboard=False) as run:
        fill(run, 1, 7)
    with (tmp_path / "cut" / log.NAME).open("a") as file:
        file.write('{"step": 8, "wal')
    with log.RunLog(tmp_path / "cut", tensorboard=False) as run:
        run.truncate(5)
        fill(run, 6, 9)
    assert rows_without_wall(tmp_path / "cut") == rows_without_wall(tmp_path / "whole")
    assert (np.diff(log.read(tmp_path / "cut")["wall"]) >= 0).all()


def test_truncate_replaces_the_file_at_once(tmp_path):
    with log.RunLog(tmp_path, tensorboard=False) as run:
        fill(run, 1, 5)
        before = (tmp_path / log.NAME).stat().st_ino
        run.truncate(3)
        assert (tmp_path / log.NAME).stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == [log.NAME]


def test_values_that_json_cannot_hold(tmp_path):
    with log.RunLog(tmp_path, tensorboard=False) as run:
        run.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": np.float32(0.5)})
        with pytest.raises(ValueError, match="step"):
            run.write(2, {"step": 1.0})
    json.loads((tmp_path / log.NAME).read_text(), parse_constant=lambda name: pytest.fail(name))
    columns = log.read(tmp_path)
    assert [columns[name][0] for name in "bcd"] == [math.inf, -math.inf, 0.5]
    assert math.isnan(columns["a"][0])


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    (tmp_path / log.NAME).write_text('{"step": 1, "wall": 0}\nnonsense\n{"step": 2, "wall": 1}\n')
    with pytest.raises(DatasetError, match="line 2"):
        log.read(tmp_path)


def test_a_folder_without_a_log_has_no_rows(tmp_path):
    columns = log.read(tmp_path)
    assert {name: len(column) for name, column in columns.items()} == {"step": 0, "wall": 0}


def test_tensorboard_reads_the_events_and_forgets_what_was_truncated(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with log.RunLog(tmp_path) as run:
        fill(run, 1, 6)
    with log.RunLog(tmp_path) as run:
        run.truncate(4)
        run.write(5, {"loss": 7.0})
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("eval/sr")] == [
        (2, pytest.approx(0.2)),
        (4, pytest.approx(0.4)),
    ]
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5]
    assert events.Scalars("loss")[-1].value == 7.0


def test_the_module_imports_neither_torch_nor_tensorboard():
    code = "import sys, robot.learn.log; print([m for m in ('torch', 'tensorboard', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
