"""RAPTOR's student as one C99 header for a microcontroller: no allocation, no library, memory in a struct of the caller.

`check` compiles the header with the C compiler at hand and compares it with torch along a sequence of observations.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policies.raptor import Raptor
from robot.core.errors import NotSupportedError
from robot.core.interface import Field, Interface

HEADER = "raptor.h"
TANH = (
    ("-2.76076847742355e-16f", "2.00018790482477e-13f", "-8.60467152213735e-11f", "5.12229709037114e-08f",
     "1.48572235717979e-05f", "6.37261928875436e-04f", "4.89352455891786e-03f"),
    ("1.19825839466702e-06f", "1.18534705686654e-04f", "2.26843463243900e-03f", "4.89352518554385e-03f"),
)  # fmt: skip
"""Numerator and denominator of a rational approximation of tanh(x) / x in x^2 on [-7.9, 7.9], highest power first."""


def export(policy: Raptor, folder: Path, extra: dict[str, str] | None = None) -> Path:
    """Write `folder`/raptor.h atomically.

    Raises:
        NotSupportedError: the policy is not a Raptor with memory.
    """
    if not isinstance(policy, Raptor) or not policy.config.recurrent:
        raise NotSupportedError(
            f"target=c writes a recurrent RAPTOR student from its run folder, this is {type(policy).__name__}; use target=onnx, "
            "or the raptor.h that lies beside an exported student"
        )
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{HEADER}.tmp"
    draft.write_text(source(policy, extra or {}))
    os.replace(draft, folder / HEADER)
    return folder / HEADER


def source(policy: Raptor, extra: dict[str, str]) -> str:
    """The text of the header."""
    width, hidden = policy.config.width, policy.config.hidden
    inputs, outputs = policy.embed.in_features, policy.head.out_features
    arrays = {
        "embed_weight": policy.embed.weight, "embed_bias": policy.embed.bias, "input_weight": policy.gru.weight_ih,
        "input_bias": policy.gru.bias_ih, "hidden_weight": policy.gru.weight_hh, "hidden_bias": policy.gru.bias_hh,
        "head_weight": policy.head.weight, "head_bias": policy.head.bias, "first": policy.first,
    }  # fmt: skip
    constants = "\n".join(_array(f"raptor_{name}", value) for name, value in arrays.items())
    about = "\n".join(f" * {key}: {value}" for key, value in extra.items())
    sizes = {"INPUTS": inputs, "OUTPUTS": outputs, "WIDTH": width, "HIDDEN": hidden}
    defines = "\n".join(f"#define RAPTOR_{name} {value}" for name, value in sizes.items())
    numerator, denominator = (_horner("y", terms) for terms in TANH)
    body = TEMPLATE.replace("@ABOUT@", about).replace("@INTERFACE@", _described(policy.interface)).replace("@DEFINES@", defines)
    return body.replace("@CONSTANTS@", constants).replace("@NUMERATOR@", numerator).replace("@DENOMINATOR@", denominator)


def _array(name: str, value: Tensor) -> str:
    numbers = [f"{float(v):.9g}" for v in value.detach().flatten()]
    numbers = [f"{v}f" if re.search(r"[.e]", v) else f"{v}.0f" for v in numbers]
    rows = [", ".join(numbers[k : k + 8]) for k in range(0, len(numbers), 8)]
    return f"static const float {name}[{len(numbers)}] = {{\n  " + ",\n  ".join(rows) + "\n};"


def _horner(x: str, terms: tuple[str, ...]) -> str:
    text = terms[0]
    for term in terms[1:]:
        text = f"({text} * {x} + {term})"
    return text


def _described(interface: Interface) -> str:
    """The Interface as lines of a comment."""

    def line(field: Field, index: str) -> str:
        bounds = "" if field.low is None else f", in [{field.low:g}, {field.high:g}]"
        names = f" ({', '.join(field.names)})" if field.names else ""
        frame = f", frame {field.frame}" if field.frame else ""
        return f" *   {index:<9} {field.name}{names} [{field.unit or '1'}]{frame}{bounds}"

    lines, first = [], 0
    for field in interface.observation:
        count = int(np.prod(field.shape))
        lines.append(line(field, f"{first}..{first + count - 1}"))
        first += count
    return "\n".join(
        [
            f" * Call raptor_step every {interface.dt:g} s. Body: x forward, y left, z up; world: z up; matrices row-major.",
            " * observation:", *lines, " * action, rotor speed asked for is (action + 1) / 2 of its range:",
            line(interface.action, f"0..{int(np.prod(interface.action.shape)) - 1}"),
        ]
    )  # fmt: skip


TEMPLATE = """/* One policy for any quadrotor, as C99 without dependencies. Generated; do not edit.
@ABOUT@
@INTERFACE@
 * position and velocity are those of the vehicle minus those of the reference; last_action is what was returned before, first 0.
 */
#ifndef RAPTOR_H
#define RAPTOR_H

@DEFINES@

typedef struct {
  float hidden[RAPTOR_HIDDEN];
} raptor_memory;

@CONSTANTS@

static inline float raptor_tanh(float x) {
  const float limit = 7.90531110763549805f;
  x = x < -limit ? -limit : x > limit ? limit : x;
  const float y = x * x;
  return x * @NUMERATOR@
    / @DENOMINATOR@;
}

static inline float raptor_sigmoid(float x) {
  return 0.5f * raptor_tanh(0.5f * x) + 0.5f;
}

