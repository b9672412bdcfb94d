"""The compiled step of many quadrotors and its vector-Jacobian product.

Sixteen worlds, the lanes of a block, go through the same instructions side by side; a last block that is not full is padded
with copies of a world. So what a world does depends neither on the others nor on how many threads there are, to the last bit.
The equations are those of `sim.quadrotor.dynamics`, which says where they come from.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import float32, njit, prange
from numpy.typing import NDArray

LANES = 16
STATE = 17
"""Position 3, quaternion wxyz 4, velocity 3, body rates 3, rotor speeds 4."""
ROTORS = 4
CONSTANTS = 63
"""What a vehicle and its weather are: 1/mass, inertia 3, 1/inertia 3, force of the rotors 3x4, torque of the rotors 3x4, thrust
coefficients 4x3, 1/rise 4, 1/fall 4, drag 3, outer acceleration 3, outer torque 3, wind 3."""
_SETPOINT = STATE * LANES
_CONSTANT = (STATE + ROTORS) * LANES
_ADJOINT = (STATE + ROTORS + CONSTANTS) * LANES
_BLOCK = _ADJOINT + (STATE + ROTORS) * LANES

Floats = NDArray[np.float32]
Lane = Any
_MOST = numba.get_num_threads()
_inlined: Callable[..., Any] = njit(forceinline=True, error_model="numpy")


def pack(constants: Floats) -> Floats:
    """Working memory (blocks, fields * lanes) for constants (B, 63): worlds beside each other, the last block padded."""
    worlds = len(constants)
    blocks = -(-worlds // LANES)
    work = np.zeros((blocks, _BLOCK), np.float32)
    order = np.minimum(np.arange(blocks * LANES), worlds - 1).reshape(blocks, LANES)
    work[:, _CONSTANT:_ADJOINT] = constants[order].transpose(0, 2, 1).reshape(blocks, -1)
    return work


def fill(work: Floats, worlds: NDArray[np.int64], constants: Floats) -> None:
    """Give the `worlds` (K,) other constants (K, 63)."""
    fields = work.reshape(len(work), -1, LANES)
    first = _CONSTANT // LANES
    fields[worlds // LANES, first : first + CONSTANTS, worlds % LANES] = constants


@_inlined
def _at(first: int, k: int, lane: np.uint64) -> np.uint64:
    """Where lane `lane` of field `k` from `first` on is; unsigned, as a number that may be negative hinders vector code."""
    return np.uint64(first + k * LANES) + lane


@_inlined
def _constant(w: Floats, lane: np.uint64, k: int) -> Any:
    return w[_at(_CONSTANT, k, lane)]


@_inlined
def _thrust(w: Floats, lane: np.uint64, rotor: int, speed: float) -> float:
    c0, c1, c2 = (_constant(w, lane, 31 + 3 * rotor), _constant(w, lane, 32 + 3 * rotor), _constant(w, lane, 33 + 3 * rotor))
    return c0 + c1 * speed + c2 * speed * speed


@_inlined
def _allocate(w: Floats, lane: np.uint64, row: int, t: Lane) -> float:
    """Row of the allocation matrix, force 0 to 2, torque 3 to 5, times the thrusts."""
    k = 7 + 4 * row
    return (
        _constant(w, lane, k) * t[0] + _constant(w, lane, k + 1) * t[1]
        + _constant(w, lane, k + 2) * t[2] + _constant(w, lane, k + 3) * t[3]
    )  # fmt: skip


@_inlined
def _allocate_back(w: Floats, lane: np.uint64, rotor: int, force: Lane, torque: Lane) -> float:
    """Column of the allocation matrix times forces and torques."""
    k = 7 + rotor
    return (
        _constant(w, lane, k) * force[0] + _constant(w, lane, k + 4) * force[1] + _constant(w, lane, k + 8) * force[2]
        + _constant(w, lane, k + 12) * torque[0] + _constant(w, lane, k + 16) * torque[1] + _constant(w, lane, k + 20) * torque[2]
    )  # fmt: skip


@_inlined
def _matrix(x: Lane) -> Lane:
    """Rotation matrix of the quaternion in a state, row-major; between the stages of a step it need not be a unit one."""
    two, one = float32(2), float32(1)
    w, i, j, k = x[3], x[4], x[5], x[6]
    return (
        one - two * (j * j + k * k), two * (i * j - w * k), two * (i * k + w * j),
        two * (i * j + w * k), one - two * (i * i + k * k), two * (j * k - w * i),
        two * (i * k - w * j), two * (j * k + w * i), one - two * (i * i + j * j),
    )  # fmt: skip


@_inlined
def _rotate(r: Lane, v: Lane) -> Lane:
    return (
        r[0] * v[0] + r[1] * v[1] + r[2] * v[2],
        r[3] * v[0] + r[4] * v[1] + r[5] * v[2],
        r[6] * v[0] + r[7] * v[1] + r[8] * v[2],
    )


@_inlined
def _rotate_back(r: Lane, v: Lane) -> Lane:
    return (
        r[0] * v[0] + r[3] * v[1] + r[6] * v[2],
        r[1] * v[0] + r[4] * v[1] + r[7] * v[2],
        r[2] * v[0] + r[5] * v[1] + r[8] * v[2],
    )


@_inlined
def _spin(w: Floats, lane: np.uint64, rotor: int, setpoint: float, speed: float) -> float:
    """Rate at which a rotor follows its set-point [1/s]."""
    rise, fall = _constant(w, lane, 43 + rotor), _constant(w, lane, 47 + rotor)
    return rise if setpoint >= speed else fall


@_inlined
def _body_force(w: Floats, lane: np.uint64, x: Lane, r: Lane, t: Lane) -> tuple[Lane, Lane]:
    """Force of rotors and drag in the body frame, and the air's velocity relative to the body in the world frame, negated."""
    air = (x[7] - _constant(w, lane, 60), x[8] - _constant(w, lane, 61), x[9] - _constant(w, lane, 62))
    b = _rotate_back(r, air)
    force = (
        _allocate(w, lane, 0, t) - _constant(w, lane, 51) * b[0],
        _allocate(w, lane, 1, t) - _constant(w, lane, 52) * b[1],
        _allocate(w, lane, 2, t) - _constant(w, lane, 53) * b[2],
    )
    return force, air


