"""Reinforcement learning of many specialists at once: proximal policy optimisation (Schulman et al., arXiv 1707.06347).

Roll-outs of all worlds become advantages by generalised advantage estimation (Schulman et al., arXiv 1506.02438); a batch
holds equally many moments of every specialist, whose loss, advantages and gradient are its own. With `together` they first
learn as one: each follows the mean of all gradients, less and less so, until it is alone with its vehicle.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.ensemble import Ensemble, perceptron, push
from robot.core.errors import ConfigError
from robot.learn.sources import Batch
from sim.env import Observation
from sim.envs.quadrotor import Quadrotor


@dataclass
class PPOConfig:
    horizon: int
    """Control periods of a roll-out."""
    restart: int
    """Roll-outs after which all worlds start anew, from the seed and their number alone, so that a resumed run gives the same."""
    renew: float
    """Share of worlds that start a new episode at a roll-out, however far they are: learning sees more of how flights begin."""
    epochs: int
    """Times that each moment of a roll-out is learned from."""
    minibatches: int
    """Updates that an epoch is divided into."""
    discount: float
    """Of rewards, a control period."""
    trace: float
    """Lambda of generalised advantage estimation: 0 trusts the critic, 1 what happened."""
    reward: float
    """Factor on rewards, for values of order one."""
    correlation: float
    """Of exploration from one control period to the next, 0 for white noise, which motors hardly follow."""
    ratio: float
    """How far the probability of a command may move from that of the roll-out, relative to 1, before it earns no more."""
    value: float
    """Weight of the critic's squared error."""
    entropy: float
    """Weight of the entropy of commands."""
    clip: float
    """Largest norm of the gradient of a specialist."""
    together: list[int]
    """Updates up to which all specialists learn as one, and from which each learns alone."""


