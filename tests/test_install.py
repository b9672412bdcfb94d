"""What is installed is whole: the wheel holds configs and assets, and its commands run from any folder."""

import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("wheel")
    script = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    run(sys.executable, "-c", script, out, cwd=ROOT)
    return next(out.glob("tiller-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The python of an environment that holds the wheel and, by a path file, the packages it depends on."""
    folder = tmp_path_factory.mktemp("venv")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=folder)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_wheel_holds_what_the_checkout_holds(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    command = ["git", "ls-files", "robot", "sim", "policies", "configs", "assets"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    files = [line for line in tracked.stdout.splitlines() if (ROOT / line).exists()]
    assert [file for file in files if file not in names] == []
    assert not [file for file in names if file.startswith("tests/") or "__pycache__" in file]


def test_installed_package_finds_its_configs_from_another_folder(installed: Path, tmp_path: Path) -> None:
    script = "from robot.core import paths; print(paths.ROOT); print(len(list(paths.CONFIGS.glob('*/*.yaml'))))"
    root, count = run(installed, "-c", script, cwd=tmp_path).split()
    assert Path(root).is_relative_to(installed.parents[1])
    assert int(count) == len(list((ROOT / "configs").glob("*/*.yaml")))
    assert "Groups" in run(installed, "-m", "robot.train", "--help", cwd=tmp_path)
    assert "steps:" in run(installed, "-m", "robot.train", "--cfg", "job", "trainer.steps=3", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_console_scripts_run(installed: Path, tmp_path: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, target in scripts.items():
        assert (ROOT / (target.split(":")[0].replace(".", "/") + ".py")).exists(), f"{name}: {target} does not exist"
        assert "Groups" in run(installed.parent / name, "--help", cwd=tmp_path)
    entries = {file.stem for file in (ROOT / "robot").glob("*.py")} - {"__init__"}
    assert {f"tiller-{entry}" for entry in entries} == set(scripts)


def test_make_knows_its_targets() -> None:
    for target in ("demo", "test", "check", "bench", "test-slow", "golden", "clean", "help"):
        run("make", "--dry-run", target, cwd=ROOT)