@_inlined
def _derivative(w: Floats, lane: np.uint64, x: Lane, u: Lane) -> Lane:
    half = float32(0.5)
    p, q, s = x[10], x[11], x[12]
    t = (
        _thrust(w, lane, 0, x[13]), _thrust(w, lane, 1, x[14]), _thrust(w, lane, 2, x[15]), _thrust(w, lane, 3, x[16]),
    )  # fmt: skip
    r = _matrix(x)
    force, _ = _body_force(w, lane, x, r, t)
    a = _rotate(r, force)
    m = _constant(w, lane, 0)
    j0, j1, j2 = _constant(w, lane, 1), _constant(w, lane, 2), _constant(w, lane, 3)
    return (
        x[7], x[8], x[9],
        half * (-x[4] * p - x[5] * q - x[6] * s),
        half * (x[3] * p + x[5] * s - x[6] * q),
        half * (x[3] * q - x[4] * s + x[6] * p),
        half * (x[3] * s + x[4] * q - x[5] * p),
        a[0] * m + _constant(w, lane, 54), a[1] * m + _constant(w, lane, 55), a[2] * m + _constant(w, lane, 56),
        _constant(w, lane, 4) * (_allocate(w, lane, 3, t) + _constant(w, lane, 57) - (j2 - j1) * q * s),
        _constant(w, lane, 5) * (_allocate(w, lane, 4, t) + _constant(w, lane, 58) - (j0 - j2) * s * p),
        _constant(w, lane, 6) * (_allocate(w, lane, 5, t) + _constant(w, lane, 59) - (j1 - j0) * p * q),
        _spin(w, lane, 0, u[0], x[13]) * (u[0] - x[13]), _spin(w, lane, 1, u[1], x[14]) * (u[1] - x[14]),
        _spin(w, lane, 2, u[2], x[15]) * (u[2] - x[15]), _spin(w, lane, 3, u[3], x[16]) * (u[3] - x[16]),
    )  # fmt: skip