class PPO:
    """A Source whose batches are parts of roll-outs of the policy that is being trained.

    A time limit ends an episode, not what could still be earned: the critic's value of the last state is added to the last
    reward. A termination does end it.
    """

    def __init__(self, config: PPOConfig, env: Quadrotor) -> None:
        if config.horizon < 1 or config.epochs < 1 or config.restart < 1 or not 0 <= config.correlation < 1:
            raise ConfigError("data: horizon, epochs and restart must be at least 1, correlation at least 0 and below 1")
        if config.minibatches < 1 or (config.horizon * env.num_envs) % config.minibatches:
            raise ConfigError(
                f"data.minibatches={config.minibatches} must divide the {config.horizon} x {env.num_envs} moments of a roll-out"
            )
        if len(config.together) != 2 or not 0 <= config.together[0] <= config.together[1]:
            raise ConfigError(f"data.together={config.together}: two numbers of updates, rising")
        self.config, self.env = config, env
        self.updates = config.epochs * config.minibatches

    def open(self, folder: Path, seed: int) -> None:
        """Use `seed` for all randomness; nothing is kept on disk."""
        self.seed = seed

    def resume(self, step: int) -> None:
        """Worlds start anew every `restart` roll-outs, so a run can go on from there.

        Raises:
            ConfigError: `step` lies between two such starts.
        """
        every = self.updates * self.config.restart
        if step % every:
            raise ConfigError(
                f"trainer.checkpoint_every must be a multiple of data.epochs x minibatches x restart = {every}, "
                f"so that a resumed run gives the same numbers; this checkpoint is of step {step}"
            )

    def saved(self, step: int) -> None:
        """Nothing to do."""

    @torch.no_grad()
    def batch(self, step: int, policy: Ensemble) -> Batch:
        """Moments of the running roll-out, (size, m, …) each; before the first update of a roll-out the policy is run for it."""
        k = step % self.updates
        if k == 0:
            self.rollout = self.learnable(policy, self.collect(step // self.updates, policy))
        count = self.rollout["log"].shape[1]
        if count % self.config.minibatches:
            raise ConfigError(
                f"data.minibatches={self.config.minibatches} must divide the {count} moments of a specialist's roll-out"
            )
        if k % self.config.minibatches == 0:
            order = np.random.default_rng([self.seed, step, 1]).permutation(count)
            self.order = torch.from_numpy(order).split(count // self.config.minibatches)
        chosen = self.order[k % self.config.minibatches]
        first, last = self.config.together
        alone = min(max((step - first) / max(last - first, 1), float(step >= last)), 1.0)
        given = {name: value.index_select(1, chosen) for name, value in self.rollout.items()}
        return {**given, "alone": torch.tensor(alone), "fresh": torch.tensor(k == 0)}

    def loss(self, policy: Ensemble, batch: Batch) -> dict[str, Tensor]:
        """The clipped objective, the critic's error and the entropy, means over specialists."""
        config, n = self.config, policy.config.size
        parts = Own.apply(config.clip / n, float(batch["alone"]), *policy.parts())
        mean, value, spread = perceptron(batch["told"], parts[:6]), perceptron(batch["told"], parts[6:12])[..., 0], parts[12]
        log = log_probability(batch["aim"] - mean, spread, config.correlation)
        ratio = torch.exp(log - batch["log"])
        if bool(batch["fresh"]) and float((ratio.detach() - 1).abs().max()) > 0.05:
            raise ConfigError("data=ppo learns from what the newest weights do: set trainer.average=0")
        clipped = ratio.clamp(1 - config.ratio, 1 + config.ratio)
        gain = torch.minimum(ratio * batch["advantage"], clipped * batch["advantage"]).mean()
        error = (value - batch["target"]).square().mean()
        entropy = spread.sum(1).mean()
        with torch.no_grad():
            divergence = ((ratio - 1) - (log - batch["log"])).mean()
            explained = 1 - error / batch["target"].var(dim=1).mean()
        return {
            "loss": config.value * error - gain - config.entropy * entropy, "explained": explained, "divergence": divergence,
            "spread": spread.exp().mean(), "reward": batch["reward"].mean(), "failed": batch["failed"].mean(),
        }  # fmt: skip

    @torch.no_grad()
    def collect(self, number: int, policy: Ensemble) -> dict[str, Tensor]:
        """Roll-out `number`, rows (T, B, …): what was told and done, what it brought, and how it went on."""
        config, env = self.config, self.env
        rng = torch.Generator().manual_seed(int(np.random.default_rng([self.seed, number, 2]).integers(2**62)))
        if number % config.restart == 0:
            self.seen, _ = env.reset(seed=int(np.random.default_rng([self.seed, number, 3]).integers(2**31)))
            self.drift = torch.zeros(env.num_envs, 4)
        else:
            fresh = torch.rand(env.num_envs, generator=rng) < config.renew
            self.seen, _ = env.reset(mask=fresh)
            self.drift[fresh] = 0
        spread = policy.spread.exp().repeat_interleave(env.num_envs // policy.config.size, 0)
        scale = math.sqrt(1 - config.correlation**2) * spread
        rows, ends = [], []
        for step in range(config.horizon):
            outer = push(env)
            told = self._told(policy, self.seen, outer)
            mean = policy.ungroup(perceptron(policy.group(told[None]), policy.actor), 1)[0]
            before, news = config.correlation * self.drift, scale * torch.randn(env.num_envs, 4, generator=rng)
            self.drift = before + news
            self.seen, reward, failed, late, info = env.step((mean + self.drift).clamp(-1, 1))
            rows.append({"told": told, "news": news, "aim": mean + news, "reward": reward, "failed": failed, "late": late})
            self.drift[failed | late] = 0
            which = torch.nonzero(late).flatten()
            if len(which):
                last = {name: value[which] for name, value in info["final_obs"].items()}
                ends.append((step, which, self._told(policy, last, outer[which])))
        out = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        after = torch.zeros(config.horizon, env.num_envs)
        for step, which, told in ends:
            critic = [part[which * policy.config.size // env.num_envs] for part in policy.critic]
            after[step, which] = perceptron(told[:, None], critic)[:, 0, 0]
        return {**out, "after": after, "last": self._told(policy, self.seen, push(env))[None]}

    @torch.no_grad()
    def learnable(self, policy: Ensemble, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Advantages, the critic's targets and probabilities beside what was told and done, (size, T * B / size, …)."""
        config, steps = self.config, len(rows["told"])
        told = policy.group(rows["told"])
        value = policy.ungroup(perceptron(told, policy.critic), steps)[..., 0]
        beyond = policy.ungroup(perceptron(policy.group(rows["last"]), policy.critic), 1)[..., 0]
        done = rows["failed"] | rows["late"]
        reward = config.reward * rows["reward"] + config.discount * rows["after"]
        advantage = advantages(reward, torch.cat([value, beyond]), done, config.discount, config.trace)
        flat = {"advantage": advantage, "target": advantage + value, "reward": rows["reward"], "failed": rows["failed"].float()}
        out = {name: policy.group(each[..., None])[..., 0] for name, each in flat.items()}
        centre, width = out["advantage"].mean(1, keepdim=True), out["advantage"].std(1, keepdim=True)
        out["advantage"] = (out["advantage"] - centre) / (width + 1e-6)
        log = log_probability(policy.group(rows["news"]), policy.spread, config.correlation)
        return {**out, "told": told, "aim": policy.group(rows["aim"]), "log": log}

    def _told(self, policy: Ensemble, observation: Observation, outer: Tensor) -> Tensor:
        seen = torch.cat([observation[name].flatten(1) for name in policy.interface.names], dim=1)
        return policy.told(seen, outer)


def advantages(reward: Tensor, value: Tensor, done: Tensor, discount: float, trace: float) -> Tensor:
    """Generalised advantages (T, B) from rewards (T, B), values (T + 1, B) and where episodes ended (T, B).

    Rewards of moments at which time ran out hold the discounted value of what would have come.
    """
    goes_on = discount * (~done).float()
    surprise = reward + goes_on * value[1:] - value[:-1]
    out, ahead = torch.empty_like(reward), torch.zeros_like(reward[0])
    for step in range(len(reward) - 1, -1, -1):
        ahead = surprise[step] + trace * goes_on[step] * ahead
        out[step] = ahead
    return out


def log_probability(error: Tensor, spread: Tensor, correlation: float) -> Tensor:
    """Of commands (n, m, 4) off by `error` from what was expected, but for a constant, (n, m); `spread` (n, 4) a logarithm.

    Exploration that is correlated over time is expected to go on as it was; only the rest of its variance is new.
    """
    z = error * torch.exp(-spread)[:, None] / math.sqrt(1 - correlation**2)
    return -0.5 * z.square().sum(-1) - spread.sum(1)[:, None]


class Own(torch.autograd.Function):
    """Weights as they are; on the way back, each specialist's gradient gets a norm of at most `limit`.

    With `alone` below 1, that share of it is mixed with the mean over all specialists.
    """

    @staticmethod
    def forward(ctx: Any, limit: float, alone: float, *parts: Tensor) -> tuple[Tensor, ...]:
        ctx.limit, ctx.alone = limit, alone
        return tuple(part.view_as(part) for part in parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
        scale = (ctx.limit / norm.clamp_min(1e-12)).clamp_max(1)
        own = [g * scale.view(-1, *[1] * (g.ndim - 1)) for g in gradients]
        if ctx.alone < 1:
            own = [g.mean(0, keepdim=True).lerp(g, ctx.alone) for g in own]
        return (None, None, *own)
