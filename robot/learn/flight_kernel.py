"""Many flights with a small policy in the loop, and back: one compiled pass each way over policy and dynamics.

Sixteen worlds side by side as in `sim.quadrotor.kernel`. The tape is (blocks, fields, T + 1, 16): what happened to one field
of one block is contiguous, so that the gradients of weights are matrix products of parts of it. A block flies with the weights
of its group: one group is one policy, many groups are many teachers at once.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import float32, njit, prange

from robot.learn.flight_cost import bound, cost, cost_back, observe, observe_back
from robot.learn.flight_layers import _fast, accumulate, affine, gru, gru_back, rectify, rectify_back
from sim.quadrotor.kernel import (
    _ADJOINT,
    _BLOCK,
    _CONSTANT,
    _SETPOINT,
    LANES,
    ROTORS,
    STATE,
    Floats,
    _at,
    _backward,
    _forward,
    _lanes,
)

OBSERVED = 22
INPUT = 24
"""Observation, padded to a multiple of eight."""


class Layout(NamedTuple):
    """Where things are: fields of a block's memory, of its tape (`t_`), of weights (`w_`, transposed `back_`)."""

    width: int
    hidden: int
    observation: int
    embed: int
    state: int
    inner: int
    outer: int
    after: int
    action: int
    last: int
    aim: int
    reach: int
    left: int
    pull: int
    carry: int
    cost: int
    firsts: int
    end: int
    t_observation: int
    t_embed: int
    t_hidden: int
    t_inner: int
    t_outer: int
    t_action: int
    t_end: int
    w_embed: int
    w_inner: int
    w_outer: int
    w_head: int
    back_embed: int
    back_inner: int
    back_outer: int
    back_head: int


