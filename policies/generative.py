"""Generators of trajectories from noise: diffusion, rectified flow, and regression in one or two passes.

All are driven by one network `denoise(x_t, t, condition)`; they differ in how `x_t` is made, in what the network is asked
for, and in how samples are drawn. Trajectories are (N, T, A), already scaled to about unit size. Time t is the share of noise:
0 is data, 1 is noise. `velocity` says what diffusion and flow have in common, so that they can be composed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn

from robot.core.errors import ConfigError, NotSupportedError

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x_t (N, T, A), t (N,) in [0, 1], 1 = pure noise) to the network's output (N, T, A)."""


class Kind(Enum):
    diffusion = "diffusion"
    flow = "flow"
    regression = "regression"
    mip = "mip"


class Times(Enum):
    uniform = "uniform"
    beta = "beta"


class Prediction(Enum):
    epsilon = "epsilon"
    sample = "sample"


@dataclass
class GenerativeConfig:
    kind: Kind
    """diffusion (DDPM, epsilon prediction), flow (rectified flow, velocity prediction), regression (no noise) or mip (regression
    in two passes)."""
    train_steps: int
    """Noise levels of the diffusion in training; flow uses a continuum."""
    sample_steps: int
    """Network evaluations a sample; fewer than train_steps skips levels of the diffusion. Regression has 1, mip 2, always."""
    clip: float
    """Bound on the magnitude of scaled trajectories in diffusion sampling."""
    stochastic: bool
    """Diffusion adds noise at every step (DDPM) instead of deciding all by the first (DDIM)."""
    times: Times
    """Training times of flow: uniform, or beta, which is Beta(1.5, 1) and favours noise (pi0, arXiv 2410.24164)."""
    prediction: Prediction
    """What the network of a diffusion is asked for: epsilon, the noise (Ho et al., 2020), or sample, the clean trajectory, which
    small networks learn much sooner, as no error is blown up where nearly all is noise."""


