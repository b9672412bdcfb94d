"""Many flights with a small policy in the loop, and back: one compiled pass each way over policy and dynamics.

Sixteen worlds side by side as in `sim.quadrotor.kernel`. The tape is (blocks, fields, T, 16): what happened to one field of one
block is contiguous, so that losses are plain torch over it and the gradients of weights are matrix products of parts of it.
A block flies with the weights of its group: one group is one policy, many groups are many teachers at once.
"""

from functools import cache
from typing import Any

import numpy as np
from numba import float32, njit, prange
from numpy.typing import NDArray

from sim.quadrotor.kernel import _ADJOINT, _BLOCK, _SETPOINT, LANES, ROTORS, STATE, _at, _backward, _forward, _inlined, _lanes

Floats = NDArray[np.float32]
OBSERVED = 22
INPUT = 24
"""Observation, padded to a multiple of eight."""
_fast: Any = njit(forceinline=True, error_model="numpy", fastmath={"contract", "nsz"})


class Fields:
    """Where a field of the tape begins, for a policy of given widths."""

    def __init__(self, width: int, hidden: int) -> None:
        sizes = {
            "state": STATE, "observation": INPUT, "embed": width, "hidden": hidden, "input_gates": 3 * hidden,
            "hidden_gates": 3 * hidden, "action": 8,
        }  # fmt: skip
        self.first: dict[str, int] = {}
        self.size = 0
        for name, size in sizes.items():
            self.first[name] = self.size
            self.size += size


@_fast
def _tanh(x: float) -> float:
    """Rational approximation on [-7.9, 7.9], to a few units of the last place of float32."""
    x = min(max(x, float32(-7.90531110763549805)), float32(7.90531110763549805))
    y = x * x
    p = float32(-2.76076847742355e-16) * y + float32(2.00018790482477e-13)
    p = p * y + float32(-8.60467152213735e-11)
    p = p * y + float32(5.12229709037114e-08)
    p = p * y + float32(1.48572235717979e-05)
    p = p * y + float32(6.37261928875436e-04)
    p = p * y + float32(4.89352455891786e-03)
    q = float32(1.19825839466702e-06) * y + float32(1.18534705686654e-04)
    q = q * y + float32(2.26843463243900e-03)
    q = q * y + float32(4.89352518554385e-03)
    return x * p / q


@_fast
def _sigmoid(x: float) -> float:
    half = float32(0.5)
    return half * _tanh(half * x) + half


@_fast
def _affine(
    m: Floats, lanes: np.uint64, source: int, inputs: int, target: int, outputs: int, w: Floats, at: int, bias: int
) -> None:
    """Fields target… = W fields source… + bias; W row-major (outputs, inputs) at `at`, inputs a multiple of 8; bias < 0: none."""
    for j in range(outputs):
        start = w[bias + j] if bias >= 0 else float32(0)
        for lane in range(lanes):
            m[_at(target * LANES, j, lane)] = start
        for i in range(0, inputs, 8):
            k = at + j * inputs + i
            w0, w1, w2, w3, w4, w5, w6, w7 = w[k], w[k + 1], w[k + 2], w[k + 3], w[k + 4], w[k + 5], w[k + 6], w[k + 7]
            s = (source + i) * LANES
            for lane in range(lanes):
                m[_at(target * LANES, j, lane)] += (
                    w0 * m[_at(s, 0, lane)] + w1 * m[_at(s, 1, lane)] + w2 * m[_at(s, 2, lane)] + w3 * m[_at(s, 3, lane)]
                    + w4 * m[_at(s, 4, lane)] + w5 * m[_at(s, 5, lane)] + w6 * m[_at(s, 6, lane)] + w7 * m[_at(s, 7, lane)]
                )  # fmt: skip


