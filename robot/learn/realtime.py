"""Plans that come late, in simulated time: made from the observation of step t, a plan can be used from step t + d on.

What is played meanwhile: `wait` holds the last action (synchronous inference), the others go on with the old chunk. Then `async`
jumps to element d of the new one; `ensemble` plays the weighted mean of all chunks that reach this step (Zhao et al., 2023, ACT);
`realtime` has drawn the new chunk so that it continues the old one (Black et al., 2025, arXiv 2506.07339): what will have been
executed when it arrives is frozen, the rest of the overlap pulls on it less and less.

The first plan of an episode is thought before its clock starts.
"""

import itertools
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from policies.generator import Generator, Scene
from policies.policy import Plan
from robot.core.errors import ConfigError, NotSupportedError
from robot.learn.execution import Execution
from sim.env import Env

Mode = Enum("Mode", ["wait", "async", "ensemble", "realtime"])
NEVER = 2**62
"""A step that does not come."""
NOISE, SLOPE = 0.99, 2.0
"""Flow time above which a chunk is pure noise, and the largest slope of an estimate that is followed."""


@dataclass
class ExecutionConfig:
    mode: Mode
    """What is played while the policy thinks: wait, async, ensemble or realtime."""
    delay: int
    """Control periods from an observation to the first use of its plan (d); 0: at once."""
    latency: float | None
    """Instead of `delay`, milliseconds a decision takes, rounded up to control periods; null: `delay` says it."""
    every: int | None
    """Actions executed between two plans, at least the delay (the policy thinks of one plan at a time); null: as the policy says,
    or all of its plan."""
    decay: float
    """ensemble: a plan weighs exp(-decay * number of older ones that are still played); ACT has 0.01; below 0, newer ones weigh
    more."""
    guidance: float
    """realtime: largest weight of the pull towards the old chunk (the paper's beta, 5); 0 draws chunks freely."""


def execution_of(config: ExecutionConfig | None, policy: Any, env: Env, seed: int) -> Execution:
    """What carries out the plans of `policy` in `env`; without a delay and where nothing is blended, the plain Execution.

    Raises:
        ConfigError: values that do not go together, or that the policy cannot follow.
    """
    if config is None:
        return Execution(policy, env, seed)
    delay = periods(config, env.interface.dt)
    if config.every is not None and config.every < 1:
        raise ConfigError(f"evaluator.execution.every={config.every} must be at least 1")
    if config.guidance < 0:
        raise ConfigError(f"evaluator.execution.guidance={config.guidance} must not be negative")
    if config.mode is Mode.realtime:
        _guidable(policy)
    if delay == 0 and config.every is None and config.mode not in (Mode.ensemble, Mode.realtime):
        return Execution(policy, env, seed)
    return Late(config, delay, policy, env, seed)


def periods(config: ExecutionConfig, dt: float) -> int:
    """The delay in control periods of `dt` seconds."""
    if config.delay < 0 or (config.latency is not None and (config.latency < 0 or config.delay)):
        raise ConfigError(
            f"evaluator.execution: delay={config.delay} and latency={config.latency} must not be negative, and only one be given"
        )
    return config.delay if config.latency is None else math.ceil(round(config.latency / (1e3 * dt), 6))


def _guidable(policy: Any) -> None:
    """Refuse what no old chunk can be imposed on."""
    try:
        if not isinstance(policy, Generator):
            raise NotSupportedError(f"{type(policy).__name__} draws no chunks from noise")
        if policy.noise_shape() != (policy.chunk, policy.action_size):
            raise NotSupportedError(f"{type(policy).__name__} draws a chunk from noise of shape {policy.noise_shape()}")
        some = torch.zeros(1, policy.chunk, policy.action_size)
        with torch.no_grad():
            policy.velocity(some, policy.times()[:1], Scene(torch.zeros(1, policy.condition_size), some[:, :1]))
    except NotSupportedError as error:
        raise ConfigError(
            f"evaluator.execution.mode=realtime: {error}; it guides a velocity field, which diffusion_policy has "
            "(generative.kind=flow, or diffusion with stochastic=false) and gpc (operator=convex); use one of these or mode=async"
        ) from error


