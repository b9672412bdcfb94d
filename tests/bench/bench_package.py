"""What the half that runs on a robot weighs: a wheel in an empty environment, without torch, flies over MAVLink.

python -m tests.bench.bench_package [seconds=5 keep=]

Builds the wheel, installs it with its base dependencies and pymavlink into a new environment outside the checkout, and runs
`tiller-deploy policy=raptor driver=mavlink` there against the fake autopilot of this checkout. Bars: import and start below
1.5 s (arming PX4 takes 1.2 s more), installed below 150 MB, memory below 200 MB. Needs a package index.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from hardware.fakes.keys import keys
from robot.core.paths import ROOT
from tests.bench.bench_faults import port

KEYS = {"seconds": 5.0, "keep": ""}
MEGA = 1e6


def size(folder: Path) -> float:
    """Of all files, each once [MB]."""
    seen = {(s.st_dev, s.st_ino): s.st_size for s in (p.lstat() for p in folder.rglob("*")) if not os.path.isdir(str(s))}
    return sum(seen.values()) / MEGA


def install(folder: Path) -> tuple[Path, dict[str, float]]:
    """The environment's python, and what it weighs [MB], largest packages first."""
    wheels = folder / "wheels"
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(wheels),
        ".",
    ]
    subprocess.run(build, cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    site = next((folder / "env" / "lib").glob("python*")) / "site-packages"
    empty = size(site)
    wheel = next(wheels.glob("*.whl"))
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "-c", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, str(wheel)], check=True, cwd=folder)
    weight = {"installed": size(site) - empty}
    parts = {
        entry.name: size(entry) for entry in site.iterdir() if entry.is_dir() and not entry.name.startswith(("pip", "setuptools"))
    }
    weight |= {f"  {name}": value for name, value in sorted(parts.items(), key=lambda item: -item[1])[:6]}
    subprocess.run([*pip, "pymavlink"], check=True, cwd=folder)
    before = size(site)
    subprocess.run([str(python), "-m", "compileall", "-q", str(site)], check=False, capture_output=True)
    return python, weight | {"byte code": size(site) - before}


def took(command: list[str], folder: Path, runs: int = 5) -> float:
    """The shortest of some runs [s]."""
    times = []
    for _ in range(runs):
        start = time.monotonic()
        subprocess.run(command, check=True, cwd=folder, capture_output=True)
        times.append(time.monotonic() - start)
    return min(times)


def fly(python: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """A flight: how long until the first command, how much memory, and what the autopilot saw."""
    robot, driver = port(), port()
    command = [sys.executable, "-m", "hardware.fakes.autopilot", f"port={robot}", f"to={driver}"]
    pilot = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert pilot.stdout is not None
    pilot.stdout.readline()
    output = folder / "flight"
    told = [f"driver.connection=udpin:127.0.0.1:{driver}", f"duration={seconds}", f"output={output}"]
    told += ["realtime=true"] if os.geteuid() == 0 else []
    run = [str(python.with_name("tiller-deploy")), "policy=raptor", "driver=mavlink", *told]
    start = time.monotonic()
    main = subprocess.Popen(run, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not ((output / "events.jsonl").exists() and "armed" in (output / "events.jsonl").read_text()):
        if main.poll() is not None or time.monotonic() - start > 60:
            pilot.kill()
            main.kill()
            raise RuntimeError(f"it does not fly: {main.communicate()[1][-500:]}")
        time.sleep(0.005)
    began = time.monotonic()
    time.sleep(1.0)
    tree = [psutil.Process(main.pid), *psutil.Process(main.pid).children()]
    memory = {" ".join(p.cmdline()[1:3])[-40:]: p.memory_full_info().pss / MEGA for p in tree}
    _, error = main.communicate(timeout=60)
    pilot.send_signal(signal.SIGTERM)
    seen = json.loads(pilot.communicate(timeout=20)[0].splitlines()[-1])
    summary = {"rc": main.returncode, "error": error[-300:] if main.returncode else "", "armed_after_s": began - start}
    summary |= {"memory_mb": sum(memory.values()), "memory_by_process": memory, "setpoints": seen["setpoints"]}
    return summary | {"late_error_m": seen["late_error"], "wrong": seen["not_finite"] + seen["out_of_range"]}


def main(arguments: list[str]) -> None:
    given = keys(KEYS, arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(given["keep"] or name)
        python, weight = install(folder)
        imports = "import hardware.runtime, hardware.session, hardware.deployment, hardware.guard, onnxruntime"
        timed = {"import_s": took([str(python), "-c", imports], folder)}
        timed["help_s"] = took([str(python.with_name("tiller-deploy")), "--help"], folder)
        check = "import importlib.util as u, sys; sys.exit(any(u.find_spec(n) for n in ('torch', 'numba', 'gymnasium')))"
        without = subprocess.run([str(python), "-c", check]).returncode == 0
        flight = fly(python, folder, given["seconds"])
    print(
        json.dumps(
            {"benchmark": "package", "load": os.getloadavg(), "without_torch": without, "mb": weight, **timed, **flight}, indent=1
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
