"""Flights of a small recurrent policy as one differentiable operation, for one policy or for many at once."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robot.learn.flight_cost import IMITATION
from robot.learn.flight_kernel import INPUT, OBSERVED, layout, passes
from sim.quadrotor.kernel import LANES, ROTORS, Floats


class Weights(NamedTuple):
    """Of one GRU policy a group, matrices and biases: embed (G, W, 22), input (G, 3H, W), hidden (G, 3H, H), head (G, 4, H)."""

    embed: Tensor
    embed_bias: Tensor
    input: Tensor
    input_bias: Tensor
    hidden: Tensor
    hidden_bias: Tensor
    head: Tensor
    head_bias: Tensor

    def pack(self) -> Floats:
        """(G, P) as the kernel reads it: each matrix row-major, then their transposes."""
        groups = len(self.embed)
        wide = torch.nn.functional.pad(self.embed, (0, INPUT - OBSERVED))
        tall = torch.nn.functional.pad(self.head.mT, (0, 8 - ROTORS))
        parts = [
            wide, self.embed_bias, self.input, self.input_bias, self.hidden, self.hidden_bias, self.head, self.head_bias,
            wide.mT, self.input.mT, self.hidden.mT, tall,
        ]  # fmt: skip
        return torch.cat([part.detach().reshape(groups, -1) for part in parts], dim=1).numpy()


class Tape:
    """What flights leave behind; made once and used again and again, as fresh memory costs more than the flights."""

    def __init__(self, blocks: int, steps: int, width: int, hidden: int, recurrent: bool = True) -> None:
        self.at, self.steps, self.width, self.hidden, self.recurrent = layout(width, hidden), steps, width, hidden, recurrent
        self.rows = torch.zeros(blocks, self.at.t_end, steps + 1, LANES)
        self.pull = torch.zeros_like(self.rows)
        self.last = torch.zeros(blocks, ROTORS, LANES)
        self.memory = torch.zeros(blocks, hidden, LANES)
        self.cost = torch.zeros(blocks, LANES)

    def observations(self) -> Tensor:
        """What the policy saw, (T, B, 22)."""
        first = self.at.t_observation
        return self.rows[:, first : first + OBSERVED, :-1].permute(2, 0, 3, 1).flatten(1, 2)

    def commands(self) -> Tensor:
        """What it answered, before it was clipped, (blocks, 4, T, 16)."""
        return self.rows[:, self.at.t_action : self.at.t_action + ROTORS, :-1]

    def after(self) -> Tensor:
        """The GRU's state after each step, (blocks, H, T * 16)."""
        at, hidden = self.at, self.hidden
        if self.recurrent:
            return self.rows[:, at.t_hidden : at.t_hidden + hidden, 1:].flatten(2)
        _, z, new = self.rows[:, at.t_inner : at.t_inner + 3 * hidden, :-1].flatten(2).chunk(3, dim=1)
        return (1 - z) * new + z * self.rows[:, at.t_hidden : at.t_hidden + hidden, :-1].flatten(2)


class Start(NamedTuple):
    """Where flights begin and what they are to do, in lanes."""

    state: Tensor
    """(blocks, 17, 16)."""
    last: Tensor
    """The action before the first, (blocks, 4, 16)."""
    reference: Tensor
    """Position and velocity to follow, (blocks, 6, T + 1, 16)."""
    reach: Tensor
    """Largest error that is no failure [m], (blocks, 16)."""


class Rules(NamedTuple):
    """What a flight costs and how far its gradient is trusted."""

    costs: Floats
    """The weights of `flight_cost`."""
    dt: float
    """Control period [s]."""
    adjoint: float
    """Largest adjoint of a state, in shares of the cost of one step of one world."""
    clip: float
    """Largest norm of the gradient of a group's own mean cost."""


Teach = Callable[[Tape], Tensor]
"""From what happened to the commands that a teacher would have given, (T, B, 4)."""


class Flight(torch.autograd.Function):
    """(memory, weights…) → mean cost of a step, a scalar; the tape keeps the rest."""

    @staticmethod
    def forward(ctx, tape: Tape, work: Floats, start: Start, rules: Rules, teach: Teach | None, memory, *weights):
        packed = Weights(*weights).pack()
        state, last, *goal = (part.numpy() for part in start)
        run, _ = passes(tape.width, tape.hidden, tape.recurrent)
        run(
            work, len(packed), packed, state, last, memory.detach().numpy(), *goal, rules.costs, rules.dt,
            tape.rows.numpy(), tape.last.numpy(), tape.memory.numpy(), tape.cost.numpy(),
        )  # fmt: skip
        cost, aim = tape.cost.mean() / tape.steps, torch.zeros(len(work), ROTORS, tape.steps, LANES)
        if teach is not None:
            aim = teach(tape).unflatten(1, (-1, LANES)).permute(1, 3, 0, 2).contiguous()
            cost = cost + float(rules.costs[IMITATION]) * ((tape.commands() - aim) ** 2).sum(1).mean()
        ctx.rest = (tape, work, packed, last, goal, aim.numpy(), rules)
        return cost

    @staticmethod
    def backward(ctx, gradient: Tensor):
        tape, work, packed, last, (reference, reach), aim, rules = ctx.rest
        groups = len(packed)
        share = float(gradient) / (tape.steps * tape.cost.numel())
        memory = torch.empty_like(tape.memory)
        _, run = passes(tape.width, tape.hidden, tape.recurrent)
        run(
            work, groups, packed, last, reference, aim, reach, rules.costs, rules.dt, share, rules.adjoint * share,
            tape.rows.numpy(), tape.pull.numpy(), memory.numpy(),
        )  # fmt: skip
        at, width, gates = tape.at, tape.width, 3 * tape.hidden
        seen = lambda first, count: tape.rows[:, first : first + count, :-1].flatten(2)  # noqa: E731
        pull = lambda first, count: tape.pull[:, first : first + count, :-1].flatten(2)  # noqa: E731
        total = lambda x: x.unflatten(0, (groups, -1)).sum(1)  # noqa: E731
        gradients = []
        for left, right in (
            (pull(at.t_embed, width), seen(at.t_observation, OBSERVED)),
            (pull(at.t_inner, gates), seen(at.t_embed, width)),
            (pull(at.t_outer, gates), seen(at.t_hidden, tape.hidden)),
            (pull(at.t_action, ROTORS), tape.after()),
        ):
            gradients += [total(left @ right.mT), total(left.sum(-1))]
        squares = torch.stack([part.flatten(1).square().sum(1) for part in gradients]).sum(0)
        scale = (rules.clip / (groups * squares.sqrt() + 1e-12)).clamp_max(1)
        memory *= scale.repeat_interleave(len(work) // groups)[:, None, None]
        return None, None, None, None, None, memory, *(part * scale.view(-1, *[1] * (part.ndim - 1)) for part in gradients)


def lanes(values: Tensor) -> Tensor:
    """(B, F) as (blocks, F, 16); B a multiple of 16."""
    return values.unflatten(0, (-1, LANES)).mT.contiguous()


def worlds(values: Tensor) -> Tensor:
    """(blocks, F, 16) as (B, F)."""
    return values.mT.flatten(0, 1)
