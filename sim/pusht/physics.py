"""Many tables side by side: Chipmunk itself, called from compiled code.

The world is that of Diffusion Policy's PushT (Chi et al., 2023): the agent is a kinematic disc under a PD law, the T is
pushed without friction, and damping 0 wipes its velocity every substep. Each table is a space of pymunk; a compiled loop
writes the agent's velocity into Chipmunk's memory and calls `cpSpaceStep` by its address, so that ten substeps cost a
function call, threads run side by side, and the numbers are pymunk's to the last bit.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pymunk
from llvmlite import ir
from numba import carray, njit, types  # pyright: ignore[reportPrivateImportUsage]
from numba.extending import intrinsic
from numpy.typing import NDArray
from pymunk._chipmunk import ffi, lib

from robot.core.errors import ConfigError
from sim.pusht.geometry import BAR, CENTRE, RADIUS, STEM

Array = NDArray[np.float64]

DT = 0.01
"""Of a substep [s]."""
SUBSTEPS = 10
"""In a control period of 0.1 s."""
STIFFNESS, DAMPING = 100.0, 20.0
"""Of the agent's PD law [1/s^2], [1/s]."""
STATE = 7
"""Numbers of a table's state: agent x, y, its velocity x, y, then x, y and angle of the T."""
WALL, MARGIN = 2.0, 5.0
"""Radius of the walls and their distance from the table's edge [px]."""
_MASS, _MOMENT = 1.0, 3000.0
_P, _V, _A, _TX = 8, 10, 14, 21
"""Where position of the centre of mass, velocity, angle and origin stand in a cpBody, counted in doubles."""
_WORDS = 24


@intrinsic
def call_step(typing, function, space, dt):
    """Call the C function `void f(void *, double)` at the address `function`."""

    def code(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64), ir.DoubleType()])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [arguments[1], arguments[2]])
        return context.get_dummy_value()

    return types.void(types.uintp, types.uintp, types.float64), code


