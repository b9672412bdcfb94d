"""Every example runs to its end; a line `# test: <arguments>` in it gives the arguments of a short run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(file for file in (ROOT / "robot" / "examples").glob("*.py") if file.stem != "__init__")


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_example_runs(file: Path, tmp_path: Path) -> None:
    given = re.search(r"^# test:(.*)$", file.read_text(), re.MULTILINE)
    command = [sys.executable, "-m", f"robot.examples.{file.stem}", *(given[1].split() if given else [])]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    if done.returncode == 2 and "install" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip(), "an example prints what it did"