@_inlined
def _observe(m: Floats, lane: np.uint64, at: int, last: int) -> None:
    """Observation from state and reference (six fields at `last` + 8), the last action at `last`."""
    two, one = float32(2), float32(1)
    w, x, y, z = m[_at(0, 3, lane)], m[_at(0, 4, lane)], m[_at(0, 5, lane)], m[_at(0, 6, lane)]
    m[_at(at, 0, lane)] = m[_at(0, 0, lane)] - m[_at(last, 8, lane)]
    m[_at(at, 1, lane)] = m[_at(0, 1, lane)] - m[_at(last, 9, lane)]
    m[_at(at, 2, lane)] = m[_at(0, 2, lane)] - m[_at(last, 10, lane)]
    m[_at(at, 3, lane)], m[_at(at, 4, lane)] = one - two * (y * y + z * z), two * (x * y - w * z)
    m[_at(at, 5, lane)], m[_at(at, 6, lane)] = two * (x * z + w * y), two * (x * y + w * z)
    m[_at(at, 7, lane)], m[_at(at, 8, lane)] = one - two * (x * x + z * z), two * (y * z - w * x)
    m[_at(at, 9, lane)], m[_at(at, 10, lane)] = two * (x * z - w * y), two * (y * z + w * x)
    m[_at(at, 11, lane)] = one - two * (x * x + y * y)
    m[_at(at, 12, lane)] = m[_at(0, 7, lane)] - m[_at(last, 11, lane)]
    m[_at(at, 13, lane)] = m[_at(0, 8, lane)] - m[_at(last, 12, lane)]
    m[_at(at, 14, lane)] = m[_at(0, 9, lane)] - m[_at(last, 13, lane)]
    m[_at(at, 15, lane)], m[_at(at, 16, lane)] = m[_at(0, 10, lane)], m[_at(0, 11, lane)]
    m[_at(at, 17, lane)] = m[_at(0, 12, lane)]
    m[_at(at, 18, lane)], m[_at(at, 19, lane)] = m[_at(last, 0, lane)], m[_at(last, 1, lane)]
    m[_at(at, 20, lane)], m[_at(at, 21, lane)] = m[_at(last, 2, lane)], m[_at(last, 3, lane)]


@_inlined
def _observe_back(m: Floats, lane: np.uint64, at: int) -> None:
    """Add to the adjoint of the state what the adjoint of the observation at `at` says."""
    two, a = float32(2), _ADJOINT
    w, x, y, z = m[_at(0, 3, lane)], m[_at(0, 4, lane)], m[_at(0, 5, lane)], m[_at(0, 6, lane)]
    g00, g01, g02 = m[_at(at, 3, lane)], m[_at(at, 4, lane)], m[_at(at, 5, lane)]
    g10, g11, g12 = m[_at(at, 6, lane)], m[_at(at, 7, lane)], m[_at(at, 8, lane)]
    g20, g21, g22 = m[_at(at, 9, lane)], m[_at(at, 10, lane)], m[_at(at, 11, lane)]
    m[_at(a, 0, lane)] += m[_at(at, 0, lane)]
    m[_at(a, 1, lane)] += m[_at(at, 1, lane)]
    m[_at(a, 2, lane)] += m[_at(at, 2, lane)]
    m[_at(a, 3, lane)] += two * (-z * g01 + y * g02 + z * g10 - x * g12 - y * g20 + x * g21)
    m[_at(a, 4, lane)] += two * (y * g01 + z * g02 + y * g10 - two * x * g11 - w * g12 + z * g20 + w * g21 - two * x * g22)
    m[_at(a, 5, lane)] += two * (-two * y * g00 + x * g01 + w * g02 + x * g10 + z * g12 - w * g20 + z * g21 - two * y * g22)
    m[_at(a, 6, lane)] += two * (-two * z * g00 - w * g01 + x * g02 + w * g10 - two * z * g11 + y * g12 + x * g20 + y * g21)
    m[_at(a, 7, lane)] += m[_at(at, 12, lane)]
    m[_at(a, 8, lane)] += m[_at(at, 13, lane)]
    m[_at(a, 9, lane)] += m[_at(at, 14, lane)]
    m[_at(a, 10, lane)] += m[_at(at, 15, lane)]
    m[_at(a, 11, lane)] += m[_at(at, 16, lane)]
    m[_at(a, 12, lane)] += m[_at(at, 17, lane)]


