"""Generators against closed forms and against the schedulers of diffusers; what each makes of data with two modes."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor

from policies.generative import Diffusion, Flow, Generative, GenerativeConfig, Kind, Mip, Prediction, Times, score, to_flow, to_vp
from policies.nn.mlp import ResidualMlp, ResidualMlpConfig
from robot.core.errors import ConfigError, NotSupportedError

MEAN, SPREAD = 0.3, 0.5
"""Of the Gaussian data whose fields are known in closed form."""


def make(
    kind: Kind, train: int = 100, steps: int = 10, clip: float = 4.0, stochastic: bool = False, times: Times = Times.uniform,
    prediction: Prediction = Prediction.epsilon,
) -> Generative:  # fmt: skip
    return Generative.of(GenerativeConfig(kind, train, steps, clip, stochastic, times, prediction))


def diffusion(
    train: int = 100, steps: int = 10, clip: float = 4.0, stochastic: bool = False, prediction: Prediction = Prediction.epsilon
) -> Diffusion:
    process = make(Kind.diffusion, train, steps, clip, stochastic, prediction=prediction)
    assert isinstance(process, Diffusion)
    return process


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def network(x: Tensor, t: Tensor) -> Tensor:
    """Smooth, and bold enough that a bound of 0.7 is touched."""
    return torch.sin(3 * x) + 0.5 * x + t[:, None, None]


# The bridge between diffusion and flow


def test_the_bridge_there_and_back() -> None:
    x, t = normal(64, 16, 2), torch.linspace(0, 1, 64, dtype=torch.float64)
    there, alpha = to_vp(x, t)
    back, time = to_flow(there, alpha)
    assert float((back - x).abs().max()) < 1e-9
    assert float((time - t).abs().max()) < 1e-9
    there, time = to_flow(x, alpha)
    back, other = to_vp(there, time)
    assert float((back - x).abs().max()) < 1e-9
    assert float((other - alpha).abs().max()) < 1e-9


def test_the_bridge_takes_corrupted_data_to_corrupted_data() -> None:
    process, flow = diffusion(), make(Kind.flow)
    clean, noise, step = torch.randn(4, 16, 2), torch.randn(4, 16, 2), torch.tensor([0, 30, 70, 98])
    x, _ = process.corrupt(clean, noise, step / 100)
    x, t = to_flow(x, process.alphas[step])
    torch.testing.assert_close(x, flow.corrupt(clean, noise, t)[0], rtol=0, atol=1e-6)
    assert torch.all(t.diff() > 0.05)


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[z - x_0 | x] for data N(MEAN, SPREAD^2)."""
    t = t[:, None, None]
    gain = (1 - t) * SPREAD**2 / ((1 - t) ** 2 * SPREAD**2 + t**2)
    clean = MEAN + gain * (x - (1 - t) * MEAN)
    return (x - (1 - t) * clean) / t - clean


def test_the_score_of_gaussian_data() -> None:
    x, t = normal(50, 4, 2), torch.linspace(0.02, 1, 50, dtype=torch.float64)
    variance = ((1 - t) ** 2 * SPREAD**2 + t**2)[:, None, None]
    expected = -(x - ((1 - t) * MEAN)[:, None, None]) / variance
    torch.testing.assert_close(score(x, t, gaussian_velocity(x, t)), expected, rtol=0, atol=1e-9)


