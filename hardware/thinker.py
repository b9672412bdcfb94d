"""A policy in a process of its own: however slow it is, and when it dies, the servo loop goes on.

The process is `python -m hardware.thinker`. Observations and plans pass through two blocks of shared memory, a pipe wakes it;
when whoever started it is gone, so is the pipe, and it ends.
"""

import contextlib
import gc
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.block import Block
from hardware.session import Session, Spec
from robot.core.errors import CheckpointError
from robot.core.interface import Interface
from robot.core.paths import ROOT

Array = NDArray[Any]


@dataclass(frozen=True)
class Thought:
    """A policy's plan: actions (Ta, *action shape), and when the observation was measured that it rests on [s]."""

    actions: Array
    stamp: float


def _asked(interface: Interface) -> dict[str, tuple[tuple[int, ...], str]]:
    fields = {field.name: (field.shape, field.dtype) for field in interface.observation}
    return {**fields, "/episode": ((), "int64")}


def _told(spec: Spec) -> dict[str, tuple[tuple[int, ...], str]]:
    return {"actions": ((spec.steps, *spec.interface.action.shape), "float32")}


class Thinker:
    """The servo loop's side: ask, and look for an answer."""

    def __init__(self, file: str | Path, seed: int) -> None:
        """Start the process and wait until it has loaded the file (CheckpointError: it cannot)."""
        down, self._bell = os.pipe()
        line, up = os.pipe()
        command = [sys.executable, "-m", "hardware.thinker", str(file), str(seed), str(down), str(up)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        self.process = subprocess.Popen(command, pass_fds=(down, up), env=environment)
        os.close(down)
        os.close(up)
        with os.fdopen(line) as answers:
            said = answers.readline()
        if not said:
            raise CheckpointError(f"policy '{file}': its process died while loading, with status {self.process.wait()}")
        told = json.loads(said)
        if "error" in told:
            self.process.wait()
            raise CheckpointError(told["error"])
        self.spec = Spec(
            Interface.from_json(told["interface"]),
            {k: tuple(v) for k, v in told["memory"].items()},
            tuple(told["noise"]),
            told["steps"],
        )
        self._questions = Block(_asked(self.spec.interface), os.open(f"/proc/{self.process.pid}/fd/{told['asked']}", os.O_RDWR))
        self._answers = Block(_told(self.spec), os.open(f"/proc/{self.process.pid}/fd/{told['told']}", os.O_RDWR))
        self._seen = 0

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def ask(self, observation: dict[str, Array], stamp: float, episode: int) -> None:
        """Have a plan made from this; a new episode number clears the policy's memory."""
        self._questions.write({**observation, "/episode": np.array(episode)}, stamp)
        with contextlib.suppress(BrokenPipeError):  # it is dead, which `alive` says
            os.write(self._bell, b"\n")

    def answer(self) -> Thought | None:
        """The newest plan that has not been fetched, or None."""
        found = self._answers.read(self._seen)
        if found is None:
            return None
        arrays, stamp, self._seen = found
        return Thought(arrays["actions"].copy(), stamp)

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        os.close(self._bell)
        self._questions.close()
        self._answers.close()


def main() -> None:
    """The policy's side: think whenever the bell rings, end when nobody is left to ring it."""
    file, seed, bell, line = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    with os.fdopen(line, "w") as answers:
        try:
            session = Session(file, seed)
        except CheckpointError as error:
            answers.write(json.dumps({"error": str(error)}))
            return
        spec = session.spec
        questions, replies = Block(_asked(spec.interface)), Block(_told(spec))
        told = {"interface": spec.interface.to_json(), "memory": spec.memory, "noise": spec.noise, "steps": spec.steps}
        answers.write(json.dumps({**told, "asked": questions.fd, "told": replies.fd}) + "\n")
    gc.collect()
    gc.freeze()  # as the servo loop does
    seen = episode = 0
    while os.read(bell, 4096):
        found = questions.read(seen)
        if found is None:
            continue
        arrays, stamp, seen = found
        number = int(arrays.pop("/episode"))
        if number != episode:
            session.reset()
            episode = number
        replies.write({"actions": session.plan(arrays)}, stamp)


if __name__ == "__main__":
    main()
