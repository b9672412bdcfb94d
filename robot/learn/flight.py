"""Flights of a small recurrent policy as one differentiable operation, for one policy or for many at once."""

from typing import NamedTuple

import torch
from torch import Tensor

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

    def __init__(self, blocks: int, steps: int, width: int, hidden: int) -> None:
        self.at, self.steps, self.width, self.hidden = layout(width, hidden), steps, width, hidden
        self.rows = torch.zeros(blocks, self.at.t_end, steps + 1, LANES)
        self.pull = torch.zeros_like(self.rows)
        self.last = torch.zeros(blocks, ROTORS, LANES)
        self.memory = torch.zeros(blocks, hidden, LANES)
        self.cost = torch.zeros(blocks, LANES)


class Start(NamedTuple):
    """Where flights begin and what they are to do, in lanes."""

    state: Tensor
    """(blocks, 17, 16)."""
    last: Tensor
    """The action before the first, (blocks, 4, 16)."""
    reference: Tensor
    """Position and velocity to follow, (blocks, 6, T + 1, 16)."""
    aim: Tensor
    """Actions to imitate, (blocks, 4, T, 16)."""
    reach: Tensor
    """Largest error that is no failure [m], (blocks, 16)."""


class Flight(torch.autograd.Function):
    """(memory, weights…) → mean cost of a step, a scalar; the tape keeps the rest."""

    @staticmethod
    def forward(ctx, tape: Tape, work: Floats, start: Start, costs: Floats, dt: float, limit: float, memory, *weights):
        packed = Weights(*weights).pack()
        given = [part.numpy() for part in start]
        ctx.rest = (tape, work, packed, given, costs, dt, limit)
        run, _ = passes(tape.width, tape.hidden)
        state, last, *goal = given
        run(
            work, len(packed), packed, state, last, memory.detach().numpy(), *goal, costs, dt,
            tape.rows.numpy(), tape.last.numpy(), tape.memory.numpy(), tape.cost.numpy(),
        )  # fmt: skip
        return tape.cost.mean() / tape.steps

    @staticmethod
    def backward(ctx, gradient: Tensor):
        tape, work, packed, given, costs, dt, limit = ctx.rest
        groups = len(packed)
        share = float(gradient) / (tape.steps * tape.cost.numel())
        memory = torch.empty_like(tape.memory)
        _, run = passes(tape.width, tape.hidden)
        _, last, *goal = given
        run(
            work, groups, packed, last, *goal, costs, dt, share, limit * share,
            tape.rows.numpy(), tape.pull.numpy(), memory.numpy(),
        )  # fmt: skip
        at, width, gates = tape.at, tape.width, 3 * tape.hidden
        seen = lambda first, count: tape.rows[:, first : first + count].flatten(2)  # noqa: E731
        pull = lambda first, count: tape.pull[:, first : first + count].flatten(2)  # noqa: E731
        total = lambda x: x.unflatten(0, (groups, -1)).sum(1)  # noqa: E731
        before, head = seen(at.t_hidden, tape.hidden), pull(at.t_action, ROTORS)
        gradients = []
        for left, right in (
            (pull(at.t_embed, width), seen(at.t_observation, OBSERVED)),
            (pull(at.t_inner, gates), seen(at.t_embed, width)),
            (pull(at.t_outer, gates), before),
            (head[..., :-LANES], before[..., LANES:]),
        ):
            gradients += [total(left @ right.mT), total(left.sum(-1))]
        return None, None, None, None, None, None, memory, *gradients


def lanes(values: Tensor) -> Tensor:
    """(B, F) as (blocks, F, 16); B a multiple of 16."""
    return values.unflatten(0, (-1, LANES)).mT.contiguous()


def worlds(values: Tensor) -> Tensor:
    """(blocks, F, 16) as (B, F)."""
    return values.mT.flatten(0, 1)