COSTS = 15
"""Of a step: position and its rounding [m], velocity and its knee [m/s], rate and its knee [rad/s], yaw, action change, speed beyond
a limit [m/s] and that limit, position beyond four fifths of the reach, command beyond its range, imitation, knee of the speed
[m/s] and of the position beyond [m]. What has a knee grows like a square below it and in proportion above."""


@_inlined
def _cost(m: Floats, lane: np.uint64, c: Floats, act: int, last: int, aim: int, reach: int, grad: int, share: float) -> float:
    """Cost of what a command led to; with grad >= 0 its gradient is added to the adjoints of state, command and last action.

    Fields: the unclipped command at `act`, the action before it at `last` (reference six fields at + 8), a teacher's at `aim`.
    """
    one, zero, two = float32(1), float32(0), float32(2)
    p0 = m[_at(0, 0, lane)] - m[_at(last, 8, lane)]
    p1 = m[_at(0, 1, lane)] - m[_at(last, 9, lane)]
    p2 = m[_at(0, 2, lane)] - m[_at(last, 10, lane)]
    v0, v1, v2 = m[_at(0, 7, lane)], m[_at(0, 8, lane)], m[_at(0, 9, lane)]
    e0, e1, e2 = v0 - m[_at(last, 11, lane)], v1 - m[_at(last, 12, lane)], v2 - m[_at(last, 13, lane)]
    w0, w1, w2 = m[_at(0, 10, lane)], m[_at(0, 11, lane)], m[_at(0, 12, lane)]
    z = m[_at(0, 6, lane)]
    far = np.sqrt(p0 * p0 + p1 * p1 + p2 * p2 + c[1] * c[1])
    fast = np.sqrt(one + (e0 * e0 + e1 * e1 + e2 * e2) / (c[3] * c[3]))
    spin = np.sqrt(one + (w0 * w0 + w1 * w1 + w2 * w2) / (c[5] * c[5]))
    a0, a1, a2, a3 = m[_at(act, 0, lane)], m[_at(act, 1, lane)], m[_at(act, 2, lane)], m[_at(act, 3, lane)]
    b0, b1 = min(max(a0, -one), one), min(max(a1, -one), one)
    b2, b3 = min(max(a2, -one), one), min(max(a3, -one), one)
    d0, d1 = b0 - m[_at(last, 0, lane)], b1 - m[_at(last, 1, lane)]
    d2, d3 = b2 - m[_at(last, 2, lane)], b3 - m[_at(last, 3, lane)]
    change = np.sqrt(d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3 + float32(1e-4))
    s0, s1, s2 = max(abs(v0) - c[9], zero), max(abs(v1) - c[9], zero), max(abs(v2) - c[9], zero)
    edge = float32(0.8) * m[_at(reach, 0, lane)]
    r0, r1, r2 = max(abs(p0) - edge, zero), max(abs(p1) - edge, zero), max(abs(p2) - edge, zero)
    over = np.sqrt(one + (s0 * s0 + s1 * s1 + s2 * s2) / (c[13] * c[13]))
    out = np.sqrt(one + (r0 * r0 + r1 * r1 + r2 * r2) / (c[14] * c[14]))
    o0, o1, o2, o3 = a0 - b0, a1 - b1, a2 - b2, a3 - b3
    i0, i1 = a0 - m[_at(aim, 0, lane)], a1 - m[_at(aim, 1, lane)]
    i2, i3 = a2 - m[_at(aim, 2, lane)], a3 - m[_at(aim, 3, lane)]
    total = c[0] * far + c[2] * c[3] * c[3] * (fast - one) + c[4] * c[5] * c[5] * (spin - one) + c[6] * z * z
    total += c[7] * change + c[8] * c[13] * c[13] * (over - one) + c[10] * c[14] * c[14] * (out - one)
    total += c[11] * (o0 * o0 + o1 * o1 + o2 * o2 + o3 * o3) + c[12] * (i0 * i0 + i1 * i1 + i2 * i2 + i3 * i3)
    if grad < 0:
        return total
    g, k = _ADJOINT, share * c[0] / far
    x, y = share * c[10] / out, share * c[8] / over
    m[_at(g, 0, lane)] += k * p0 + (x * r0 if p0 > zero else -x * r0)
    m[_at(g, 1, lane)] += k * p1 + (x * r1 if p1 > zero else -x * r1)
    m[_at(g, 2, lane)] += k * p2 + (x * r2 if p2 > zero else -x * r2)
    m[_at(g, 6, lane)] += two * share * c[6] * z
    k = share * c[2] / fast
    m[_at(g, 7, lane)] += k * e0 + (y * s0 if v0 > zero else -y * s0)
    m[_at(g, 8, lane)] += k * e1 + (y * s1 if v1 > zero else -y * s1)
    m[_at(g, 9, lane)] += k * e2 + (y * s2 if v2 > zero else -y * s2)
    k = share * c[4] / spin
    m[_at(g, 10, lane)] += k * w0
    m[_at(g, 11, lane)] += k * w1
    m[_at(g, 12, lane)] += k * w2
    k, x, y = share * c[7] / change, two * share * c[11], two * share * c[12]
    m[_at(grad, 0, lane)], m[_at(grad, 1, lane)] = x * o0 + y * i0, x * o1 + y * i1
    m[_at(grad, 2, lane)], m[_at(grad, 3, lane)] = x * o2 + y * i2, x * o3 + y * i3
    m[_at(grad, 4, lane)], m[_at(grad, 5, lane)], m[_at(grad, 6, lane)], m[_at(grad, 7, lane)] = k * d0, k * d1, k * d2, k * d3
    return total