def test_the_velocity_of_a_perfect_diffusion_is_that_of_the_flow_also_between_its_levels() -> None:
    process = diffusion(train=1000)

    def perfect(x: Tensor, t: Tensor) -> Tensor:
        alpha = process.alphas[(t * 1000).round().long()].to(x)[:, None, None]
        return (1 - alpha).sqrt() * (x - alpha.sqrt() * MEAN) / (alpha * SPREAD**2 + 1 - alpha)

    t = torch.linspace(0.01, 0.999, 200, dtype=torch.float64)
    x = (1 - t)[:, None, None] * (MEAN + SPREAD * normal(200, 4, 2)) + t[:, None, None] * normal(200, 4, 2, seed=1)
    torch.testing.assert_close(process.velocity(perfect, x, t), gaussian_velocity(x, t), rtol=0, atol=0.05)
    levels = process.levels[[50, 400, 900]].double()
    x = normal(3, 4, 2)
    torch.testing.assert_close(process.velocity(perfect, x, levels), gaussian_velocity(x, levels), rtol=0, atol=1e-4)
    start = process.velocity(perfect, x, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(start, x - MEAN, rtol=0, atol=0.05)


@pytest.mark.parametrize("prediction", Prediction)
@pytest.mark.parametrize(
    ("train", "steps", "clip"), [(100, 10, 4.0), (100, 100, 0.7), (100, 7, 0.7), (10, 10, 1.0), (50, 1, 4.0)]
)
def test_ddim_is_eulers_method_on_the_velocity(train: int, steps: int, clip: float, prediction: Prediction) -> None:
    process, noise = diffusion(train, steps, clip, prediction=prediction), normal(5, 16, 2)
    times = process.flow_times(steps)
    assert times.shape == (steps + 1,)
    assert torch.all(times.diff() < 0)
    assert float(times[-1]) == 0
    first = process.alphas[process.schedule[0]].double().expand(5)
    x, t = to_flow(noise, first)
    torch.testing.assert_close(t.float(), times[0].expand(5), rtol=0, atol=1e-7)
    for now, after in pairwise(times):
        x = x + (after - now).double() * process.velocity(network, x, now.double().expand(5))
    torch.testing.assert_close(x, process.sample(network, noise), rtol=0, atol=1e-5)


def test_flow_samples_are_eulers_method_on_the_velocity() -> None:
    process, noise = make(Kind.flow, steps=7), normal(5, 16, 2)
    x, times = noise, process.flow_times(7).double()
    for now, after in pairwise(times):
        x = x + (after - now) * process.velocity(network, x, now.expand(5))
    torch.testing.assert_close(x, process.sample(network, noise), rtol=0, atol=1e-6)


# Diffusion's samplers, step by step beside those of diffusers


@pytest.mark.parametrize("steps", [100, 50, 20, 10, 7, 6, 3, 1])
def test_levels_are_those_of_diffusers(steps: int) -> None:
    process = diffusion(100, steps)
    assert process.schedule == process.scheduler.timesteps.tolist()


@pytest.mark.parametrize("prediction", Prediction)
@pytest.mark.parametrize(("train", "steps", "clip"), [(100, 10, 4.0), (100, 100, 0.7), (10, 5, 1.0)])
def test_ddim_equals_diffusers(train: int, steps: int, clip: float, prediction: Prediction) -> None:
    peer = DDIMScheduler(
        train, beta_schedule="squaredcos_cap_v2", clip_sample_range=clip, timestep_spacing="trailing",
        prediction_type=prediction.value,
    )  # fmt: skip
    peer.set_timesteps(steps)
    noise = normal(5, 16, 2)
    x = noise
    for step in peer.timesteps.tolist():
        output = network(x, torch.full((5,), step / train, dtype=x.dtype))
        x = peer.step(output, step, x, eta=0.0, use_clipped_model_output=True).prev_sample
    found = diffusion(train, steps, clip, prediction=prediction).sample(network, noise)
    torch.testing.assert_close(found, x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prediction", Prediction)
@pytest.mark.parametrize(("train", "steps", "clip"), [(100, 10, 4.0), (100, 100, 0.7), (10, 5, 1.0)])
def test_ddpm_equals_diffusers(train: int, steps: int, clip: float, prediction: Prediction) -> None:
    """As Diffusion Policy sets it: squared-cosine betas, clipped, variance fixed_small."""
    peer = DDPMScheduler(
        train, beta_schedule="squaredcos_cap_v2", clip_sample_range=clip, variance_type="fixed_small",
        timestep_spacing="trailing", prediction_type=prediction.value,
    )  # fmt: skip
    peer.set_timesteps(steps)
    process = diffusion(train, steps, clip, stochastic=True, prediction=prediction)
    assert process.draws == steps
    generator = torch.Generator().manual_seed(3)
    noise = torch.stack([torch.randn(5, 16, 2, generator=generator, dtype=torch.float64) for _ in range(steps)], dim=1)
    generator.manual_seed(3)
    x = torch.randn(5, 16, 2, generator=generator, dtype=torch.float64)
    for step in peer.timesteps.tolist():
        output = network(x, torch.full((5,), step / train, dtype=x.dtype))
        x = peer.step(output, step, x, generator=generator).prev_sample
    torch.testing.assert_close(process.sample(network, noise), x, rtol=0, atol=1e-5)


def test_samplers_call_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = [diffusion(steps=5), diffusion(steps=5, stochastic=True)]
    for name in ("step", "set_timesteps", "scale_model_input"):
        monkeypatch.setattr(DDIMScheduler, name, None)
    for process, noise in zip(processes, (normal(2, 4, 1), normal(2, 5, 4, 1)), strict=True):
        assert process.sample(network, noise).shape == (2, 4, 1)


def test_noise_of_the_wrong_shape_is_refused() -> None:
    with pytest.raises(
        NotSupportedError, match=r"stochastic=true with 5 steps samples from noise \(N, 5, T, A\), got \(2, 4, 1\)"
    ):
        diffusion(steps=5, stochastic=True).sample(network, normal(2, 4, 1))
    with pytest.raises(NotSupportedError, match=r"stochastic=false .* noise \(N, T, A\), got \(2, 5, 4, 1\)"):
        diffusion(steps=5).sample(network, normal(2, 5, 4, 1))


def test_a_single_random_step_needs_no_more_noise_than_ddim() -> None:
    process, noise = diffusion(steps=1, stochastic=True), normal(2, 4, 1)
    assert process.draws == 1
    torch.testing.assert_close(process.sample(network, noise), diffusion(steps=1).sample(network, noise))


# Regression in two passes


def test_mip_asks_twice_and_draws_nothing() -> None:
    process, asked = make(Kind.mip), []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        asked.append((x, t))
        return 0.5 + x + t[:, None, None]

    assert process.draws == 1
    a, b = process.sample(denoise, normal(3, 4, 2)), process.sample(denoise, normal(3, 4, 2, seed=1))
    assert torch.equal(a, b)
    assert [float(t[0]) for _, t in asked[:2]] == [1.0, 0.1]
    assert len(asked) == 4
    assert not asked[0][0].any()
    torch.testing.assert_close(asked[1][0], torch.full((3, 4, 2), 1.5, dtype=torch.float64))
    torch.testing.assert_close(a, torch.full((3, 4, 2), 1.5 - 0.1 * 2.1, dtype=torch.float64))


def test_mip_trains_both_passes_on_the_clean_trajectory() -> None:
    process, clean, noise = make(Kind.mip), normal(1000, 4, 2), normal(1000, 4, 2, seed=1)
    t = process.times(1000, torch.Generator().manual_seed(0)).double()
    first = t == 1
    assert 450 < int(first.sum()) < 550
    torch.testing.assert_close(t[~first], torch.full_like(t[~first], 0.1), rtol=0, atol=1e-7)
    x, target = process.corrupt(clean, noise, t)
    assert not x[first].any()
    torch.testing.assert_close(x[~first], (clean + 0.1 * noise)[~first])
    torch.testing.assert_close(process.recover(x, target, t), clean)
    wrong = process.recover(x, target + 1, t) - clean
    assert float(wrong[first].abs().mean()) == pytest.approx(1.0)
    assert float(wrong[~first].abs().mean()) == pytest.approx(Mip.SHARE), "so its squared error weighs 1 / SHARE^2"


def test_the_second_pass_mends_the_first() -> None:
    """With the exact answer to x_0 + 0.1 z for data +-1, a first pass of 0.2 ends at 1."""
    process = make(Kind.mip)

    def exact(x: Tensor, t: Tensor) -> Tensor:
        return torch.where(t[:, None, None] == 1, 0.2, (x - torch.tanh(x / 0.01)) / 0.1)

    torch.testing.assert_close(process.sample(exact, torch.zeros(2, 4, 1)), torch.ones(2, 4, 1), rtol=0, atol=1e-5)


# Configs and times


@pytest.mark.parametrize("kind", [Kind.regression, Kind.mip])
def test_what_follows_no_field_says_so(kind: Kind) -> None:
    process = make(kind)
    with pytest.raises(NotSupportedError, match=f"kind={kind.value} follows no velocity field: choose kind=flow"):
        process.velocity(network, normal(2, 4, 1), torch.ones(2))
    with pytest.raises(NotSupportedError, match="choose kind=flow or kind=diffusion"):
        process.flow_times(4)


def test_combinations_without_a_meaning_are_refused() -> None:
    with pytest.raises(ConfigError, match="stochastic=true is for kind=diffusion; kind=flow"):
        make(Kind.flow, stochastic=True)
    with pytest.raises(ConfigError, match="times=beta is for kind=flow; kind=diffusion"):
        make(Kind.diffusion, times=Times.beta)
    with pytest.raises(ConfigError, match="prediction=sample is for kind=diffusion, not flow"):
        make(Kind.flow, prediction=Prediction.sample)
    with pytest.raises(ConfigError, match="sample_steps=11 must be between 1 and generative"):
        make(Kind.diffusion, train=10, steps=11)


def test_beta_times_are_beta() -> None:
    """Beta(1.5, 1) has the density 1.5 sqrt(t): mean 0.6, variance 0.0686, a quantile u at u^(2/3)."""
    t = make(Kind.flow, times=Times.beta).times(100_000, torch.Generator().manual_seed(0))
    assert float(t.min()) >= Flow.LEAST
    assert float(t.max()) <= 1
    peer = torch.distributions.Beta(1.5, 1.0)
    assert float(t.mean()) == pytest.approx(0.001 + 0.999 * float(peer.mean), abs=0.003)
    assert float(t.var()) == pytest.approx(0.998 * float(peer.variance), abs=0.001)
    quantiles = torch.tensor([0.1, 0.5, 0.9])
    torch.testing.assert_close(t.quantile(quantiles), 0.001 + 0.999 * quantiles ** (2 / 3), rtol=0, atol=0.005)
    uniform = make(Kind.flow).times(1000, torch.Generator().manual_seed(0))
    assert torch.equal(uniform, torch.rand(1000, generator=torch.Generator().manual_seed(0)))


# Learning


def trained(process: Generative, steps: int = 400) -> ResidualMlp:
    """A network taught chunks of 4 that are +1 or -1 throughout, with a spread of 0.05."""
    torch.manual_seed(0)
    net = ResidualMlp(ResidualMlpConfig(64, 2), 4, 1, 1)
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    condition = torch.zeros(256, 1)
    for _ in range(steps):
        clean = torch.randint(2, (256, 1, 1)) * 2.0 - 1 + 0.05 * torch.randn(256, 4, 1)
        t = process.times(256)
        x, target = process.corrupt(clean, torch.randn_like(clean), t)
        loss = (net(x, t, condition) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


def chunks(process: Generative, net: ResidualMlp, n: int = 512) -> Tensor:
    shape = (n, process.draws, 4, 1) if process.draws > 1 else (n, 4, 1)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return process.sample(lambda x, t: net(x, t, torch.zeros(n, 1)), noise)[..., 0]


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (Kind.flow, {}),
        (Kind.flow, {"times": Times.beta}),
        (Kind.diffusion, {}),
        (Kind.diffusion, {"stochastic": True}),
        (Kind.diffusion, {"prediction": Prediction.sample}),
    ],
)
def test_generators_find_both_modes(kind: Kind, keys: dict[str, Any]) -> None:
    process = make(kind, train=50, steps=10, clip=2.0, **keys)
    x = chunks(process, trained(process))
    hit = ((x.abs() - 1).abs() < 0.3).all(1) & (x.sign().mean(1).abs() == 1)
    assert float(hit.float().mean()) > 0.9
    assert 0.3 < float((x.mean(1) > 0).float().mean()) < 0.7


def test_regression_gives_the_mean_of_the_modes() -> None:
    process = make(Kind.regression)
    assert float(chunks(process, trained(process, 100)).abs().max()) < 0.2
