"""The rules of ARCHITECTURE.md, read from the syntax trees: who imports whom, how long, and what never happens."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("robot", "sim", "policies", "sim2real", "hardware")
FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
OURS = [*FILES, *sorted((ROOT / "tests").rglob("*.py"))]

MAY_IMPORT = {
    "robot.core": {"robot.core"},
    "robot.data": {"robot.core", "robot.data"},
    "robot.learn": {"robot.core", "robot.data", "robot.learn", "sim", "policies"},
    "sim": {"robot.core", "sim"},
    "policies": {"robot.core", "policies"},
    "sim2real": {"robot.core", "robot.data", "sim", "sim2real"},
    "hardware": {"robot.core", "hardware"},
}
"""By part: the parts whose modules it may import. Entry points and examples may import all but entry points."""

EXTRA_IMPORTS = {
    "hardware/drivers/sim.py": {"sim"},
    "hardware/fakes/autopilot.py": {"sim"},
    "hardware/fakes/navigation_base.py": {"sim"},
}
FILE_LINES, FUNCTION_LINES = 400, 50
KERNELS = {
    "policies/nn/search.py astar",
    "sim/navigation/export.py _merge",
    "sim/navigation/fields.py _spill",
    "sim/navigation/fields.py clearance",
    "sim/navigation/scenes/canvas.py insert",
}
"""Compiled loops over cells that are long or branch more than ten ways, since a call in them costs. The list only shrinks."""
PRINTING = re.compile(r"robot/[^/]+\.py$|robot/examples/|hardware/fakes/|/bench/")
HIDDEN_RANDOMNESS = re.compile(
    r"np\.random\.(?!default_rng|Generator|SeedSequence|PCG64|Philox|RandomState)\w+\(|torch\.manual_seed|\brandom\.(?:seed|random|choice|randint|shuffle)\("
)
"""State that is not passed in. The trainer forks the generators of torch; that is named in ALLOWED_SEEDING."""
ALLOWED_SEEDING = {"robot/learn/trainer.py", "robot/learn/evaluator.py"}


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def part(module: str) -> str:
    """robot.core.paths -> robot.core, sim.envs.x -> sim, robot.train -> robot.train."""
    pieces = module.split(".")
    return ".".join(pieces[:2]) if pieces[0] == "robot" else pieces[0]


def imports(file: Path) -> Iterator[str]:
    """Modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            assert node.level == 0, f"{name(file)}: relative import"
            yield from (f"{node.module}.{alias.name}" if node.module == "robot" else str(node.module) for alias in node.names)


def forbidden(file: Path) -> list[str]:
    entry_points = {f"robot.{entry.stem}" for entry in (ROOT / "robot").glob("*.py")} - {"robot.__init__"}
    home = part(name(file).removesuffix(".py").replace("/", "."))
    allowed = MAY_IMPORT.get(home)
    wrong = []
    for module in imports(file):
        other = part(module)
        if other in entry_points:
            wrong.append(f"{name(file)} imports the entry point {other}")
        elif allowed is not None and other not in allowed | EXTRA_IMPORTS.get(name(file), set()) and other != "robot":
            wrong.append(f"{name(file)} imports {module}; {home} may import {', '.join(sorted(allowed))}")
    return wrong


def test_who_imports_whom() -> None:
    assert [complaint for file in FILES for complaint in forbidden(file)] == []


