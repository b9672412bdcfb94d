"""The physics of a quadrotor against closed forms, conservation laws, and itself in double precision."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sim.quadrotor import dynamics, kernel, vehicle
from sim.quadrotor.dynamics import GRAVITY, CompiledStep, Params

DT = 0.01


@pytest.fixture
def params() -> Params:
    """Forty different vehicles in wind and under forces."""
    rng = torch.Generator().manual_seed(0)
    fleet = vehicle.stack([vehicle.load(name) for name in vehicle.names()] * 4)
    for name in ("force", "torque", "wind"):
        fleet[name] = (1e-4 if name == "torque" else 0.5) * torch.randn(fleet[name].shape, generator=rng)
    fleet["drag"] = 0.2 * fleet["mass"][:, None] * torch.rand(fleet["drag"].shape, generator=rng)
    return fleet


def states(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random states and set-points."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 17, generator=rng)
    x[:, 3:7] /= x[:, 3:7].norm(dim=1, keepdim=True)
    x[:, 13:] = torch.rand(count, 4, generator=rng)
    return x, torch.rand(count, 4, generator=rng)


def double(params: Params) -> Params:
    return {name: value.double() for name, value in params.items()}


def fly(params: Params, x: Tensor, u: Tensor, steps: int) -> Tensor:
    work = kernel.pack(dynamics.constants(params).numpy())
    for _ in range(steps):
        x = CompiledStep.apply(x, u, work, DT)
    return x


def test_the_compiled_step_is_that_of_torch_in_double_precision(params: Params) -> None:
    x, u = states(len(params["mass"]))
    ours = fly(params, x, u, 1)
    exact = dynamics.step(x.double(), u.double(), dynamics.constants(double(params)), DT)
    assert float(((ours - exact).abs() / (1 + exact.abs())).max()) < 1e-6


def test_the_compiled_gradient_is_that_of_autograd(params: Params) -> None:
    x, u = states(len(params["mass"]))
    pull = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    work = kernel.pack(dynamics.constants(params).numpy())
    a, b = x.clone().requires_grad_(), u.clone().requires_grad_()
    CompiledStep.apply(a, b, work, DT).backward(pull)
    c, d = x.double().requires_grad_(), u.double().requires_grad_()
    dynamics.step(c, d, dynamics.constants(double(params)), DT).backward(pull.double())
    for ours, exact in ((a.grad, c.grad), (b.grad, d.grad)):
        assert float(((ours - exact).abs() / (1 + exact.abs())).max()) < 1e-5


@pytest.mark.parametrize("count", [1, 15, 16, 17, 40])
def test_a_world_does_not_feel_the_others_to_the_last_bit(params: Params, count: int) -> None:
    x, u = states(len(params["mass"]))
    together = fly(params, x, u, 5)
    part = fly(vehicle.select(params, slice(count)), x[:count], u[:count], 5)
    assert torch.equal(part, together[:count])


def test_threads_change_no_bit(params: Params) -> None:
    x, u = states(len(params["mass"]))
    before = fly(params, x, u, 3)
    kernel.threads(1)
    try:
        assert torch.equal(fly(params, x, u, 3), before)
    finally:
        kernel.threads(0)


def test_four_rotors_at_hover_speed_stand_still() -> None:
    for name in vehicle.names():
        params = vehicle.load(name)
        m = vehicle.hover_speed(params)[:, None].expand(1, 4)
        x = torch.zeros(1, 17)
        x[:, 3], x[:, 13:] = 1, m
        moved = fly(params, x, m.contiguous(), 100)
        assert float(moved[:, :3].abs().max()) < 2e-4, name
        lift = float(4 * (params["thrust_coefficients"][0, 0] * torch.stack([torch.ones(1), m[0, :1], m[0, :1] ** 2], 1)).sum())
        assert lift == pytest.approx(float(params["mass"]) * GRAVITY, rel=1e-4)


def test_a_motor_follows_its_first_order_law() -> None:
    params = vehicle.load("crazyflie")
    x = torch.zeros(1, 17)
    x[:, 3] = 1
    u = torch.tensor([[1.0, 0.5, 0.0, 0.25]])
    x[:, 13:] = torch.tensor([[0.0, 0.0, 1.0, 0.75]])
    seconds = 0.3
    after = fly(params, x, u, round(seconds / DT))[0, 13:]
    rise, fall = math.exp(-seconds / float(params["rise"][0, 0])), math.exp(-seconds / float(params["fall"][0, 0]))
    expected = [1 - rise, 0.5 * (1 - rise), fall, 0.25 + 0.5 * fall]
    np.testing.assert_allclose(after.numpy(), expected, rtol=2e-4)


def test_free_fall_is_a_parabola_and_keeps_its_energy() -> None:
    params = vehicle.load("x500")
    params["thrust_coefficients"] = torch.zeros(1, 4, 3)
    x = torch.zeros(1, 17)
    x[:, 3], x[:, 7:10] = 1, torch.tensor([1.0, -2.0, 3.0])
    seconds = 1.0
    after = fly(params, x, torch.zeros(1, 4), 100)[0].double()
    np.testing.assert_allclose(after[:3].numpy(), [1.0, -2.0, 3.0 - GRAVITY / 2], atol=2e-5)
    energy = lambda s: 0.5 * float((s[7:10] ** 2).sum()) + GRAVITY * float(s[2])  # noqa: E731
    assert energy(after) == pytest.approx(energy(x[0].double()), abs=2e-4)
    assert seconds == 100 * DT


def test_a_tumbling_body_without_torque_keeps_angular_momentum_and_energy() -> None:
    params = vehicle.load("soft_rigid")
    params["thrust_coefficients"] = torch.zeros(1, 4, 3)
    x = torch.zeros(1, 17)
    x[:, 3], x[:, 10:13] = 1, torch.tensor([6.0, -2.0, 4.0])
    inertia = params["inertia"][0].double()

    def momentum(s: Tensor) -> np.ndarray:
        return (dynamics.rotation(s[3:7]) @ (inertia * s[10:13])).numpy()

    after = fly(params, x, torch.zeros(1, 4), 200)[0].double()
    np.testing.assert_allclose(momentum(after), momentum(x[0].double()), rtol=1e-3, atol=1e-6)
    spin = lambda s: float((inertia * s[10:13] ** 2).sum())  # noqa: E731
    assert spin(after) == pytest.approx(spin(x[0].double()), rel=1e-4)


def test_drag_ends_in_the_speed_of_the_wind() -> None:
    params = vehicle.load("x500")
    params["drag"], params["wind"] = torch.full((1, 3), 8.0), torch.tensor([[3.0, -1.0, 0.0]])
    m = vehicle.hover_speed(params)[:, None].expand(1, 4).contiguous()
    x = torch.zeros(1, 17)
    x[:, 3], x[:, 13:] = 1, m
    after = fly(params, x, m, 300)[0]
    np.testing.assert_allclose(after[7:10].numpy(), [3.0, -1.0, 0.0], atol=1e-2)


def test_rotors_turn_the_body_as_their_places_say() -> None:
    """More thrust on the left rolls right; more at the back pitches the nose down; the first rotor's drag yaws to the right."""
    params = vehicle.load("crazyflie")
    hover = float(vehicle.hover_speed(params))
    for faster, axis, sign in (((2, 3), 0, 1), ((1, 2), 1, 1), ((0, 2), 2, -1)):
        x = torch.zeros(1, 17)
        x[:, 3], x[:, 13:] = 1, hover
        u = x[:, 13:].clone()
        u[0, list(faster)] += 0.05
        after = fly(params, x, u, 5)[0, 10:13]
        assert sign * float(after[axis]) > 10 * float(after.abs().sum() - after[axis].abs()), axis
