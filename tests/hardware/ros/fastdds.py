"""Builds echo.cpp where Fast DDS' headers are installed (Debian: libfastrtps-dev libfastcdr-dev g++)."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).with_name("echo.cpp")
HEADER = Path("/usr/include/fastdds/dds/domain/DomainParticipant.hpp")


def missing() -> str | None:
    """What is not installed, or None."""
    if not HEADER.exists():
        return "Fast DDS is not installed (libfastrtps-dev)"
    return None if shutil.which("g++") else "there is no compiler (g++)"


def build() -> Path:
    """The program, compiled once for each version of its source."""
    version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    program = Path(tempfile.gettempdir()) / f"tiller_echo_{os.getuid()}_{version}"
    if not program.exists():
        made = program.with_suffix(f".{os.getpid()}")
        subprocess.run(["g++", "-std=c++17", "-O1", "-o", made, SOURCE, "-lfastrtps", "-lfastcdr"], check=True)
        made.rename(program)
    return program


def start(domain: int, to: str, back: str, first: Callable[[], object] | None = None) -> subprocess.Popen[str]:
    """The program, ready; it ends when its input is closed. `first` is called in its process before."""
    command = [build(), str(domain), to, back]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=first)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process