def test_the_import_rule_can_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    for path, text in {
        "robot/train.py": "",
        "robot/core/a.py": "def f():\n    from robot.data import windows\n",
        "sim/b.py": "import policies.navdp\nfrom robot import train\nfrom robot.core import paths\n",
        "robot/learn/c.py": "from policies import navdp\nfrom sim.env import Env\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert len(forbidden(tmp_path / "robot/core/a.py")) == 1
    assert len(forbidden(tmp_path / "sim/b.py")) == 2
    assert forbidden(tmp_path / "robot/learn/c.py") == []


def test_the_half_that_runs_on_a_robot_is_light() -> None:
    """Importing all of robot.core brings neither torch nor gymnasium nor any package of the other half."""
    script = (
        "import sys, pkgutil, importlib, robot.core\n"
        "for m in pkgutil.iter_modules(robot.core.__path__): importlib.import_module('robot.core.' + m.name)\n"
        "heavy = ('torch', 'gymnasium', 'numba', 'scipy', 'sim', 'policies')\n"
        "sys.exit(', '.join(n for n in heavy if n in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def lines(file: Path) -> int:
    return len(file.read_text().splitlines())


def test_files_are_short() -> None:
    budgets = [(file, FILE_LINES) for file in OURS]
    budgets += [(file, 100) for file in (ROOT / "robot").glob("*.py")]  # entry points
    budgets += [(file, 80) for file in (ROOT / "robot" / "examples").glob("*.py")]
    assert [f"{name(file)}: {lines(file)} lines > {most}" for file, most in budgets if lines(file) > most] == []


def long_functions() -> Iterator[str]:
    for file in OURS:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES:
                    yield f"{name(file)} {node.name}"


def complex_functions(ruff: str) -> Iterator[str]:
    command = [ruff, "check", "--select", "C90", "--ignore-noqa", "--output-format", "json", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    for finding in json.loads(done.stdout):
        yield f"{name(Path(finding['filename']))} {finding['message'].split('`')[1]}"


def test_functions_are_short() -> None:
    assert set(long_functions()) - KERNELS == set()


def test_functions_are_simple() -> None:
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    assert set(complex_functions(ruff)) - KERNELS == set()


def test_the_list_of_exceptions_only_shrinks() -> None:
    """A kernel that has become simple leaves the list."""
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent)) or shutil.which("ruff")
    if ruff is None:
        pytest.skip("ruff is not installed")
    assert KERNELS - {*long_functions(), *complex_functions(ruff)} == set()


def calls_print(tree: ast.Module) -> bool:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(function, ast.Name) and function.id in ("print", "exit", "quit") for function in calls)


def broad_excepts(tree: ast.Module) -> list[int]:
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.type is None]


def test_libraries_neither_print_nor_exit() -> None:
    assert [name(f) for f in FILES if not PRINTING.search(name(f)) and calls_print(ast.parse(f.read_text()))] == []


def test_no_bare_except() -> None:
    assert [f"{name(file)}:{line}" for file in OURS for line in broad_excepts(ast.parse(file.read_text()))] == []


def test_no_drawer_for_everything() -> None:
    assert [name(file) for file in FILES if file.stem in ("utils", "util", "helpers", "misc", "common")] == []


def test_no_hidden_randomness() -> None:
    found = [
        f"{name(file)}:{number}: {line.strip()}"
        for file in FILES
        if name(file) not in ALLOWED_SEEDING
        for number, line in enumerate(file.read_text().splitlines(), 1)
        if HIDDEN_RANDOMNESS.search(line)
    ]
    assert found == []


def test_no_environment_variables_or_eval_resolvers_at_import() -> None:
    """No module of the libraries reads the environment; configs compute nothing."""
    environment = [name(f) for f in FILES if re.search(r"^[A-Z_]+ = .*os\.(environ|getenv)", f.read_text(), re.MULTILINE)]
    computing = [name(f) for f in (ROOT / "configs").rglob("*.yaml") if re.search(r"\$\{(eval|oc\.env):?", f.read_text())]
    assert environment + computing == []


def test_product_code_does_not_import_tests() -> None:
    pattern = re.compile(r"^\s*(from|import) tests\b", re.MULTILINE)
    assert [name(file) for file in FILES if pattern.search(file.read_text())] == []


def test_root_holds_only_what_the_architecture_names() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    if tracked == [""]:
        pytest.skip("not a git checkout")
    folders = {path.split("/")[0] for path in tracked if "/" in path}
    assert folders <= {*PACKAGES, "assets", "configs", "tests", ".ci"}