def layout(width: int, hidden: int) -> Layout:
    """For a policy 22 → `width` → GRU `hidden` → 4, both widths multiples of eight."""
    gates = 3 * hidden
    memory = [_BLOCK // LANES, INPUT, width, hidden, gates, gates, hidden, 8, 14, ROTORS, 1, 8, ROTORS, hidden, 1, hidden]
    tape = [STATE, INPUT, width, hidden, gates, gates, ROTORS]
    weights = [width * (INPUT + 1), gates * (width + 1), gates * (hidden + 1), ROTORS * (hidden + 1)]
    back = [INPUT * width, width * gates, hidden * gates]
    place = lambda sizes, first=0: (np.cumsum([0, *sizes]) + first).tolist()  # noqa: E731
    forward = place(weights)
    return Layout(width, hidden, *place(memory)[1:], *place(tape)[1:], *forward[:4], *place(back, forward[4]))


@_fast
def _keep(tape: Floats, first: int, t: int, m: Floats, field: int, count: int) -> None:
    """Write fields of the memory to the tape (fields, T + 1, 16) of a block."""
    for k in range(count):
        for lane in range(LANES):
            tape[first + k, t, lane] = m[(field + k) * LANES + lane]


@_fast
def _recall(tape: Floats, first: int, t: int, m: Floats, field: int, count: int) -> None:
    for k in range(count):
        for lane in range(LANES):
            m[(field + k) * LANES + lane] = tape[first + k, t, lane]


@_fast
def _read(m: Floats, field: int, values: Floats, count: int) -> None:
    """Fields of the memory from values (count, 16)."""
    for k in range(count):
        for lane in range(LANES):
            m[(field + k) * LANES + lane] = values[k, lane]


@_fast
def _write(values: Floats, m: Floats, field: int, count: int) -> None:
    for k in range(count):
        for lane in range(LANES):
            values[k, lane] = m[(field + k) * LANES + lane]


@_fast
def _command(m: Floats, lanes: np.uint64, source: int, target: int, setpoint: bool) -> None:
    """Commands clipped to [-1, 1], or the set-points in [0, 1] that they mean."""
    one, half = float32(1), float32(0.5)
    for k in range(ROTORS):
        for lane in range(lanes):
            a = min(max(m[_at(source, k, lane)], -one), one)
            m[_at(target, k, lane)] = half * (a + one) if setpoint else a


@_fast
def _decide(at: Layout, m: Floats, lanes: np.uint64, w: Floats) -> None:
    """From the observation to the command."""
    gates = 3 * at.hidden
    affine(m, lanes, at.observation, INPUT, at.embed, at.width, w, at.w_embed, at.w_embed + at.width * INPUT)
    rectify(m, lanes, at.embed, at.width)
    affine(m, lanes, at.embed, at.width, at.inner, gates, w, at.w_inner, at.w_inner + gates * at.width)
    affine(m, lanes, at.state, at.hidden, at.outer, gates, w, at.w_outer, at.w_outer + gates * at.hidden)
    gru(m, lanes, at.inner, at.outer, at.state, at.after, at.hidden)
    affine(m, lanes, at.after, at.hidden, at.action, ROTORS, w, at.w_head, at.w_head + ROTORS * at.hidden)


@_fast
def _decide_back(at: Layout, m: Floats, lanes: np.uint64, w: Floats, tape: Floats, pull: Floats, t: int) -> None:
    """From the cotangent of the command at `left` to that of the observation; each layer's goes to `pull`."""
    gates = 3 * at.hidden
    _keep(pull, at.t_action, t, m, at.left, ROTORS)
    affine(m, lanes, at.left, 8, at.after, at.hidden, w, at.back_head, -1)
    _recall(tape, at.t_hidden, t, m, at.state, at.hidden)
    _recall(tape, at.t_inner, t, m, at.inner, gates)
    _recall(tape, at.t_outer + 2 * at.hidden, t, m, at.outer + 2 * at.hidden, at.hidden)
    gru_back(m, lanes, at.inner, at.outer, at.state, at.after, at.carry, at.hidden)
    _keep(pull, at.t_inner, t, m, at.inner, gates)
    _keep(pull, at.t_outer, t, m, at.outer, gates)
    affine(m, lanes, at.outer, gates, at.carry, at.hidden, w, at.back_outer, -1)
    accumulate(m, lanes, at.after, at.carry, at.hidden)
    affine(m, lanes, at.inner, gates, at.embed, at.width, w, at.back_inner, -1)
    _recall(tape, at.t_embed, t, m, at.outer, at.width)
    rectify_back(m, lanes, at.embed, at.outer, at.width)
    _keep(pull, at.t_embed, t, m, at.embed, at.width)
    affine(m, lanes, at.embed, at.width, at.observation, INPUT, w, at.back_embed, -1)


@_fast
def _fly(
    at: Layout, m: Floats, lanes: np.uint64, w: Floats, tape: Floats, memory: Floats, reference: Floats, costs: Floats,
    h: float, recurrent: bool,
) -> None:  # fmt: skip
    """All steps of a block; state, memory and last action are in its memory before and after."""
    steps, gates = tape.shape[1] - 1, 3 * at.hidden
    for t in range(steps):
        _keep(tape, 0, t, m, 0, STATE)
        _recall(reference, 0, t, m, at.last + 8, 6)
        for lane in range(lanes):
            observe(m, lane, at.observation * LANES, at.last * LANES)
        _decide(at, m, lanes, w)
        _keep(tape, at.t_observation, t, m, at.observation, INPUT)
        _keep(tape, at.t_embed, t, m, at.embed, at.width)
        _keep(tape, at.t_hidden, t, m, at.state, at.hidden)
        _keep(tape, at.t_inner, t, m, at.inner, gates)
        _keep(tape, at.t_outer, t, m, at.outer, gates)
        _keep(tape, at.t_action, t, m, at.action, ROTORS)
        _command(m, lanes, at.action * LANES, _SETPOINT, True)
        for lane in range(lanes):
            _forward(m, lane, h)
        _recall(reference, 0, t + 1, m, at.last + 8, 6)
        for lane in range(lanes):
            m[_at(at.cost * LANES, 0, lane)] += cost(m, lane, costs, at.action * LANES, at.last * LANES, at.reach * LANES)
        _command(m, lanes, at.action * LANES, at.last * LANES, False)
        if recurrent:
            for k in range(at.hidden * LANES):
                m[at.state * LANES + k] = m[at.after * LANES + k]
        else:
            _read(m, at.state, memory, at.hidden)
    _keep(tape, 0, steps, m, 0, STATE)
    _keep(tape, at.t_hidden, steps, m, at.state, at.hidden)


@_fast
def _gather(at: Layout, m: Floats, lanes: np.uint64) -> None:
    """The cotangent of the unclipped command, from the cost, from what it moved, and from what the next step saw and cost."""
    one, half, zero = float32(1), float32(0.5), float32(0)
    for k in range(ROTORS):
        for lane in range(lanes):
            raw, change = m[_at(at.action * LANES, k, lane)], m[_at((at.left + 4) * LANES, k, lane)]
            through = half * m[_at(_ADJOINT + STATE * LANES, k, lane)] + m[_at(at.pull * LANES, k, lane)] + change
            m[_at(at.left * LANES, k, lane)] += through if (raw > -one and raw < one) else zero
            m[_at(at.pull * LANES, k, lane)] = -change
            m[_at((at.left + 4) * LANES, k, lane)] = zero


@_fast
def _fly_back(
    at: Layout, m: Floats, lanes: np.uint64, w: Floats, tape: Floats, pull: Floats, first: Floats, reference: Floats,
    aim: Floats, costs: Floats, h: float, share: float, limit: float, recurrent: bool,
) -> None:  # fmt: skip
    """The steps of a block in reverse."""
    steps = tape.shape[1] - 1
    _recall(tape, 0, steps, m, 0, STATE)
    for t in range(steps - 1, -1, -1):
        _recall(tape, at.t_action, t, m, at.action, ROTORS)
        if t:
            _recall(tape, at.t_action, t - 1, m, at.last, ROTORS)
        else:
            _read(m, at.last, first, ROTORS)
        _recall(reference, 0, t + 1, m, at.last + 8, 6)
        _recall(aim, 0, t, m, at.aim, ROTORS)
        _command(m, lanes, at.last * LANES, at.last * LANES, False)
        _command(m, lanes, at.action * LANES, _SETPOINT, True)
        for lane in range(lanes):
            cost_back(
                m, lane, costs, at.action * LANES, at.last * LANES, at.aim * LANES, at.reach * LANES, at.left * LANES, share
            )
            bound(m, lane, limit)
        _recall(tape, 0, t, m, 0, STATE)
        for lane in range(lanes):
            _backward(m, lane, h)
        _gather(at, m, lanes)
        _decide_back(at, m, lanes, w, tape, pull, t)
        for lane in range(lanes):
            observe_back(m, lane, at.observation * LANES)
        accumulate(m, lanes, at.observation + 18, at.pull, ROTORS)
        if not recurrent:
            accumulate(m, lanes, at.carry, at.firsts, at.hidden)
            for k in range(at.hidden * LANES):
                m[at.carry * LANES + k] = float32(0)


@cache
def passes(width: int, hidden: int, recurrent: bool) -> tuple[Any, Any]:
    """The compiled (forward, backward) for a policy of these widths, that keeps its memory or forgets it at every step."""
    at = layout(width, hidden)

    # Numba's cache looks at this file alone: after a change of a function that is inlined here, save this file too.
    @njit(parallel=True, nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
    def forward(
        work, groups, weights, state, last, memory, reference, reach, costs, dt, tape, out_last, out_memory, out_cost
    ):  # pragma: no cover
        for block in prange(len(work)):
            m = np.zeros(at.end * LANES, np.float32)
            m[_CONSTANT:_ADJOINT] = work[block, _CONSTANT:_ADJOINT]
            _read(m, 0, state[block], STATE)
            _read(m, at.last, last[block], ROTORS)
            _read(m, at.state, memory[block], at.hidden)
            m[at.reach * LANES : (at.reach + 1) * LANES] = reach[block]
            w = weights[block // (len(work) // groups)]
            _fly(at, m, _lanes(work), w, tape[block], memory[block], reference[block], costs, float32(dt), recurrent)
            _write(out_last[block], m, at.last, ROTORS)
            _write(out_memory[block], m, at.state, at.hidden)
            out_cost[block] = m[at.cost * LANES : (at.cost + 1) * LANES]

    @njit(parallel=True, nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
    def backward(
        work, groups, weights, first, reference, aim, reach, costs, dt, share, limit, tape, pull, out_memory
    ):  # pragma: no cover
        for block in prange(len(work)):
            m = np.zeros(at.end * LANES, np.float32)
            m[_CONSTANT:_ADJOINT] = work[block, _CONSTANT:_ADJOINT]
            m[at.reach * LANES : (at.reach + 1) * LANES] = reach[block]
            w = weights[block // (len(work) // groups)]
            _fly_back(
                at, m, _lanes(work), w, tape[block], pull[block], first[block], reference[block], aim[block], costs,
                float32(dt), float32(share), float32(limit), recurrent,
            )  # fmt: skip
            _write(out_memory[block], m, at.carry if recurrent else at.firsts, at.hidden)

    return forward, backward
