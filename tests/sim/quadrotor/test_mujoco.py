"""Our quadrotor against MuJoCo's rigid body: same commands, same flight; and a policy that flies one flies the other.

MuJoCo holds actuator forces over a step of h, so it is given each motor's thrust at the middle of the step, where the speed
is known in closed form: its own error is of order h^2. Ours is Runge-Kutta of fourth order in the control period of 10 ms.
"""

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

import sim.gym
from policies.onnx import OnnxConfig, OnnxPolicy
from robot.core.config import build
from robot.core.errors import ConfigError
from robot.core.paths import PRETRAINED
from sim.quadrotor import dynamics, kernel, vehicle
from sim.quadrotor.dynamics import CompiledStep, Params
from sim.quadrotor.mjcf import mjcf

DT = 0.01
STEPS = 120


class Twin:
    """One vehicle in MuJoCo with our motors: first order, another time constant up and down."""

    def __init__(self, params: Params, state: Tensor, h: float) -> None:
        self.model = mujoco.MjModel.from_xml_string(mjcf(params, h))
        self.data = mujoco.MjData(self.model)
        self.h, x = h, state.double().numpy()
        self.data.qpos[:], self.data.qvel[:], self.speed = x[:7], x[7:13], x[13:].copy()
        self.rise, self.fall = params["rise"][0].double().numpy(), params["fall"][0].double().numpy()
        self.thrust = params["thrust_coefficients"][0].double().numpy()

    def advance(self, setpoint: np.ndarray) -> Tensor:
        """The state (17,) a control period later."""
        tau = np.where(setpoint >= self.speed, self.rise, self.fall)
        for _ in range(round(DT / self.h)):
            middle, after = (setpoint + (self.speed - setpoint) * np.exp(-t / tau) for t in (self.h / 2, self.h))
            self.data.ctrl[:] = (self.thrust * middle[:, None] ** np.arange(3)).sum(1)
            mujoco.mj_step(self.model, self.data)
            self.speed = after
        return torch.from_numpy(np.concatenate([self.data.qpos, self.data.qvel, self.speed]))


def commands(params: Params) -> Tensor:
    """Set-points (T, 4), another each control period, about the speed of hovering."""
    noise = torch.rand(STEPS, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (vehicle.hover_speed(params).double() + 0.6 * (noise - 0.5)).clamp(0, 1)


def begin(params: Params) -> Tensor:
    """Tilted, thrown and turning, motors at the speed of hovering, (1, 17)."""
    state = torch.zeros(1, 17, dtype=torch.float64)
    state[0, 3:7] = torch.tensor([0.9, 0.3, -0.3, 0.1])
    state[0, 3:7] /= state[0, 3:7].norm()
    state[0, 7:13] = torch.tensor([0.5, -0.3, 0.2, 1.0, -0.5, 0.8])
    state[0, 13:] = vehicle.hover_speed(params)
    return state


def still(name: str) -> Params:
    """A vehicle of the table without drag, which the MJCF leaves out."""
    params = vehicle.load(name)
    return {**params, "drag": torch.zeros_like(params["drag"])}


def gap(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Largest distance [m] and angle [rad] between flights (T, 17)."""
    cosine = (a[:, 3:7] * b[:, 3:7]).sum(1).abs() / (a[:, 3:7].norm(dim=1) * b[:, 3:7].norm(dim=1))
    return float((a[:, :3] - b[:, :3]).norm(dim=1).max()), float(2 * torch.acos(cosine.clamp(-1, 1)).max())


def in_mujoco(params: Params, h: float) -> Tensor:
    twin = Twin(params, begin(params)[0], h)
    return torch.stack([twin.advance(u.numpy()) for u in commands(params)])


def ours(params: Params, substeps: int) -> Tensor:
    """The equations in double precision."""
    c = dynamics.constants({name: value.double() for name, value in params.items()})
    x, rows = begin(params), []
    for u in commands(params):
        for _ in range(substeps):
            x = dynamics.step(x, u[None], c, DT / substeps)
        rows.append(x[0])
    return torch.stack(rows)


def compiled(params: Params) -> Tensor:
    """What the env flies: single precision, one step a control period."""
    work, x, rows = kernel.pack(dynamics.constants(params).numpy()), begin(params).float(), []
    for u in commands(params).float():
        x = CompiledStep.apply(x, u[None], work, DT)
        rows.append(x[0].double())
    return torch.stack(rows)


@pytest.mark.parametrize("name", vehicle.names())
def test_mujoco_flies_what_we_fly(name: str) -> None:
    params = still(name)
    distance, angle = gap(compiled(params), in_mujoco(params, 1e-3))
    # Nine vehicles of ten part by at most 0.14 mm in 1.2 s. flightmare parts by 1.6 mm: at a motor time constant of two control
    # periods and 12 g of thrust our step alone is 1.4 mm off, MuJoCo's 0.1 mm.
    assert distance < (3e-3 if name == "flightmare" else 3e-4)
    assert angle < 1e-3


def test_the_gap_to_mujoco_shrinks_with_our_step_and_with_its() -> None:
    params = still("crazyflie")
    fine = in_mujoco(params, 1e-4)
    one, two = (gap(ours(params, substeps), fine) for substeps in (1, 2))
    assert one[0] < 1e-5
    assert two[0] < one[0] / 8
    assert two[1] < one[1] / 8
    coarse, half = (gap(ours(params, 8), in_mujoco(params, h)) for h in (2e-3, 1e-3))
    assert half[0] == pytest.approx(coarse[0] / 4, rel=0.1)
    assert half[1] == pytest.approx(coarse[1] / 4, rel=0.1)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_raptor_holds_its_position_in_mujoco_as_in_ours(start: int) -> None:
    env = build(sim.gym.config("quadrotor", num_envs=1, vehicle="crazyflie", time_limit=6.0, limits={"terminate": False}), "env")
    policy = OnnxPolicy(OnnxConfig(str(PRETRAINED / "raptor"), 1))
    observation, _ = env.reset(seed=start)
    twin = Twin(still("crazyflie"), env.state[0], 1e-3)
    state, last = env.state[0], torch.zeros(1, 4)
    mine, other, apart = policy.initial_memory(1), policy.initial_memory(1), 0.0
    for _ in range(500):
        plan = policy.plan(observation, mine)
        observation, mine = env.step(plan.actions[:, 0])[0], plan.memory
        parts = {"position": state[:3], "rotation": dynamics.rotation(state[3:7]), "velocity": state[7:10], "rate": state[10:13]}
        plan = policy.plan({**{k: v.float()[None] for k, v in parts.items()}, "last_action": last}, other)
        last, other = plan.actions[:, 0].clamp(-1, 1), plan.memory
        state = twin.advance((last[0].double().numpy() + 1) / 2)
        apart = max(apart, float((state[:3] - env.state[0, :3]).norm()))
    assert float(state[:3].norm()) < 0.05
    assert apart < 1e-4


def test_an_mjcf_is_of_one_vehicle() -> None:
    with pytest.raises(ConfigError, match="these are 2"):
        mjcf(vehicle.stack([vehicle.load("crazyflie")] * 2))