@_inlined
def _derivative_back(w: Floats, lane: np.uint64, x: Lane, u: Lane, g: Lane) -> Lane:
    """Cotangents of the state (17) and of the set-points (4) from those of the derivative (17)."""
    half, two = float32(0.5), float32(2)
    p, q, s = x[10], x[11], x[12]
    t = (
        _thrust(w, lane, 0, x[13]), _thrust(w, lane, 1, x[14]), _thrust(w, lane, 2, x[15]), _thrust(w, lane, 3, x[16]),
    )  # fmt: skip
    r = _matrix(x)
    force, air = _body_force(w, lane, x, r, t)
    m = _constant(w, lane, 0)
    a = (m * g[7], m * g[8], m * g[9])
    b = _rotate_back(r, a)
    d = (-_constant(w, lane, 51) * b[0], -_constant(w, lane, 52) * b[1], -_constant(w, lane, 53) * b[2])
    v = _rotate(r, d)
    g00, g01, g02 = a[0] * force[0] + air[0] * d[0], a[0] * force[1] + air[0] * d[1], a[0] * force[2] + air[0] * d[2]
    g10, g11, g12 = a[1] * force[0] + air[1] * d[0], a[1] * force[1] + air[1] * d[1], a[1] * force[2] + air[1] * d[2]
    g20, g21, g22 = a[2] * force[0] + air[2] * d[0], a[2] * force[1] + air[2] * d[1], a[2] * force[2] + air[2] * d[2]
    qw, qx, qy, qz = x[3], x[4], x[5], x[6]
    h = (_constant(w, lane, 4) * g[10], _constant(w, lane, 5) * g[11], _constant(w, lane, 6) * g[12])
    j0, j1, j2 = _constant(w, lane, 1), _constant(w, lane, 2), _constant(w, lane, 3)
    k0, k1 = _spin(w, lane, 0, u[0], x[13]) * g[13], _spin(w, lane, 1, u[1], x[14]) * g[14]
    k2, k3 = _spin(w, lane, 2, u[2], x[15]) * g[15], _spin(w, lane, 3, u[3], x[16]) * g[16]
    s0 = _constant(w, lane, 32) + two * _constant(w, lane, 33) * x[13]
    s1 = _constant(w, lane, 35) + two * _constant(w, lane, 36) * x[14]
    s2 = _constant(w, lane, 38) + two * _constant(w, lane, 39) * x[15]
    s3 = _constant(w, lane, 41) + two * _constant(w, lane, 42) * x[16]
    zero = float32(0)
    return (
        zero, zero, zero,
        two * (-qz * g01 + qy * g02 + qz * g10 - qx * g12 - qy * g20 + qx * g21) + half * (g[4] * p + g[5] * q + g[6] * s),
        two * (qy * g01 + qz * g02 + qy * g10 - two * qx * g11 - qw * g12 + qz * g20 + qw * g21 - two * qx * g22)
        + half * (-g[3] * p + g[6] * q - g[5] * s),
        two * (-two * qy * g00 + qx * g01 + qw * g02 + qx * g10 + qz * g12 - qw * g20 + qz * g21 - two * qy * g22)
        + half * (-g[3] * q + g[4] * s - g[6] * p),
        two * (-two * qz * g00 - qw * g01 + qx * g02 + qw * g10 - two * qz * g11 + qy * g12 + qx * g20 + qy * g21)
        + half * (-g[3] * s - g[4] * q + g[5] * p),
        g[0] + v[0], g[1] + v[1], g[2] + v[2],
        half * (-g[3] * qx + g[4] * qw + g[5] * qz - g[6] * qy) - h[1] * (j0 - j2) * s - h[2] * (j1 - j0) * q,
        half * (-g[3] * qy - g[4] * qz + g[5] * qw + g[6] * qx) - h[0] * (j2 - j1) * s - h[2] * (j1 - j0) * p,
        half * (-g[3] * qz + g[4] * qy - g[5] * qx + g[6] * qw) - h[0] * (j2 - j1) * q - h[1] * (j0 - j2) * p,
        _allocate_back(w, lane, 0, b, h) * s0 - k0, _allocate_back(w, lane, 1, b, h) * s1 - k1,
        _allocate_back(w, lane, 2, b, h) * s2 - k2, _allocate_back(w, lane, 3, b, h) * s3 - k3,
        k0, k1, k2, k3,
    )  # fmt: skip


@_inlined
def _ahead(x: Lane, k: Lane, h: float) -> Lane:
    """x + h k."""
    return (
        x[0] + h * k[0], x[1] + h * k[1], x[2] + h * k[2], x[3] + h * k[3], x[4] + h * k[4], x[5] + h * k[5],
        x[6] + h * k[6], x[7] + h * k[7], x[8] + h * k[8], x[9] + h * k[9], x[10] + h * k[10], x[11] + h * k[11],
        x[12] + h * k[12], x[13] + h * k[13], x[14] + h * k[14], x[15] + h * k[15], x[16] + h * k[16],
    )  # fmt: skip


