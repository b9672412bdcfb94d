"""Against l2f, the simulator of the original: same vehicles, same actions, same flights."""

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

pytest.importorskip("l2f", reason="needs l2f: pip install l2f (it compiles for minutes)")

from robot.core.config import typed
from robot.core.paths import CONFIGS
from sim.quadrotor import dynamics, kernel
from sim.quadrotor.vehicle import Distribution, DistributionConfig
from tests.bench.peer_l2f import L2F

WORLDS = 64


@pytest.fixture(scope="module")
def fleet() -> dynamics.Params:
    node = OmegaConf.load(CONFIGS / "env" / "quadrotor.yaml").vehicles
    node.force = 0.0
    draws = torch.rand(WORLDS, Distribution.DRAWS, generator=torch.Generator().manual_seed(0))
    return Distribution(typed(DistributionConfig, node, "vehicles")).sample(draws)


def start() -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(WORLDS, 17, generator=rng)
    x[:, 3:7] /= x[:, 3:7].norm(dim=1, keepdim=True)
    x[:, 13:] = torch.rand(WORLDS, 4, generator=rng)
    return x


def test_a_step_is_that_of_l2f(fleet: dynamics.Params) -> None:
    peer, work = L2F(fleet), kernel.pack(dynamics.constants(fleet).numpy())
    x, rng = start(), np.random.default_rng(2)
    worst = 0.0
    for _ in range(20):
        peer.place(x.numpy())
        action = rng.uniform(-1, 1, (WORLDS, 4)).astype(np.float32)
        peer.step(action)
        ours = dynamics.CompiledStep.apply(x, torch.from_numpy((action + 1) / 2), work, 0.01)
        worst = max(worst, float(np.abs((ours.numpy() - peer.states()) / (1 + np.abs(peer.states()))).max()))
        x = ours
    assert worst < 1e-5


def test_500_steps_drift_apart_by_no_more_than_rounding_explains(fleet: dynamics.Params) -> None:
    """Float32 against l2f and against ourselves in double precision: the same distance, so it is rounding, not physics."""
    peer, constants = L2F(fleet), dynamics.constants(fleet)
    work, x = kernel.pack(constants.numpy()), start()
    x[:, 10:13] *= 0.1
    hover = torch.full((WORLDS, 4), 0.5)
    rng = torch.Generator().manual_seed(3)
    peer.place(x.numpy())
    exact = x.double()
    params = {name: value.double() for name, value in fleet.items()}
    for _ in range(500):
        u = (hover + 0.02 * torch.randn(WORLDS, 4, generator=rng)).clamp(0, 1)
        peer.step((2 * u - 1).numpy())
        x = dynamics.CompiledStep.apply(x, u, work, 0.01)
        exact = dynamics.step(exact, u.double(), dynamics.constants(params), 0.01)
    scale = 1 + exact[:, :3].norm(dim=1).numpy()
    to_peer = np.linalg.norm(x[:, :3].numpy() - peer.states()[:, :3], axis=1) / scale
    to_exact = np.linalg.norm(x[:, :3].numpy() - exact[:, :3].numpy(), axis=1) / scale
    assert np.median(to_peer) < 1e-4
    assert np.median(to_peer) < 10 * np.median(to_exact) + 1e-7