class Late(Execution):
    """Keeps the last plans of each world with the step at which they may be used.

    Attributes:
        border: worlds whose last action was the first that another plan had a say in, (B,).
    """

    border: Tensor = torch.zeros(0)

    def __init__(self, config: ExecutionConfig, delay: int, policy: Any, env: Env, seed: int) -> None:
        super().__init__(policy, env, seed)
        self.config, self.delay = config, delay
        self.clock = torch.zeros(env.num_envs, dtype=torch.int64)
        self.due_at = torch.zeros(env.num_envs, dtype=torch.int64)
        self.asked = torch.full((env.num_envs,), -1)
        self.border = torch.zeros(env.num_envs, dtype=torch.bool)
        self.chunks: Tensor | None = None
        """The plans of each world, (B, M, L, *action)."""

    def end(self, worlds: Tensor) -> None:
        super().end(worlds)
        over = worlds.cpu()
        self.clock[over], self.due_at[over], self.asked[over] = 0, 0, -1
        if self.chunks is not None:
            self.ready[over] = NEVER

    def _due(self) -> Tensor:
        return self.clock >= self.due_at

    def _decided(self, inputs: dict[str, Tensor], memory: dict[str, Tensor], noise: Tensor | None, rows: Tensor) -> Plan:
        """All of a generator's chunk, not only what it executes itself."""
        policy = self.policy
        if not isinstance(policy, Generator) or noise is None:
            return super()._decided(inputs, memory, noise, rows)
        scene = policy.encode(inputs)
        begun = torch.nonzero(self.asked[rows] >= 0).flatten()
        if self.config.mode is not Mode.realtime or not len(begun):
            x = policy.flow_to(noise, scene)
            return Plan(policy.actions(x, scene).unflatten(-1, self.env.interface.action.shape), memory)
        x = torch.zeros_like(noise)
        fresh = torch.nonzero(self.asked[rows] < 0).flatten()
        if len(fresh):
            x[fresh] = policy.flow_to(noise[fresh], _part(scene, fresh))
        own = _part(scene, begun)
        old, left = self._rest(rows[begun])
        target = policy.scaled(old.flatten(2), own)
        x[begun] = inpainted(policy, noise[begun], own, target, mask(left, self.delay, policy.chunk), self.config.guidance)
        actions = policy.actions(x, scene).unflatten(-1, self.env.interface.action.shape)
        actions[begun, : self.delay] = old[:, : self.delay]
        return Plan(actions, memory)

    def _rest(self, worlds: Tensor) -> tuple[Tensor, Tensor]:
        """What the newest plans of the worlds (K,) say from now on, (K, L, *action), held at the end; how much that is, (K,)."""
        assert self.chunks is not None
        length = self.chunks.shape[2]
        newest = torch.where(self.ready[worlds] < NEVER, self.born[worlds], -1).argmax(1)
        gone = self.clock[worlds] - self.born[worlds, newest]
        index = (gone[:, None] + torch.arange(length)).clamp_max(length - 1)
        return self.chunks[worlds[:, None], newest[:, None], index], length - gone

    def _keep(self, plan: Any, rows: Tensor, due: Tensor) -> None:
        super()._keep(plan, rows, due)
        if self.chunks is None:
            self._open(plan.actions)
        assert self.chunks is not None
        wanted = due[rows]
        worlds = rows[wanted]
        slot = torch.where(self.ready[worlds] < NEVER, self.born[worlds], -1).argmin(1)
        now = self.clock[worlds]
        ready = torch.where(self.asked[worlds] < 0, now, now + self.delay)
        self.chunks[worlds, slot] = plan.actions[wanted]
        self.ready[worlds, slot], self.asked[worlds] = ready, now
        self.born[worlds, slot] = begins = ready if self.config.mode is Mode.wait else now
        self.due_at[worlds] = begins + self.every

    def _open(self, actions: Tensor) -> None:
        """Room for plans like the first ones (K, L, *action)."""
        worlds, length = len(self.clock), actions.shape[1]
        own = self.policy.execute if isinstance(self.policy, Generator) else length
        self.every = every = self.config.every or own
        late = 0 if self.config.mode is Mode.wait else self.delay
        if every < late:
            raise ConfigError(
                f"evaluator.execution: a plan every {every} actions that comes {late} late; the policy thinks of one plan at a "
                f"time, choose every at least {late}, or mode=wait"
            )
        if every + late > length:
            most = length - late
            advice = f"every at most {most}, or mode=wait" if most >= late else "mode=wait"
            raise ConfigError(
                f"evaluator.execution: a plan every {every} actions and a delay of {late} need plans of {every + late} actions, "
                f"{type(self.policy).__name__} gives {length}; choose {advice}"
            )
        room = max(2, -(-length // every))
        self.chunks = actions.new_zeros(worlds, room, *actions.shape[1:])
        self.born = torch.zeros(worlds, room, dtype=torch.int64)
        self.ready = torch.full((worlds, room), NEVER)

    def _next(self) -> Tensor:
        assert self.chunks is not None
        usable = self.ready <= self.clock[:, None]
        index = self.clock[:, None] - self.born
        newest = torch.where(usable, self.born, -1).argmax(1)
        worlds = torch.arange(len(newest))
        self.border = self.ready[worlds, newest] == self.clock
        length = self.chunks.shape[2]
        if self.config.mode is Mode.ensemble:
            action = self._mean(usable & (index < length), index.clamp(0, length - 1))
        else:
            last = self.every if self.config.mode is Mode.wait else length
            action = self.chunks[worlds, newest, index[worlds, newest].clamp_max(last - 1)]
        self.clock += 1
        return action

    def _mean(self, played: Tensor, index: Tensor) -> Tensor:
        """Weighted mean (B, *action) of the elements `index` (B, M) of the plans that are `played` (B, M)."""
        assert self.chunks is not None
        older = (played[:, None] & (self.born[:, None] < self.born[:, :, None])).sum(2)
        weights = torch.exp(-self.config.decay * older) * played
        weights = weights / weights.sum(1, keepdim=True)
        worlds, slots = (torch.arange(n) for n in played.shape)
        chosen = self.chunks[worlds[:, None], slots, index]
        return (weights.view(*weights.shape, *[1] * (chosen.ndim - 2)) * chosen).sum(1)


def _part(scene: Scene, rows: Tensor) -> Scene:
    return Scene(scene.condition[rows], scene.anchor[rows])


def mask(left: Tensor, delay: int, length: int) -> Tensor:
    """How much a new chunk is held to the old one, (N, length), where the old one still has `left` (N,) actions.

    1 for what is executed before the new one can be used, 0 beyond the old one's end, between them equation 5 of the paper.
    """
    index, left = torch.arange(length)[None], left[:, None]
    c = ((left - index) / (left - delay + 1)).clamp(0, 1)
    return torch.where(index < delay, 1.0, c * torch.expm1(c) / math.expm1(1.0)) * (index < left)


@torch.no_grad()
def inpainted(policy: Generator, noise: Tensor, scene: Scene, target: Tensor, weights: Tensor, guidance: float) -> Tensor:
    """Chunks x (N, chunk, A) from noise (N, chunk, A), drawn towards `target` (N, chunk, A) where `weights` (N, chunk) say so.

    Equations 2 to 4 of the paper (pseudo-inverse guidance, Song et al., 2023) with our time, which falls from noise, 1, to 0:
    each step also goes down the weighted squared distance of the denoised estimate x - t v from the target, by its
    vector-Jacobian product; at most by `guidance`, and by no more than all of that distance.

    From pure noise nothing can be estimated, and an estimate's slope is about 1. A diffusion's estimate is there a small
    difference of large numbers, whose slope threw chunks out of bounds; so none is followed there, and none too steep.
    """
    x, times = policy.start(noise), policy.times().tolist()
    for now, then in itertools.pairwise(times):
        t = torch.full((len(x),), now, dtype=x.dtype)
        if not guidance or now > NOISE:
            x = x + (then - now) * policy.velocity(x, t, scene)
            continue
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            v = policy.velocity(leaf, t, scene)
            clean = leaf - now * v
            pull = ((target - clean) * weights[..., None]).detach()
            (towards,) = torch.autograd.grad(clean, leaf, pull)
        steepness = towards.flatten(1).norm(dim=1) / pull.flatten(1).norm(dim=1).clamp_min(1e-9)
        towards = towards / (steepness / SLOPE).clamp_min(1.0)[:, None, None]
        spread = now**2 / (now**2 + (1 - now) ** 2)
        weight = min(guidance, 1 / (now - then), now / max((1 - now) * spread, 1e-9))
        x = x + (then - now) * (v.detach() - weight * towards)
    return x


class Jerk:
    """Third differences of the actions over time, where one plan gives way to another and elsewhere.

    Call it with every step's actions (B, *action) and worlds of `Execution.border` (B,), then with the worlds that ended. The
    window of a border holds two actions before and two after, all of one episode.
    """

    def __init__(self, dt: float) -> None:
        self.dt = dt
        self.past: list[Tensor] = []
        self.crossed: list[Tensor] = []
        self.age = torch.zeros(0)
        self.sums, self.counts = [0.0, 0.0], [0, 0]

    def __call__(self, action: Tensor, border: Tensor, done: Tensor) -> None:
        """One step; `done` (B,): episodes that ended with it."""
        if not self.past:
            self.age = torch.zeros(len(action), dtype=torch.int64)
        self.past = [*self.past[-3:], action.flatten(1).double()]
        self.crossed = [*self.crossed[-1:], border.clone()]
        self.age += 1
        if len(self.past) == 4:
            a, b, c, d = self.past
            size = (d - 3 * c + 3 * b - a).norm(dim=1) / self.dt**3
            for k, chosen in enumerate((self.crossed[0], ~self.crossed[0])):
                rows = chosen & (self.age >= 4)
                self.sums[k] += float(size[rows].sum())
                self.counts[k] += int(rows.sum())
        self.age[done.cpu()] = 0

    @property
    def border(self) -> float:
        """Mean at the borders, in the action's unit / s^3."""
        return self.sums[0] / max(self.counts[0], 1)

    @property
    def inside(self) -> float:
        """Mean elsewhere, in the action's unit / s^3."""
        return self.sums[1] / max(self.counts[1], 1)