@_inlined
def _scaled(x: Lane, h: float) -> Lane:
    return (
        h * x[0], h * x[1], h * x[2], h * x[3], h * x[4], h * x[5], h * x[6], h * x[7], h * x[8], h * x[9], h * x[10],
        h * x[11], h * x[12], h * x[13], h * x[14], h * x[15], h * x[16],
    )  # fmt: skip


@_inlined
def _state(w: Floats, at: int, lane: np.uint64) -> Lane:
    return (
        w[_at(at, 0, lane)], w[_at(at, 1, lane)], w[_at(at, 2, lane)], w[_at(at, 3, lane)], w[_at(at, 4, lane)],
        w[_at(at, 5, lane)], w[_at(at, 6, lane)], w[_at(at, 7, lane)], w[_at(at, 8, lane)], w[_at(at, 9, lane)],
        w[_at(at, 10, lane)], w[_at(at, 11, lane)], w[_at(at, 12, lane)], w[_at(at, 13, lane)], w[_at(at, 14, lane)],
        w[_at(at, 15, lane)], w[_at(at, 16, lane)],
    )  # fmt: skip


@_inlined
def _store(w: Floats, at: int, lane: np.uint64, x: Lane) -> None:
    w[_at(at, 0, lane)], w[_at(at, 1, lane)], w[_at(at, 2, lane)], w[_at(at, 3, lane)] = x[0], x[1], x[2], x[3]
    w[_at(at, 4, lane)], w[_at(at, 5, lane)], w[_at(at, 6, lane)], w[_at(at, 7, lane)] = x[4], x[5], x[6], x[7]
    w[_at(at, 8, lane)], w[_at(at, 9, lane)], w[_at(at, 10, lane)], w[_at(at, 11, lane)] = x[8], x[9], x[10], x[11]
    w[_at(at, 12, lane)], w[_at(at, 13, lane)], w[_at(at, 14, lane)], w[_at(at, 15, lane)] = x[12], x[13], x[14], x[15]
    w[_at(at, 16, lane)] = x[16]


@_inlined
def _setpoint(w: Floats, lane: np.uint64) -> Lane:
    at = _SETPOINT
    return (w[_at(at, 0, lane)], w[_at(at, 1, lane)], w[_at(at, 2, lane)], w[_at(at, 3, lane)])


@_inlined
def _forward(w: Floats, lane: np.uint64, dt: float) -> None:
    """Runge-Kutta of fourth order, then the quaternion brought back to unit length and rotor speeds to [0, 1]."""
    x, u = _state(w, 0, lane), _setpoint(w, lane)
    half, sixth, third = dt * float32(0.5), dt * float32(1 / 6), dt * float32(1 / 3)
    k = _derivative(w, lane, x, u)
    y = _ahead(x, k, sixth)
    k = _derivative(w, lane, _ahead(x, k, half), u)
    y = _ahead(y, k, third)
    k = _derivative(w, lane, _ahead(x, k, half), u)
    y = _ahead(y, k, third)
    k = _derivative(w, lane, _ahead(x, k, dt), u)
    y = _ahead(y, k, sixth)
    n = float32(1) / np.sqrt(y[3] * y[3] + y[4] * y[4] + y[5] * y[5] + y[6] * y[6])
    zero, one = float32(0), float32(1)
    _store(w, 0, lane, (
        y[0], y[1], y[2], y[3] * n, y[4] * n, y[5] * n, y[6] * n, y[7], y[8], y[9], y[10], y[11], y[12],
        min(max(y[13], zero), one), min(max(y[14], zero), one), min(max(y[15], zero), one), min(max(y[16], zero), one),
    ))  # fmt: skip


