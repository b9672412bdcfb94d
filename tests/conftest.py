"""What all tests share: one thread a process, the names of every yaml, golden numbers."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # pytest -n runs several processes; before torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that spin while they wait starve the other processes
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).parents[1]
GROUPS = {"env_name": "env", "policy_name": "policy"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--renew", action="store_true", help="write tests/golden/*.json anew and print what changed")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `env_name` or `policy_name` runs once for every yaml of that group."""
    for argument, group in GROUPS.items():
        if argument in metafunc.fixturenames:
            names = sorted(file.stem for file in (ROOT / "configs" / group).glob("*.yaml"))
            metafunc.parametrize(argument, names, scope="session")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, dict[str, float], float], None]:
    """golden(name, values, tolerance) compares numbers with tests/golden/<name>.json, or renews them with --renew."""

    def compare(name: str, values: dict[str, float], tolerance: float) -> None:
        file = ROOT / "tests" / "golden" / f"{name}.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        if request.config.getoption("--renew"):
            for key in sorted({*known, *values}):
                if known.get(key) != values.get(key):
                    print(f"{name}.{key}: {known.get(key)} -> {values.get(key)}")
            file.write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")
        else:
            assert values == pytest.approx(known, rel=tolerance, abs=tolerance), "if this is meant: make golden, and say why"

    return compare
