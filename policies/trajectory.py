"""A generator of whole pieces of episodes: what is seen, done and earned in each frame, from what is seen in the first.

It plans like Diffuser (Janner et al., 2022): imagine, carry out the beginning. And it is the model of policy-guided diffusion
(Jackson et al., 2024): `imagine` bends what is done towards what another policy would do; robot/learn/guided.py learns from it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from policies.diffusion_policy import DiffusionPolicy, DiffusionPolicyConfig
from policies.generator import Scene
from robot.core.config import build
from robot.core.errors import NotSupportedError
from robot.core.interface import Interface

Would = Callable[[Tensor, Tensor], Tensor]
"""(condition (N, C), anchor (N, A)) to the action that a policy would take there (N, A), in its own unit."""


@dataclass
class TrajectoryConfig(DiffusionPolicyConfig):
    rewards: float
    """Reward of a frame that counts as one unit."""


@dataclass
class Imagined:
    """Pieces of episodes, each (N, T, …): prepared inputs, actions in their own unit, rewards, and whether an episode ended."""

    condition: Tensor
    anchor: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor


class Trajectory(DiffusionPolicy):
    """`chunk` frames of features, action relative to the frame's anchor, that anchor relative to the first one's, reward, end."""

    centre: Tensor
    spread: Tensor

    def __init__(self, config: TrajectoryConfig, interface: Interface) -> None:
        super().__init__(config, interface)
        self.settings = config
        self.width = self.condition_size + 2 * self.action_size + 2
        self.denoiser = build(
            config.denoiser, "policy.denoiser",
            horizon=config.chunk, action_size=self.width, condition_size=self.condition_size,
        )  # fmt: skip
        self.register_buffer("centre", torch.zeros(self.condition_size))
        self.register_buffer("spread", torch.ones(self.condition_size))

    def noise_shape(self) -> tuple[int, ...]:
        return (*super().noise_shape()[:-1], self.width)

    def study(self, table: dict[str, Any]) -> None:
        """Keep mean and deviation of the features of recorded frames (F, C)."""
        self.centre.copy_(torch.from_numpy(table["condition"].mean(0)))
        self.spread.copy_(torch.from_numpy(table["condition"].std(0)).clamp_min(1e-3))

    def frames(self, batch: dict[str, Tensor]) -> Tensor:
        """x (B, T, F) of recorded pieces: `condition`, `anchor`, `action`, each (B, T, …), `reward`, `terminated` (B, T)."""
        seen = (batch["condition"] - self.centre) / self.spread
        done = (batch["action"].flatten(2) - batch["anchor"]) / self.scale
        moved = (batch["anchor"] - batch["anchor"][:, :1]) / self.scale
        rest = [batch["reward"] / self.settings.rewards, 2 * batch["terminated"] - 1]
        return torch.cat([seen, done, moved, torch.stack(rest, dim=2)], dim=2)

    def told(self, x: Tensor, anchor: Tensor) -> Imagined:
        """The inverse of `frames`, with the first frame's anchor (B, A)."""
        size = self.action_size
        seen, done, moved, rest = x.split([self.condition_size, size, size, 2], dim=2)
        places = anchor[:, None] + self.scale * moved
        return Imagined(
            seen * self.spread + self.centre, places, places + self.scale * done,
            rest[..., 0] * self.settings.rewards, (rest[..., 1] > 0).float(),
        )  # fmt: skip

    def loss(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Squared error of the denoiser over recorded pieces; frames past an episode's end do not count (`valid` (B, T))."""
        clean = self.frames(batch)
        scene = Scene(self._known(batch["condition"][:, 0]), batch["anchor"][:, :1])
        t = self.generative.times(clean.shape[0])
        noisy, target = self.generative.corrupt(clean, torch.randn_like(clean), t)
        error = ((self.denoise(noisy, t, scene) - target) ** 2).mean(2)
        return {"loss": (error * batch["valid"]).sum() / batch["valid"].sum().clamp_min(1.0)}

    def _known(self, condition: Tensor) -> Tensor:
        return (condition - self.centre) / self.spread

    def encode(self, inputs: dict[str, Tensor]) -> Scene:
        return Scene(self._known(inputs["condition"]), inputs["anchor"][:, None])

    def actions(self, x: Tensor, scene: Scene) -> Tensor:
        actions = self.told(x, scene.anchor[:, 0]).action
        field = self.interface.action
        return actions if field.low is None and field.high is None else actions.clamp(field.low, field.high)

    def scaled(self, actions: Tensor, scene: Scene) -> Tensor:
        raise NotSupportedError("Trajectory imagines more than actions: what else belongs to them it cannot tell")

    @torch.no_grad()
    def imagine(
        self, condition: Tensor, anchor: Tensor, noise: Tensor, would: Would | None = None, guidance: float = 0.0
    ) -> Imagined:
        """Pieces that begin as given: condition (N, C), anchor (N, A), noise (N, *noise_shape).

        With `would`, at each step of the sampler the clean estimate's actions move towards that policy's by
        guidance * (1 - i/n + 0.3 sin(pi (i + 1)/n)) along the direction of its log likelihood, a unit Gaussian's, scaled to one
        unit of x for the largest action of a piece; not at the last step (Jackson et al., section 3 and their code).
        """
        scene = self.encode({"condition": condition, "anchor": anchor})
        x, times = self.start(noise), self.times()
        steps = len(times) - 1
        for i in range(steps):
            t = times[i].expand(x.shape[0])
            velocity = self.velocity(x, t, scene)
            if would is not None and guidance and i < steps - 1:
                share = guidance * (1 - i / steps + 0.3 * math.sin(math.pi * (i + 1) / steps))
                shift = torch.zeros_like(x)
                first = self.condition_size
                shift[..., first : first + self.action_size] = share * self._direction(x - times[i] * velocity, anchor, would)
                velocity = velocity - shift / times[i]  # velocity = (x - clean) / t
            x = x + (times[i + 1] - times[i]) * velocity
        return self.told(x, anchor)

    def _direction(self, clean: Tensor, anchor: Tensor, would: Would) -> Tensor:
        """(N, T, A): from the actions of clean pieces towards those of a policy, the longest of a piece of length one."""
        piece = self.told(clean, anchor)
        count, length = clean.shape[:2]
        meant = would(piece.condition.flatten(0, 1), piece.anchor.flatten(0, 1)).unflatten(0, (count, length))
        gap = (meant - piece.action) / self.scale
        return gap / gap.norm(dim=2).amax(1)[:, None, None].clamp_min(1.0)