@_inlined
def _backward(w: Floats, lane: np.uint64, dt: float) -> None:
    """From the cotangent of the next state to those of this state and of the set-points, in place."""
    x, u = _state(w, 0, lane), _setpoint(w, lane)
    half, sixth, third = dt * float32(0.5), dt * float32(1 / 6), dt * float32(1 / 3)
    a = _derivative(w, lane, x, u)
    x2 = _ahead(x, a, half)
    b = _derivative(w, lane, x2, u)
    x3 = _ahead(x, b, half)
    c = _derivative(w, lane, x3, u)
    x4 = _ahead(x, c, dt)
    y = _ahead(_ahead(_ahead(_ahead(x, a, sixth), b, third), c, third), _derivative(w, lane, x4, u), sixth)
    g = _state(w, _ADJOINT, lane)
    n = float32(1) / np.sqrt(y[3] * y[3] + y[4] * y[4] + y[5] * y[5] + y[6] * y[6])
    along = n * n * (y[3] * g[3] + y[4] * g[4] + y[5] * g[5] + y[6] * g[6])
    g = (
        g[0], g[1], g[2], n * (g[3] - y[3] * along), n * (g[4] - y[4] * along), n * (g[5] - y[5] * along),
        n * (g[6] - y[6] * along), g[7], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15], g[16],
    )  # fmt: skip
    d4 = _derivative_back(w, lane, x4, u, _scaled(g, sixth))
    d3 = _derivative_back(w, lane, x3, u, _ahead(_scaled(g, third), d4[:17], dt))
    d2 = _derivative_back(w, lane, x2, u, _ahead(_scaled(g, third), d3[:17], half))
    d1 = _derivative_back(w, lane, x, u, _ahead(_scaled(g, sixth), d2[:17], half))
    one = float32(1)
    total = _ahead(_ahead(_ahead(_ahead(g, d4[:17], one), d3[:17], one), d2[:17], one), d1[:17], one)
    _store(w, _ADJOINT, lane, total)
    at = _ADJOINT + STATE * LANES
    w[_at(at, 0, lane)], w[_at(at, 1, lane)] = d4[17] + d3[17] + d2[17] + d1[17], d4[18] + d3[18] + d2[18] + d1[18]
    w[_at(at, 2, lane)], w[_at(at, 3, lane)] = d4[19] + d3[19] + d2[19] + d1[19], d4[20] + d3[20] + d2[20] + d1[20]


@_inlined
def _lanes(work: Floats) -> np.uint64:
    """LANES, as a number that the compiler does not know and that is not negative: the loop over it becomes vector code."""
    return np.uint64(work.shape[1] // (_BLOCK // LANES))


@_inlined
def _read(w: Floats, at: int, values: Floats, first: int) -> None:
    """Rows `first` to first + 16 of values (B, F) into the lanes, the last row where there are no more."""
    last = len(values) - 1
    for lane in range(LANES):
        row = min(first + lane, last)
        for k in range(values.shape[1]):
            w[at + k * LANES + lane] = values[row, k]


@_inlined
def _write(w: Floats, at: int, values: Floats, first: int) -> None:
    for lane in range(min(LANES, len(values) - first)):
        for k in range(values.shape[1]):
            values[first + lane, k] = w[at + k * LANES + lane]


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def step(work: Floats, state: Floats, setpoint: Floats, dt: float, substeps: int, out: Floats) -> None:
    """The state after `substeps` steps of `dt` [s] with one set-point.

    Args:
        work: from `pack`, changed.
        state: (B, 17).
        setpoint: rotor speeds asked for, (B, 4), in [0, 1].
        out: the next state (B, 17), written; may be `state` itself.
    """
    h = float32(dt)
    for block in prange(len(work)):
        w = work[block]
        _read(w, 0, state, block * LANES)
        _read(w, _SETPOINT, setpoint, block * LANES)
        for _ in range(substeps):
            for lane in range(_lanes(work)):
                _forward(w, lane, h)
        _write(w, 0, out, block * LANES)


@njit(parallel=True, nogil=True, cache=True, error_model="numpy")
def backward(
    work: Floats, state: Floats, setpoint: Floats, dt: float, cotangent: Floats, out_state: Floats, out_setpoint: Floats
) -> None:
    """Cotangents of `state` (B, 17) and `setpoint` (B, 4) from that of the state one step later, (B, 17)."""
    h = float32(dt)
    for block in prange(len(work)):
        w = work[block]
        _read(w, 0, state, block * LANES)
        _read(w, _SETPOINT, setpoint, block * LANES)
        _read(w, _ADJOINT, cotangent, block * LANES)
        for lane in range(_lanes(work)):
            _backward(w, lane, h)
        _write(w, _ADJOINT, out_state, block * LANES)
        _write(w, _ADJOINT + STATE * LANES, out_setpoint, block * LANES)


def threads(count: int) -> None:
    """Threads of the kernels in this process, 0 for all."""
    numba.set_num_threads(min(count or _MOST, _MOST))
