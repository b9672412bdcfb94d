"""Layers of a small policy over the lanes of `sim.quadrotor.kernel`, forward and back."""

from typing import Any

import numpy as np
from numba import float32, njit

from sim.quadrotor.kernel import LANES, Floats, _at

_fast: Any = njit(forceinline=True, error_model="numpy", fastmath={"contract", "nsz"})


@_fast
def tanh(x: Any) -> Any:
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
def sigmoid(x: float) -> float:
    half = float32(0.5)
    return half * tanh(half * x) + half


@_fast
def affine(
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


@_fast
def rectify(m: Floats, lanes: np.uint64, field: int, count: int) -> None:
    """ReLU in place."""
    for k in range(count):
        for lane in range(lanes):
            m[_at(field * LANES, k, lane)] = max(m[_at(field * LANES, k, lane)], float32(0))


@_fast
def rectify_back(m: Floats, lanes: np.uint64, field: int, value: int, count: int) -> None:
    """Keep the cotangents at `field` where the values at `value` are positive."""
    zero = float32(0)
    for k in range(count):
        for lane in range(lanes):
            g, e = m[_at(field * LANES, k, lane)], m[_at(value * LANES, k, lane)]
            m[_at(field * LANES, k, lane)] = g if e > zero else zero


@_fast
def gru(m: Floats, lanes: np.uint64, inner: int, outer: int, before: int, after: int, count: int) -> None:
    """New state from the gates' input parts (r, z, n) at `inner`, which r, z, n replace, and their hidden parts at `outer`."""
    one = float32(1)
    for k in range(count):
        for lane in range(lanes):
            r = sigmoid(m[_at(inner * LANES, k, lane)] + m[_at(outer * LANES, k, lane)])
            z = sigmoid(m[_at((inner + count) * LANES, k, lane)] + m[_at((outer + count) * LANES, k, lane)])
            n = tanh(m[_at((inner + 2 * count) * LANES, k, lane)] + r * m[_at((outer + 2 * count) * LANES, k, lane)])
            m[_at(inner * LANES, k, lane)] = r
            m[_at((inner + count) * LANES, k, lane)] = z
            m[_at((inner + 2 * count) * LANES, k, lane)] = n
            m[_at(after * LANES, k, lane)] = (one - z) * n + z * m[_at(before * LANES, k, lane)]


@_fast
def gru_back(m: Floats, lanes: np.uint64, inner: int, outer: int, before: int, after: int, carry: int, count: int) -> None:
    """Cotangents of the gates' parts in place of r, z, n and of the hidden parts; `after` ends as that of the old state, in part.

    The cotangent of the new state is the sum of those at `after` and `carry`.
    """
    one = float32(1)
    for k in range(count):
        for lane in range(lanes):
            d = m[_at(after * LANES, k, lane)] + m[_at(carry * LANES, k, lane)]
            r, z = m[_at(inner * LANES, k, lane)], m[_at((inner + count) * LANES, k, lane)]
            n, rec = m[_at((inner + 2 * count) * LANES, k, lane)], m[_at((outer + 2 * count) * LANES, k, lane)]
            dz = d * (m[_at(before * LANES, k, lane)] - n) * z * (one - z)
            dn = d * (one - z) * (one - n * n)
            dr = dn * rec * r * (one - r)
            m[_at(inner * LANES, k, lane)] = m[_at(outer * LANES, k, lane)] = dr
            m[_at((inner + count) * LANES, k, lane)] = m[_at((outer + count) * LANES, k, lane)] = dz
            m[_at((inner + 2 * count) * LANES, k, lane)] = dn
            m[_at((outer + 2 * count) * LANES, k, lane)] = dn * r
            m[_at(after * LANES, k, lane)] = d * z


@_fast
def accumulate(m: Floats, lanes: np.uint64, source: int, target: int, count: int) -> None:
    """target += source."""
    for k in range(count):
        for lane in range(lanes):
            m[_at(target * LANES, k, lane)] += m[_at(source * LANES, k, lane)]