@_inlined
def _bound(m: Floats, lane: np.uint64, limit: float) -> None:
    """Shorten the adjoint of the state to at most `limit`."""
    a, total = _ADJOINT, float32(1e-12)
    g = (
        m[_at(a, 0, lane)], m[_at(a, 1, lane)], m[_at(a, 2, lane)], m[_at(a, 3, lane)], m[_at(a, 4, lane)], m[_at(a, 5, lane)],
        m[_at(a, 6, lane)], m[_at(a, 7, lane)], m[_at(a, 8, lane)], m[_at(a, 9, lane)], m[_at(a, 10, lane)],
        m[_at(a, 11, lane)], m[_at(a, 12, lane)],
    )  # fmt: skip
    total += g[0] * g[0] + g[1] * g[1] + g[2] * g[2] + g[3] * g[3] + g[4] * g[4] + g[5] * g[5] + g[6] * g[6]
    total += g[7] * g[7] + g[8] * g[8] + g[9] * g[9] + g[10] * g[10] + g[11] * g[11] + g[12] * g[12]
    f = min(float32(1), limit / np.sqrt(total))
    m[_at(a, 0, lane)], m[_at(a, 1, lane)], m[_at(a, 2, lane)] = f * g[0], f * g[1], f * g[2]
    m[_at(a, 3, lane)], m[_at(a, 4, lane)], m[_at(a, 5, lane)], m[_at(a, 6, lane)] = f * g[3], f * g[4], f * g[5], f * g[6]
    m[_at(a, 7, lane)], m[_at(a, 8, lane)], m[_at(a, 9, lane)] = f * g[7], f * g[8], f * g[9]
    m[_at(a, 10, lane)], m[_at(a, 11, lane)], m[_at(a, 12, lane)] = f * g[10], f * g[11], f * g[12]


@_inlined
def _keep(tape: Floats, first: int, t: int, m: Floats, at: int, count: int) -> None:
    """Write fields of the memory to the tape (fields, T, 16) of a block."""
    for k in range(count):
        for lane in range(LANES):
            tape[first + k, t, lane] = m[at + k * LANES + lane]


@_inlined
def _recall(tape: Floats, first: int, t: int, m: Floats, at: int, count: int) -> None:
    for k in range(count):
        for lane in range(LANES):
            m[at + k * LANES + lane] = tape[first + k, t, lane]