static inline void raptor_affine(const float *weight, const float *bias, const float *x, int inputs, int outputs, float *y) {
  for (int j = 0; j < outputs; j++) {
    float sum = bias[j];
    for (int i = 0; i < inputs; i++) sum += weight[j * inputs + i] * x[i];
    y[j] = sum;
  }
}

/* Forget everything: call before take-off. */
static inline void raptor_reset(raptor_memory *memory) {
  for (int k = 0; k < RAPTOR_HIDDEN; k++) memory->hidden[k] = raptor_first[k];
}

/* One decision: observation and memory to motor commands in [-1, 1] and memory. */
static inline void raptor_step(raptor_memory *memory, const float observation[RAPTOR_INPUTS], float action[RAPTOR_OUTPUTS]) {
  float x[RAPTOR_WIDTH], a[3 * RAPTOR_HIDDEN], b[3 * RAPTOR_HIDDEN];
  raptor_affine(raptor_embed_weight, raptor_embed_bias, observation, RAPTOR_INPUTS, RAPTOR_WIDTH, x);
  for (int k = 0; k < RAPTOR_WIDTH; k++) x[k] = x[k] > 0.0f ? x[k] : 0.0f;
  raptor_affine(raptor_input_weight, raptor_input_bias, x, RAPTOR_WIDTH, 3 * RAPTOR_HIDDEN, a);
  raptor_affine(raptor_hidden_weight, raptor_hidden_bias, memory->hidden, RAPTOR_HIDDEN, 3 * RAPTOR_HIDDEN, b);
  for (int k = 0; k < RAPTOR_HIDDEN; k++) {
    const float r = raptor_sigmoid(a[k] + b[k]);
    const float z = raptor_sigmoid(a[RAPTOR_HIDDEN + k] + b[RAPTOR_HIDDEN + k]);
    const float n = raptor_tanh(a[2 * RAPTOR_HIDDEN + k] + r * b[2 * RAPTOR_HIDDEN + k]);
    memory->hidden[k] = (1.0f - z) * n + z * memory->hidden[k];
  }
  raptor_affine(raptor_head_weight, raptor_head_bias, memory->hidden, RAPTOR_HIDDEN, RAPTOR_OUTPUTS, action);
  for (int k = 0; k < RAPTOR_OUTPUTS; k++) {
    const float c = action[k];
    action[k] = c < -1.0f ? -1.0f : c > 1.0f ? 1.0f : c;
  }
}

#endif
"""

PROGRAM = """#include <stdio.h>
#include <time.h>
#include "raptor.h"
int main(int argc, char **argv) {
  (void)argc;
  FILE *in = fopen(argv[1], "rb"), *out = fopen(argv[2], "wb");
  raptor_memory memory;
  float x[RAPTOR_INPUTS], y[RAPTOR_OUTPUTS], keep = 0.0f;
  raptor_reset(&memory);
  while (fread(x, sizeof x, 1, in) == 1) {
    raptor_step(&memory, x, y);
    fwrite(y, sizeof y, 1, out);
  }
  fclose(out);
  const int steps = 200000;
  struct timespec a, b;
  clock_gettime(CLOCK_MONOTONIC, &a);
  for (int k = 0; k < steps; k++) {
    x[0] = keep * 1e-6f;
    raptor_step(&memory, x, y);
    keep += y[0];
  }
  clock_gettime(CLOCK_MONOTONIC, &b);
  printf("%.4f %g\\n", ((b.tv_sec - a.tv_sec) * 1e6 + (b.tv_nsec - a.tv_nsec) * 1e-3) / steps, (double)keep);
  return 0;
}
"""
OBJECT = """#include "raptor.h"
void fly(raptor_memory *memory, const float *observation, float *action) { raptor_step(memory, observation, action); }
void start(raptor_memory *memory) { raptor_reset(memory); }
"""


@dataclass
class Check:
    """What came out of compiling a header."""

    gap: float
    """Largest difference to torch in the motor commands."""
    microseconds: float
    """Of one step on this machine, one thread, -O2."""
    size: int
    """Code and constants [bytes], -Os."""


def check(policy: Raptor, header: Path, observations: Tensor) -> Check | None:
    """Compile and run along observations (T, 22); None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    flags = ["-std=c99", "-D_POSIX_C_SOURCE=199309L", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{header.parent.resolve()}"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "main.c").write_text(PROGRAM)
        (folder / "part.c").write_text(OBJECT)
        observations.numpy().astype(np.float32).tofile(folder / "in")
        run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)  # noqa: E731
        run(compiler, "-O2", *flags, "main.c", "-o", "main")
        run(compiler, "-Os", *flags, "-c", "part.c")
        microseconds = float(run(str(folder / "main"), "in", "out").stdout.split()[0])
        ours = np.fromfile(folder / "out", np.float32).reshape(len(observations), -1)
        sections = run("size", "part.o").stdout.splitlines()[1].split() if shutil.which("size") else ["0", "0"]
    return Check(float(np.abs(ours - commands(policy, observations)).max()), microseconds, int(sections[0]) + int(sections[1]))


@torch.no_grad()
def commands(policy: Raptor, observations: Tensor) -> np.ndarray:
    """What torch commands along observations (T, 22), from the start of a flight."""
    hidden, out = torch.zeros(1, policy.config.hidden), []
    for row in observations:
        command, hidden = policy.command(row[None], hidden)
        out.append(command.clamp(-1, 1)[0])
    return torch.stack(out).numpy()