class Generative(nn.Module):
    """Base and factory: `Generative.of(config)` gives the configured kind."""

    draws = 1
    """Standard normal arrays (T, A) that one sample consumes."""

    def __init__(self, config: GenerativeConfig) -> None:
        super().__init__()
        self.config = config
        if config.stochastic and config.kind is not Kind.diffusion:
            raise ConfigError(f"generative.stochastic=true is for kind=diffusion; kind={config.kind.value} samples without noise")
        if config.times is not Times.uniform and config.kind is not Kind.flow:
            raise ConfigError(f"generative.times={config.times.value} is for kind=flow; kind={config.kind.value} has uniform")
        if config.prediction is not Prediction.epsilon and config.kind is not Kind.diffusion:
            raise ConfigError(f"generative.prediction={config.prediction.value} is for kind=diffusion, not {config.kind.value}")

    @staticmethod
    def of(config: GenerativeConfig) -> "Generative":
        kinds = {Kind.diffusion: Diffusion, Kind.flow: Flow, Kind.regression: Regression, Kind.mip: Mip}
        return kinds[config.kind](config)

    def corrupt(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The corrupted trajectory at time t (N,) and the target of the network."""
        raise NotImplementedError

    def recover(self, x: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The clean trajectory that the network's output at (x, t) implies."""
        raise NotImplementedError

    def times(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Random training times (count,)."""
        raise NotImplementedError

    def sample(self, denoise: Denoise, noise: Tensor) -> Tensor:
        """Trajectories (N, T, A) from standard normal noise: (N, T, A), or (N, draws, T, A) where draws > 1."""
        raise NotImplementedError

    def velocity(self, denoise: Denoise, x: Tensor, t: Tensor) -> Tensor:
        """noise - data (N, T, A), the velocity dx/dt of rectified flow, at a flow's x (N, T, A) and t (N,) in (0, 1].

        Raises:
            NotSupportedError: regression and mip follow no field.
        """
        raise self._no_field()

    def flow_times(self, steps: int) -> Tensor:
        """Where Euler's method evaluates `velocity`: falling (steps + 1,), from noise to 0."""
        raise self._no_field()

    def _no_field(self) -> NotSupportedError:
        kind = self.config.kind.value
        return NotSupportedError(f"generative.kind={kind} follows no velocity field: choose kind=flow or kind=diffusion")


class Flow(Generative):
    """Rectified flow (Liu et al., 2022): x_t = (1 - t) x_0 + t z, the network gives dx/dt = z - x_0, Euler integration."""

    LEAST = 0.001
    """Smallest time that pi0 trains on."""

    def corrupt(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = t[:, None, None]
        return (1 - t) * clean + t * noise, noise - clean

    def recover(self, x: Tensor, output: Tensor, t: Tensor) -> Tensor:
        return x - t[:, None, None] * output

    def times(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        uniform = torch.rand(count, generator=generator)
        if self.config.times is Times.uniform:
            return uniform
        return self.LEAST + (1 - self.LEAST) * uniform ** (2 / 3)  # the inverse of Beta(1.5, 1)'s cumulative t^1.5

    def sample(self, denoise: Denoise, noise: Tensor) -> Tensor:
        x, steps = noise, self.config.sample_steps
        for k in range(steps):
            t = torch.full((x.shape[0],), 1.0 - k / steps, dtype=x.dtype, device=x.device)
            x = x - denoise(x, t) / steps
        return x

    def velocity(self, denoise: Denoise, x: Tensor, t: Tensor) -> Tensor:
        return denoise(x, t)

    def flow_times(self, steps: int) -> Tensor:
        return torch.linspace(1.0, 0.0, steps + 1)


class Regression(Generative):
    """The conditional mean by one evaluation on a zero trajectory: what diffusion is compared with."""

    def corrupt(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(clean), clean

    def recover(self, x: Tensor, output: Tensor, t: Tensor) -> Tensor:
        return output

    def times(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.zeros(count)

    def sample(self, denoise: Denoise, noise: Tensor) -> Tensor:
        return denoise(torch.zeros_like(noise), torch.zeros(noise.shape[0], dtype=noise.dtype, device=noise.device))


class Mip(Generative):
    """Regression in two passes, without noise in use ("Much Ado About Noising", 2025).

    The first pass regresses the trajectory from zeros at t = 1. The second corrects a trajectory that is off by a little noise,
    x_0 + SHARE z at t = SHARE; in use, what the first pass gave. The second answers in units of that noise, z instead of x_0:
    the same minimiser, and a squared error weighted by 1 / SHARE^2 as in the paper.
    """

    SHARE = 0.1
    """Noise of the second pass: the paper's t* = 0.9, whose time runs the other way."""

    def corrupt(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        first = self._first(t)
        return torch.where(first, 0.0, clean + self.SHARE * noise), torch.where(first, clean, noise)

    def recover(self, x: Tensor, output: Tensor, t: Tensor) -> Tensor:
        return torch.where(self._first(t), output, x - self.SHARE * output)

    def times(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """1 for the first pass, SHARE for the second, equally often."""
        return torch.where(torch.rand(count, generator=generator) < 0.5, 1.0, self.SHARE)

    def sample(self, denoise: Denoise, noise: Tensor) -> Tensor:
        x = denoise(torch.zeros_like(noise), torch.ones(noise.shape[0], dtype=noise.dtype, device=noise.device))
        t = torch.full((x.shape[0],), self.SHARE, dtype=x.dtype, device=x.device)
        return x - self.SHARE * denoise(x, t)

    def _first(self, t: Tensor) -> Tensor:
        return (t > 0.5)[:, None, None]


class Diffusion(Generative):
    """DDPM with a squared-cosine schedule, sampled by DDIM (eta = 0) or by its own random steps.

    The schedule is diffusers' DDIMScheduler's; the unrolled updates below are tested against the `step` of its schedulers.
    """

    alphas: Tensor
    """(train_steps,), share of the data's variance left at each level: the cumulated alphas of Ho et al. (2020)."""
    levels: Tensor
    """(train_steps,), the flow times of the levels, rising."""

    def __init__(self, config: GenerativeConfig) -> None:
        super().__init__(config)
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler

        if not 1 <= config.sample_steps <= config.train_steps:
            raise ConfigError(
                f"generative.sample_steps={config.sample_steps} must be between 1 and generative.train_steps={config.train_steps}"
            )
        self.epsilon = config.prediction is Prediction.epsilon
        self.scheduler = DDIMScheduler(
            config.train_steps, beta_schedule="squaredcos_cap_v2", clip_sample_range=config.clip, timestep_spacing="trailing",
            prediction_type=config.prediction.value,
        )  # fmt: skip
        self.scheduler.set_timesteps(config.sample_steps)
        self.register_buffer("alphas", self.scheduler.alphas_cumprod.clone(), persistent=False)
        self.register_buffer("levels", flow_time(self.alphas.double()).float(), persistent=False)
        self.schedule = self._levels_of(config.sample_steps)
        if config.stochastic:
            self.draws = config.sample_steps

    def _levels_of(self, steps: int) -> list[int]:
        """The levels of a sampler, falling, evenly spaced and with the last of training first ("trailing")."""
        train = self.config.train_steps
        return [round(train - k * train / steps) - 1 for k in range(steps)]

    def times(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        steps = self.config.train_steps
        return torch.randint(steps, (count,), generator=generator).float() / steps

    def _alpha(self, t: Tensor) -> Tensor:
        index = (t * self.config.train_steps).round().long().clamp(0, self.config.train_steps - 1)
        return self.alphas[index][:, None, None]

    def corrupt(self, clean: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha = self._alpha(t)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, noise if self.epsilon else clean

    def recover(self, x: Tensor, output: Tensor, t: Tensor) -> Tensor:
        if not self.epsilon:
            return output
        alpha = self._alpha(t)
        return (x - (1 - alpha).sqrt() * output) / alpha.sqrt()

    def sample(self, denoise: Denoise, noise: Tensor) -> Tensor:
        several = self.draws > 1
        if noise.ndim != 3 + several:
            raise NotSupportedError(
                f"generative.stochastic={str(self.config.stochastic).lower()} with {self.config.sample_steps} steps samples from "
                f"noise {f'(N, {self.draws}, T, A)' if several else '(N, T, A)'}, got {tuple(noise.shape)}"
            )
        return self._ddpm(denoise, noise) if several else self._ddim(denoise, noise)

    def _ddim(self, denoise: Denoise, x: Tensor) -> Tensor:
        for step, alpha, after in self._steps():
            clean = self._clean(denoise, x, step, alpha)
            direction = (x - alpha**0.5 * clean) / max((1 - alpha) ** 0.5, 1e-6)
            x = after**0.5 * clean + (1 - after) ** 0.5 * direction
        return x

    def _ddpm(self, denoise: Denoise, noise: Tensor) -> Tensor:
        """Ancestral sampling with the posterior's variance ("fixed small"), that of the last step being 0."""
        x, last = noise[:, 0], len(self.schedule) - 1
        for k, (step, alpha, after) in enumerate(self._steps()):
            clean, beta = self._clean(denoise, x, step, alpha), 1 - alpha / after
            x = (after**0.5 * beta * clean + (alpha / after) ** 0.5 * (1 - after) * x) / (1 - alpha)
            if k < last:
                x = x + ((1 - after) / (1 - alpha) * beta) ** 0.5 * noise[:, k + 1]
        return x

    def _steps(self) -> Iterator[tuple[int, float, float]]:
        """Level, its alpha, the alpha to go to."""
        alphas = [float(self.alphas[step]) for step in self.schedule]
        return zip(self.schedule, alphas, [*alphas[1:], 1.0], strict=True)

    def _clean(self, denoise: Denoise, x: Tensor, step: int, alpha: float) -> Tensor:
        t = torch.full((x.shape[0],), step / self.config.train_steps, dtype=x.dtype, device=x.device)
        output = denoise(x, t)
        clean = (x - (1 - alpha) ** 0.5 * output) / alpha**0.5 if self.epsilon else output
        return clean.clamp(-self.config.clip, self.config.clip)

    def velocity(self, denoise: Denoise, x: Tensor, t: Tensor) -> Tensor:
        """By the bridge, at the level nearest to t: the network knows no times between its levels.

        Asked for the data at its own level, it errs by no more than the step to that level, also where t is near 1 and a
        wrong noise level would be blown up in the data.
        """
        level = (t[:, None] - self.levels).abs().argmin(1)
        alpha = self.alphas[level].to(x)[:, None, None]
        x = x * (alpha.sqrt() + (1 - alpha).sqrt())
        output = denoise(x, level.to(x) / self.config.train_steps)
        if self.epsilon:
            eps, clean = output, (x - (1 - alpha).sqrt() * output) / alpha.sqrt()
        else:
            eps, clean = (x - alpha.sqrt() * output) / (1 - alpha).sqrt(), output
        clipped = clean.clamp(-self.config.clip, self.config.clip)
        return eps + (alpha / (1 - alpha)).sqrt() * (clean - clipped) - clipped

    def flow_times(self, steps: int) -> Tensor:
        """The levels of DDIM, in whose steps Euler's method from x = `to_flow(noise, alpha of the first)` is DDIM."""
        return torch.cat([self.levels[self._levels_of(steps)], self.levels.new_zeros(1)])


def flow_time(alpha: Tensor) -> Tensor:
    """The flow time at which noise stands to data as in a diffusion with this cumulated alpha, elementwise."""
    return (1 - alpha).sqrt() / (alpha.sqrt() + (1 - alpha).sqrt())


def remaining(t: Tensor) -> Tensor:
    """The inverse of `flow_time`: the cumulated alpha at flow time t, elementwise."""
    return (1 - t) ** 2 / ((1 - t) ** 2 + t**2)


def to_flow(x: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """A diffusion's x = sqrt(alpha) x_0 + sqrt(1 - alpha) z (N, T, A), alpha (N,), as a flow's x (N, T, A) and t (N,)."""
    return x / (alpha.sqrt() + (1 - alpha).sqrt())[:, None, None], flow_time(alpha)


def to_vp(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """A flow's x = (1 - t) x_0 + t z (N, T, A), t (N,), as a variance-preserving diffusion's x (N, T, A) and alpha (N,)."""
    return x / ((1 - t) ** 2 + t**2).sqrt()[:, None, None], remaining(t)


def score(x: Tensor, t: Tensor, velocity: Tensor) -> Tensor:
    """Gradient of the log density of a flow's x (N, T, A) at t (N,) in (0, 1]: minus the noise in x, over its scale t."""
    t = t[:, None, None]
    return -(x + (1 - t) * velocity) / t
