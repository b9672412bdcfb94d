"""What a moment of flight costs, and what a policy sees of it, each with its way back; lanes as in `sim.quadrotor.kernel`."""

import numpy as np
from numba import float32

from sim.quadrotor.kernel import _ADJOINT, Floats, _at, _inlined

COSTS, IMITATION = 15, 12
"""Weights of a step, and the place of imitation among them: position and its rounding [m], velocity and its knee [m/s], rate
and its knee [rad/s], yaw, action change, speed beyond a limit [m/s] and that limit, position beyond four fifths of the reach,
command beyond its range, imitation, knee of the speed [m/s] and of the position beyond [m]. What has a knee grows like a square
below it and in proportion above."""


@_inlined
def _moment(m: Floats, lane: np.uint64, last: int, reach: int, c: Floats) -> tuple:
    """Position and velocity errors, body rates, velocity and position errors beyond their limits, three each."""
    zero, edge = float32(0), float32(0.8) * m[_at(reach, 0, lane)]
    p = (
        m[_at(0, 0, lane)] - m[_at(last, 8, lane)], m[_at(0, 1, lane)] - m[_at(last, 9, lane)],
        m[_at(0, 2, lane)] - m[_at(last, 10, lane)],
    )  # fmt: skip
    e = (
        m[_at(0, 7, lane)] - m[_at(last, 11, lane)], m[_at(0, 8, lane)] - m[_at(last, 12, lane)],
        m[_at(0, 9, lane)] - m[_at(last, 13, lane)],
    )  # fmt: skip
    w = (m[_at(0, 10, lane)], m[_at(0, 11, lane)], m[_at(0, 12, lane)])
    s = (_beyond(e[0], c[9], zero), _beyond(e[1], c[9], zero), _beyond(e[2], c[9], zero))
    r = (_beyond(p[0], edge, zero), _beyond(p[1], edge, zero), _beyond(p[2], edge, zero))
    return p, e, w, s, r


@_inlined
def _beyond(x: float, limit: float, zero: float) -> float:
    """How far x is outside [-limit, limit], with its sign."""
    return max(x - limit, zero) - max(-x - limit, zero)


@_inlined
def _square(x: tuple) -> float:
    return x[0] * x[0] + x[1] * x[1] + x[2] * x[2]


@_inlined
def _root(x: tuple, knee: float) -> float:
    """sqrt(1 + |x|^2 / knee^2), of which pseudo-Huber costs are made."""
    return np.sqrt(float32(1) + _square(x) / (knee * knee))


@_inlined
def _commands(m: Floats, lane: np.uint64, act: int, last: int) -> tuple:
    """Change of the clipped command, and what is clipped off, four each."""
    one = float32(1)
    a0, a1, a2, a3 = m[_at(act, 0, lane)], m[_at(act, 1, lane)], m[_at(act, 2, lane)], m[_at(act, 3, lane)]
    b0, b1 = min(max(a0, -one), one), min(max(a1, -one), one)
    b2, b3 = min(max(a2, -one), one), min(max(a3, -one), one)
    d = (
        b0 - m[_at(last, 0, lane)], b1 - m[_at(last, 1, lane)], b2 - m[_at(last, 2, lane)], b3 - m[_at(last, 3, lane)],
    )  # fmt: skip
    return d, (a0 - b0, a1 - b1, a2 - b2, a3 - b3)


@_inlined
def _change(d: tuple) -> float:
    return np.sqrt(_square(d) + d[3] * d[3] + float32(1e-4))


@_inlined
def cost(m: Floats, lane: np.uint64, c: Floats, act: int, last: int, reach: int) -> float:
    """What the moment costs that a command led to, but for imitation.

    Fields: the unclipped command at `act`, the action before it at `last` (the reference at + 8).
    """
    one = float32(1)
    p, e, w, s, r = _moment(m, lane, last, reach, c)
    d, o = _commands(m, lane, act, last)
    z = m[_at(0, 6, lane)]
    total = c[0] * np.sqrt(_square(p) + c[1] * c[1]) + c[2] * c[3] * c[3] * (_root(e, c[3]) - one)
    total += c[4] * c[5] * c[5] * (_root(w, c[5]) - one) + c[6] * z * z + c[7] * _change(d)
    total += c[8] * c[13] * c[13] * (_root(s, c[13]) - one) + c[10] * c[14] * c[14] * (_root(r, c[14]) - one)
    return total + c[11] * (_square(o) + o[3] * o[3])


@_inlined
def cost_back(m: Floats, lane: np.uint64, c: Floats, act: int, last: int, aim: int, reach: int, to: int, share: float) -> None:
    """Add the gradient of `share` times the cost to the state's adjoint; write those of the command and its change to `to`.

    Imitation of the command at `aim` is part of it.
    """
    g, two = _ADJOINT, float32(2)
    p, e, w, s, r = _moment(m, lane, last, reach, c)
    d, o = _commands(m, lane, act, last)
    i = (
        m[_at(act, 0, lane)] - m[_at(aim, 0, lane)], m[_at(act, 1, lane)] - m[_at(aim, 1, lane)],
        m[_at(act, 2, lane)] - m[_at(aim, 2, lane)], m[_at(act, 3, lane)] - m[_at(aim, 3, lane)],
    )  # fmt: skip
    k, x, y = share * c[0] / np.sqrt(_square(p) + c[1] * c[1]), share * c[10] / _root(r, c[14]), share * c[8] / _root(s, c[13])
    m[_at(g, 0, lane)] += k * p[0] + x * r[0]
    m[_at(g, 1, lane)] += k * p[1] + x * r[1]
    m[_at(g, 2, lane)] += k * p[2] + x * r[2]
    m[_at(g, 6, lane)] += two * share * c[6] * m[_at(0, 6, lane)]
    k = share * c[2] / _root(e, c[3])
    m[_at(g, 7, lane)] += k * e[0] + y * s[0]
    m[_at(g, 8, lane)] += k * e[1] + y * s[1]
    m[_at(g, 9, lane)] += k * e[2] + y * s[2]
    k = share * c[4] / _root(w, c[5])
    m[_at(g, 10, lane)] += k * w[0]
    m[_at(g, 11, lane)] += k * w[1]
    m[_at(g, 12, lane)] += k * w[2]
    k, x, y = share * c[7] / _change(d), two * share * c[11], two * share * c[12]
    m[_at(to, 0, lane)], m[_at(to, 1, lane)] = x * o[0] + y * i[0], x * o[1] + y * i[1]
    m[_at(to, 2, lane)], m[_at(to, 3, lane)] = x * o[2] + y * i[2], x * o[3] + y * i[3]
    m[_at(to, 4, lane)], m[_at(to, 5, lane)], m[_at(to, 6, lane)], m[_at(to, 7, lane)] = k * d[0], k * d[1], k * d[2], k * d[3]


@_inlined
def observe(m: Floats, lane: np.uint64, at: int, last: int) -> None:
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
def observe_back(m: Floats, lane: np.uint64, at: int) -> None:
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


@_inlined
def bound(m: Floats, lane: np.uint64, limit: float) -> None:
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
