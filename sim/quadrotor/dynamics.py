"""Rigid body with four first-order motors: the equations in torch, for any device and for gradients, and the compiled step.

State x (B, 17): position_w 3 [m], quaternion wxyz 4, velocity_w 3 [m/s], body rates_b 3 [rad/s], rotor speeds 4 in [0, 1].
Set-points u (B, 4): the speeds that the motors are asked for, in [0, 1]. With R the rotation matrix of the quaternion q:

    p' = v        q' = q (0, w) / 2        m_i' = (u_i - m_i) / (rise if u_i >= m_i else fall)
    v' = R (sum_i d_i T(m_i) - D R^T (v - wind)) / mass + force / mass + gravity           T(m) = c0 + c1 m + c2 m^2
    w' = J^-1 (sum_i (r_i x d_i + k_i d_i) T(m_i) + torque - w x J w)

integrated by Runge-Kutta of fourth order (the model of Learning to Fly in Seconds, arXiv 2311.13081, section III, with
rotor drag as in Faessler et al., RA-L 2018).
"""

import torch
from torch import Tensor

from sim.quadrotor import kernel

GRAVITY = 9.81
Params = dict[str, Tensor]
STATE, ROTORS = kernel.STATE, kernel.ROTORS


def constants(params: Params) -> Tensor:
    """The numbers that the equations use, (B, 63), in the kernel's order; params as in `sim.quadrotor.vehicle`."""
    mass, inertia, directions = params["mass"][:, None], params["inertia"], params["rotor_directions"]
    arms = torch.linalg.cross(params["rotor_positions"], directions)
    torque = arms + params["torque_constants"][..., None] * directions
    gravity = torch.tensor([0.0, 0.0, -GRAVITY], dtype=mass.dtype, device=mass.device)
    return torch.cat(
        [
            1 / mass, inertia, 1 / inertia, directions.mT.flatten(1), torque.mT.flatten(1),
            params["thrust_coefficients"].flatten(1), 1 / params["rise"], 1 / params["fall"], params["drag"],
            params["force"] / mass + gravity, params["torque"], params["wind"],
        ],
        dim=1,
    )  # fmt: skip


def rotation(q: Tensor) -> Tensor:
    """Rotation matrix (..., 3, 3) of quaternions wxyz (..., 4)."""
    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def derivative(x: Tensor, u: Tensor, c: Tensor) -> Tensor:
    """x' (B, 17) of states x (B, 17) with set-points u (B, 4) and constants c (B, 63)."""
    inverse_mass, inertia, inverse_inertia, force, torque, thrust, rise, fall, drag, outer, outer_torque, wind = c.split(
        [1, 3, 3, 12, 12, 12, 4, 4, 3, 3, 3, 3], dim=1
    )
    _, q, v, w, m = x.split([3, 4, 3, 3, 4], dim=1)
    powers = torch.stack([torch.ones_like(m), m, m * m], dim=-1)
    thrusts = (thrust.unflatten(1, (4, 3)) * powers).sum(-1, keepdim=True)
    matrix = rotation(q)
    air = matrix.mT @ (v - wind)[..., None]
    body = (force.unflatten(1, (3, 4)) @ thrusts) - drag[..., None] * air
    acceleration = (matrix @ body)[..., 0] * inverse_mass + outer
    moment = (torque.unflatten(1, (3, 4)) @ thrusts)[..., 0] + outer_torque
    spin = inverse_inertia * (moment - torch.linalg.cross(w, inertia * w))
    scalar, vector = q[:, :1], q[:, 1:]
    turn = torch.cat([-(vector * w).sum(1, keepdim=True), scalar * w + torch.linalg.cross(vector, w)], dim=1) / 2
    return torch.cat([v, turn, acceleration, spin, torch.where(u >= m, rise, fall) * (u - m)], dim=1)


def step(x: Tensor, u: Tensor, c: Tensor, dt: float) -> Tensor:
    """The state (B, 17) a time dt [s] later, in torch."""
    a = derivative(x, u, c)
    b = derivative(x + dt / 2 * a, u, c)
    e = derivative(x + dt / 2 * b, u, c)
    f = derivative(x + dt * e, u, c)
    p, q, v, m = (x + dt / 6 * (a + 2 * b + 2 * e + f)).split([3, 4, 6, 4], dim=1)
    return torch.cat([p, q / q.norm(dim=1, keepdim=True), v, m.clamp(0, 1)], dim=1)


class CompiledStep(torch.autograd.Function):
    """`step` on the CPU by the compiled kernel, with its gradient with respect to state and set-points."""

    @staticmethod
    def forward(ctx, x: Tensor, u: Tensor, work, dt: float) -> Tensor:
        out = torch.empty_like(x)
        kernel.step(work, x.detach().numpy(), u.detach().numpy(), dt, 1, out.numpy())
        ctx.save_for_backward(x, u)
        ctx.work, ctx.dt = work, dt
        return out

    @staticmethod
    def backward(ctx, g: Tensor):
        x, u = ctx.saved_tensors
        gx, gu = torch.empty_like(x), torch.empty_like(u)
        kernel.backward(ctx.work, x.numpy(), u.numpy(), ctx.dt, g.contiguous().numpy(), gx.numpy(), gu.numpy())
        return gx, gu, None, None