@intrinsic
def _doubles(typing, address):
    """The address as a pointer to doubles."""

    def code(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(types.uintp), code


@njit(cache=True, nogil=True)
def address_doubles(address, count):
    """The memory at `address` as an array of doubles."""
    return carray(_doubles(address), count)  # pyright: ignore[reportCallIssue]


@njit(cache=True, nogil=True)
def advance(function, spaces, agents, blocks, rows, targets, substeps, out):
    """Move the tables `rows` for some substeps towards `targets` (B, 2) and write their states into `out` (B, STATE)."""
    for i in rows:
        agent = address_doubles(agents[i], _WORDS)
        for _ in range(substeps):
            for k in range(2):
                acceleration = STIFFNESS * (targets[i, k] - agent[_P + k]) + DAMPING * (0.0 - agent[_V + k])
                agent[_V + k] += acceleration * DT
            call_step(function, spaces[i], DT)  # pyright: ignore[reportCallIssue]
        block = address_doubles(blocks[i], _WORDS)
        for k in range(4):
            out[i, k] = agent[_P + k]
        out[i, 4], out[i, 5], out[i, 6] = block[_TX], block[_TX + 1], block[_A]


class Tables:
    """`count` tables; `state` (count, STATE) [px, px/s, rad] is what they are now, angles not wrapped."""

    def __init__(self, count: int, threads: int = 1) -> None:
        self.count = count
        self.state = np.zeros((count, STATE))
        self.function = np.uint64(int(ffi.cast("uintptr_t", ffi.addressof(lib, "cpSpaceStep"))))
        self._spaces: list[pymunk.Space | None] = [None] * count
        self.addresses = np.zeros((3, count), np.uint64)
        self._shares = [s for s in np.array_split(np.arange(count), min(threads or os.cpu_count() or 1, count)) if len(s)]
        self._pool = ThreadPoolExecutor(len(self._shares), thread_name_prefix="tables") if len(self._shares) > 1 else None
        _check_layout()

    def place(
        self,
        i: int,
        agent: Sequence[float] | Array,
        pose: Sequence[float] | Array,
        turn_last: bool = False,
        friction: float = 0.0,
    ) -> None:
        """Lay table `i` anew, the agent (2,) at rest and the T at `pose` (3,), then take one substep as the original does.

        Args:
            i: table.
            agent: x, y [px].
            pose: x, y [px] of the T's origin and its angle [rad].
            turn_last: set the position first and turn about the centre of mass after, so that the T lies elsewhere than
                told: the order of the original's evaluation and of gym-pusht, which the standard starts are made with.
            friction: of every contact; the original has none, whatever its code says.
        """
        space, body, disc = build(friction)
        disc.position = (float(agent[0]), float(agent[1]))
        for what in ("position", "angle") if turn_last else ("angle", "position"):
            setattr(body, what, float(pose[2]) if what == "angle" else (float(pose[0]), float(pose[1])))
        space.step(DT)
        self._spaces[i] = space
        address = lambda thing: int(ffi.cast("uintptr_t", thing))  # noqa: E731
        self.addresses[:, i] = address(space._space), address(disc._body), address(body._body)
        self.state[i] = *disc.position, *disc.velocity, *body.position, body.angle

    def step(self, targets: Array, substeps: int = SUBSTEPS) -> Array:
        """Move all tables, the agents driven towards `targets` (count, 2) [px]; returns `state`."""
        targets, a = np.ascontiguousarray(targets, np.float64), self.addresses
        run = lambda rows: advance(self.function, a[0], a[1], a[2], rows, targets, substeps, self.state)  # noqa: E731
        if self._pool is None:
            run(self._shares[0])
        else:
            list(self._pool.map(run, self._shares))
        return self.state


def build(friction: float = 0.0) -> tuple[pymunk.Space, pymunk.Body, pymunk.Body]:
    """An empty table as a pymunk space, its T and its agent.

    Bodies are added where the original adds them before it moves them: the order in which Chipmunk meets pairs depends on it,
    and one of the 206 recorded episodes ends 10 px elsewhere without.
    """
    if not (math.isfinite(friction) and friction >= 0):
        raise ConfigError(f"env.friction: {friction}; it must be finite and not negative")
    space = pymunk.Space()
    space.damping = 0.0
    low, high = MARGIN, 506.0
    edges = [((low, high), (low, low)), ((low, low), (high, low)), ((high, low), (high, high)), ((low, high), (high, high))]
    space.add(*(pymunk.Segment(space.static_body, a, b, WALL) for a, b in edges))
    agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
    agent.position = (256.0, 400.0)
    space.add(agent, pymunk.Circle(agent, RADIUS))
    block = pymunk.Body(_MASS, _MOMENT)
    block.center_of_gravity = CENTRE
    block.position = (256.0, 300.0)
    corners = [[(x0, y1), (x1, y1), (x1, y0), (x0, y0)] for x0, x1, y0, y1 in (BAR, STEM)]
    space.add(block, *(pymunk.Poly(block, points) for points in corners))
    for shape in space.shapes:
        shape.friction = friction
    return space, block, agent


def _check_layout() -> None:
    """Refuse a Chipmunk whose bodies are laid out otherwise than this file assumes."""
    body = pymunk.Body(2.0, 3.0)
    body.center_of_gravity, body.position, body.angle, body.velocity = (0.5, 0.25), (7.0, 8.0), 0.0, (9.0, 10.0)
    words = np.frombuffer(ffi.buffer(ffi.cast("char *", body._body), 8 * _WORDS), np.float64)
    if words[[_P, _P + 1, _V, _V + 1, _A, _TX, _TX + 1]].tolist() != [7.5, 8.25, 9.0, 10.0, 0.0, 7.0, 8.0]:
        raise ConfigError(f"pymunk {pymunk.version} lays bodies out in an unknown way; install pymunk>=6.6,<8")