@cache
def passes(width: int, hidden: int) -> tuple[Any, Any]:
    """The compiled (forward, backward) for a policy 22 → `width` → GRU `hidden` → 4; both widths multiples of eight."""
    fields = Fields(width, hidden)
    at = fields.first
    t_obs, t_embed, t_hidden, t_in, t_rec, t_act = (
        at["observation"], at["embed"], at["hidden"], at["input_gates"], at["hidden_gates"], at["action"],
    )  # fmt: skip
    total = fields.size
    # Memory of a block, in fields: what the dynamics use, then the policy's.
    OBS = _BLOCK // LANES
    EMBED = OBS + INPUT
    HID = EMBED + width
    GIN = HID + hidden
    GREC = GIN + 3 * hidden
    NEXT = GREC + 3 * hidden
    ACT = NEXT + hidden
    LAST = ACT + 8
    AIM = LAST + 16
    REACH = AIM + 4
    LEFT = REACH + 1
    PULL = LEFT + 8
    CARRY = PULL + 4
    COST = CARRY + hidden
    END = COST + 1
    # Weights of a group: forward, then their transposes for the way back.
    W1, B1 = 0, width * INPUT
    WI, BI = B1 + width, B1 + width + 3 * hidden * width
    WH, BH = BI + 3 * hidden, BI + 3 * hidden + 3 * hidden * hidden
    W2, B2 = BH + 3 * hidden, BH + 3 * hidden + 4 * hidden
    T1 = B2 + 4
    TI = T1 + INPUT * width
    TH = TI + width * 3 * hidden
    T2 = TH + hidden * 3 * hidden

    @njit(parallel=True, nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
    def forward(
        work, groups, weights, state, last, memory, reference, aim, reach, costs, dt, tape, out_last, out_memory, out_cost
    ):  # pragma: no cover
        h, per = float32(dt), len(work) // groups
        one, half = float32(1), float32(0.5)
        for block in prange(len(work)):
            m = np.zeros(END * LANES, np.float32)
            m[:_BLOCK] = work[block]
            w, rows, lanes = weights[block // per], tape[block], _lanes(work)
            for k in range(STATE):
                m[k * LANES : (k + 1) * LANES] = state[block, k]
            for k in range(ROTORS):
                m[(LAST + k) * LANES : (LAST + k + 1) * LANES] = last[block, k]
            for k in range(hidden):
                m[(HID + k) * LANES : (HID + k + 1) * LANES] = memory[block, k]
            m[REACH * LANES : (REACH + 1) * LANES] = reach[block]
            steps = rows.shape[1] - 1
            for t in range(steps):
                _keep(rows, 0, t, m, 0, STATE)
                _recall(reference[block], 0, t, m, (LAST + 8) * LANES, 6)
                for lane in range(lanes):
                    _observe(m, lane, OBS * LANES, LAST * LANES)
                _affine(m, lanes, OBS, INPUT, EMBED, width, w, W1, B1)
                for k in range(width):
                    for lane in range(lanes):
                        m[_at(EMBED * LANES, k, lane)] = max(m[_at(EMBED * LANES, k, lane)], float32(0))
                _affine(m, lanes, EMBED, width, GIN, 3 * hidden, w, WI, BI)
                _affine(m, lanes, HID, hidden, GREC, 3 * hidden, w, WH, BH)
                for k in range(hidden):
                    for lane in range(lanes):
                        r = _sigmoid(m[_at(GIN * LANES, k, lane)] + m[_at(GREC * LANES, k, lane)])
                        z = _sigmoid(m[_at((GIN + hidden) * LANES, k, lane)] + m[_at((GREC + hidden) * LANES, k, lane)])
                        rec = m[_at((GREC + 2 * hidden) * LANES, k, lane)]
                        n = _tanh(m[_at((GIN + 2 * hidden) * LANES, k, lane)] + r * rec)
                        m[_at(GIN * LANES, k, lane)] = r
                        m[_at((GIN + hidden) * LANES, k, lane)] = z
                        m[_at((GIN + 2 * hidden) * LANES, k, lane)] = n
                        m[_at(NEXT * LANES, k, lane)] = (one - z) * n + z * m[_at(HID * LANES, k, lane)]
                _affine(m, lanes, NEXT, hidden, ACT, 4, w, W2, B2)
                _keep(rows, t_obs, t, m, OBS * LANES, INPUT)
                _keep(rows, t_embed, t, m, EMBED * LANES, width)
                _keep(rows, t_hidden, t, m, HID * LANES, hidden)
                _keep(rows, t_in, t, m, GIN * LANES, 3 * hidden)
                _keep(rows, t_rec, t, m, GREC * LANES, 3 * hidden)
                _keep(rows, t_act, t, m, ACT * LANES, ROTORS)
                for k in range(ROTORS):
                    for lane in range(lanes):
                        m[_at(_SETPOINT, k, lane)] = half * (min(max(m[_at(ACT * LANES, k, lane)], -one), one) + one)
                m[HID * LANES : (HID + hidden) * LANES] = m[NEXT * LANES : (NEXT + hidden) * LANES]
                for lane in range(lanes):
                    _forward(m, lane, h)
                _recall(reference[block], 0, t + 1, m, (LAST + 8) * LANES, 6)
                _recall(aim[block], 0, t, m, AIM * LANES, ROTORS)
                for lane in range(lanes):
                    m[_at(COST * LANES, 0, lane)] += _cost(
                        m, lane, costs, ACT * LANES, LAST * LANES, AIM * LANES, REACH * LANES, -1, one
                    )
                for k in range(ROTORS):
                    for lane in range(lanes):
                        m[_at(LAST * LANES, k, lane)] = min(max(m[_at(ACT * LANES, k, lane)], -one), one)
            _keep(rows, 0, steps, m, 0, STATE)
            _keep(rows, t_hidden, steps, m, HID * LANES, hidden)
            out_cost[block] = m[COST * LANES : (COST + 1) * LANES]
            for k in range(ROTORS):
                out_last[block, k] = m[(LAST + k) * LANES : (LAST + k + 1) * LANES]
            for k in range(hidden):
                out_memory[block, k] = m[(HID + k) * LANES : (HID + k + 1) * LANES]

    @njit(parallel=True, nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
    def backward(
        work, groups, weights, first, reference, aim, reach, costs, dt, share, limit, tape, pull, out_memory
    ):  # pragma: no cover
        """`pull` ends as the adjoints of what each layer gave, of the sum of costs times `share`."""
        h, per, bound, part = float32(dt), len(work) // groups, float32(limit), float32(share)
        one, half, zero = float32(1), float32(0.5), float32(0)
        for block in prange(len(work)):
            m = np.zeros(END * LANES, np.float32)
            m[:_BLOCK] = work[block]
            w, rows, g, lanes = weights[block // per], tape[block], pull[block], _lanes(work)
            steps = rows.shape[1] - 1
            m[REACH * LANES : (REACH + 1) * LANES] = reach[block]
            _recall(rows, 0, steps, m, 0, STATE)
            for t in range(steps - 1, -1, -1):
                _recall(rows, t_act, t, m, ACT * LANES, ROTORS)
                if t:
                    _recall(rows, t_act, t - 1, m, LAST * LANES, ROTORS)
                else:
                    for k in range(ROTORS):
                        m[(LAST + k) * LANES : (LAST + k + 1) * LANES] = first[block, k]
                _recall(reference[block], 0, t + 1, m, (LAST + 8) * LANES, 6)
                _recall(aim[block], 0, t, m, AIM * LANES, ROTORS)
                for k in range(ROTORS):
                    for lane in range(lanes):
                        before = min(max(m[_at(LAST * LANES, k, lane)], -one), one)
                        m[_at(LAST * LANES, k, lane)] = before
                        m[_at(_SETPOINT, k, lane)] = half * (min(max(m[_at(ACT * LANES, k, lane)], -one), one) + one)
                for lane in range(lanes):
                    _cost(m, lane, costs, ACT * LANES, LAST * LANES, AIM * LANES, REACH * LANES, LEFT * LANES, part)
                    _bound(m, lane, bound)
                _recall(rows, 0, t, m, 0, STATE)
                for lane in range(lanes):
                    _backward(m, lane, h)
                for k in range(ROTORS):
                    for lane in range(lanes):
                        raw, slow = m[_at(ACT * LANES, k, lane)], m[_at((LEFT + 4) * LANES, k, lane)]
                        through = half * m[_at(_ADJOINT + STATE * LANES, k, lane)] + m[_at(PULL * LANES, k, lane)] + slow
                        inside = one if (raw > -one and raw < one) else zero
                        m[_at(LEFT * LANES, k, lane)] += inside * through
                        m[_at(PULL * LANES, k, lane)] = -slow
                        m[_at((LEFT + 4) * LANES, k, lane)] = zero
                _keep(g, t_act, t, m, LEFT * LANES, ROTORS)
                _affine(m, lanes, LEFT, 8, NEXT, hidden, w, T2, -1)
                _recall(rows, t_hidden, t, m, HID * LANES, hidden)
                _recall(rows, t_in, t, m, GIN * LANES, 3 * hidden)
                _recall(rows, t_rec + 2 * hidden, t, m, (GREC + 2 * hidden) * LANES, hidden)
                for k in range(hidden):
                    for lane in range(lanes):
                        d = m[_at(NEXT * LANES, k, lane)] + m[_at(CARRY * LANES, k, lane)]
                        r, z = m[_at(GIN * LANES, k, lane)], m[_at((GIN + hidden) * LANES, k, lane)]
                        n, rec = m[_at((GIN + 2 * hidden) * LANES, k, lane)], m[_at((GREC + 2 * hidden) * LANES, k, lane)]
                        dz = d * (m[_at(HID * LANES, k, lane)] - n) * z * (one - z)
                        dn = d * (one - z) * (one - n * n)
                        dr = dn * rec * r * (one - r)
                        m[_at(GIN * LANES, k, lane)] = dr
                        m[_at((GIN + hidden) * LANES, k, lane)] = dz
                        m[_at((GIN + 2 * hidden) * LANES, k, lane)] = dn
                        m[_at(GREC * LANES, k, lane)] = dr
                        m[_at((GREC + hidden) * LANES, k, lane)] = dz
                        m[_at((GREC + 2 * hidden) * LANES, k, lane)] = dn * r
                        m[_at(NEXT * LANES, k, lane)] = d * z
                _keep(g, t_in, t, m, GIN * LANES, 3 * hidden)
                _keep(g, t_rec, t, m, GREC * LANES, 3 * hidden)
                _affine(m, lanes, GREC, 3 * hidden, CARRY, hidden, w, TH, -1)
                for k in range(hidden):
                    for lane in range(lanes):
                        m[_at(CARRY * LANES, k, lane)] += m[_at(NEXT * LANES, k, lane)]
                _affine(m, lanes, GIN, 3 * hidden, EMBED, width, w, TI, -1)
                _recall(rows, t_embed, t, m, GREC * LANES, width)
                for k in range(width):
                    for lane in range(lanes):
                        e = m[_at(GREC * LANES, k, lane)]
                        m[_at(EMBED * LANES, k, lane)] = m[_at(EMBED * LANES, k, lane)] if e > zero else zero
                _keep(g, t_embed, t, m, EMBED * LANES, width)
                _affine(m, lanes, EMBED, width, OBS, INPUT, w, T1, -1)
                for lane in range(lanes):
                    _observe_back(m, lane, OBS * LANES)
                for k in range(ROTORS):
                    for lane in range(lanes):
                        m[_at(PULL * LANES, k, lane)] += m[_at((OBS + 18) * LANES, k, lane)]
            for k in range(hidden):
                out_memory[block, k] = m[(CARRY + k) * LANES : (CARRY + k + 1) * LANES]

    return forward, backward
