"""Flights of a small recurrent policy as one differentiable operation, for one policy or for many at once."""

from typing import NamedTuple

import torch
from torch import Tensor

from robot.learn.flight_kernel import INPUT, OBSERVED, Fields, passes
from sim.quadrotor.kernel import LANES, ROTORS, STATE, Floats


class Weights(NamedTuple):
    """Of one GRU policy a group: embed (G, W, 22), (G, W); input (G, 3H, W), (G, 3H); hidden (G, 3H, H), (G, 3H); head (G, 4, H), (G, 4)."""

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
        self.fields, self.steps, self.width, self.hidden = Fields(width, hidden), steps, width, hidden
        self.rows = torch.zeros(blocks, self.fields.size, steps + 1, LANES)
        self.pull = torch.zeros_like(self.rows)
        self.last = torch.zeros(blocks, ROTORS, LANES)
        self.memory = torch.zeros(blocks, hidden, LANES)

    def part(self, source: Tensor, name: str, count: int) -> Tensor:
        first = self.fields.first[name]
        return source[:, first : first + count]


class Flight(torch.autograd.Function):
    """(weights…, memory) → states (blocks, 17, T + 1, 16), commands before they are clipped (blocks, 4, T, 16)."""

    @staticmethod
    def forward(ctx, tape: Tape, work: Floats, dt: float, limit: float, state, last, reference, memory, *weights):
        packed = Weights(*weights).pack()
        ctx.rest = (tape, work, packed, dt, limit)
        run, _ = passes(tape.width, tape.hidden)
        run(
            work, len(packed), packed, state.numpy(), last.numpy(), memory.detach().numpy(), reference.numpy(), dt,
            tape.rows.numpy(), tape.last.numpy(), tape.memory.numpy(),
        )  # fmt: skip
        states = tape.rows[:, :STATE].clone()
        actions = tape.part(tape.rows, "action", ROTORS)[:, :, : tape.steps].clone()
        return states, actions

    @staticmethod
    def backward(ctx, states: Tensor, actions: Tensor):
        tape, work, packed, dt, limit = ctx.rest
        groups, steps = len(packed), tape.steps
        tape.pull[:, :STATE] = states
        tape.part(tape.pull, "action", ROTORS)[:, :, :steps] = actions
        memory = torch.empty_like(tape.memory)
        _, run = passes(tape.width, tape.hidden)
        run(work, groups, packed, tape.rows.numpy(), tape.pull.numpy(), dt, limit, memory.numpy())
        flat = lambda source, name, count: tape.part(source, name, count).flatten(2)  # noqa: E731
        total = lambda x: x.unflatten(0, (groups, -1)).sum(1)  # noqa: E731
        width, hidden = tape.width, tape.hidden
        embed, inner = flat(tape.pull, "embed", width), flat(tape.pull, "input_gates", 3 * hidden)
        gates, head = flat(tape.pull, "hidden_gates", 3 * hidden), flat(tape.pull, "action", ROTORS)
        before = flat(tape.rows, "hidden", hidden)
        gradients = []
        for left, right in (
            (embed, flat(tape.rows, "observation", OBSERVED)),
            (inner, flat(tape.rows, "embed", width)),
            (gates, before),
            (head[..., :-LANES], before[..., LANES:]),
        ):
            gradients += [total(left @ right.mT), total(left.sum(-1))]
        return None, None, None, None, None, None, None, memory, *gradients


def lanes(values: Tensor) -> Tensor:
    """(B, F) as (blocks, F, 16); B a multiple of 16."""
    return values.unflatten(0, (-1, LANES)).mT.contiguous()


def worlds(values: Tensor) -> Tensor:
    """(blocks, F, 16) as (B, F)."""
    return values.mT.flatten(0, 1)
