"""Learning by the gradient of what happens: costs of flights are differentiated through policy and physics.

The "third way" beside reinforcement learning and imitation: short windows of flight, back-propagation through time in a
compiled pass, no teacher and no value function (analytic policy gradients; Wiedemann et al., RA-L 2023).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from policies.fleet import Fleet
from policies.raptor import Raptor
from robot.core.errors import ConfigError
from robot.learn.flight import Flight, Rules, Start, Tape, Teach, lanes, worlds
from robot.learn.sources import Batch
from sim.envs.quadrotor import Quadrotor
from sim.quadrotor.kernel import LANES, STATE


@dataclass
class CostConfig:
    """Weights of a step's cost. What has a knee grows like a square below it and in proportion above."""

    position: float
    """Distance to the reference [1/m]."""
    rounding: float
    """Distance below which the cost of position is round instead of pointed [m]."""
    velocity: float
    """Square of the velocity relative to the reference's."""
    velocity_knee: float
    """[m/s]."""
    rate: float
    """Square of the body rates."""
    rate_knee: float
    """[rad/s]."""
    yaw: float
    """Square of the quaternion's z."""
    action: float
    """Change of the command."""
    speed: float
    """Square of the velocity error along an axis beyond `speed_limit`."""
    speed_limit: float
    """[m/s]."""
    edge: float
    """Square of the position beyond four fifths of what ends an episode."""
    command: float
    """Square of what is clipped off commands."""
    imitation: float
    """Square of the difference to a teacher's command, where there is one."""
    speed_knee: float
    """[m/s]."""
    edge_knee: float
    """[m]."""


@dataclass
class BackpropConfig:
    shortest: int
    """Control periods of the first windows."""
    longest: int
    """Control periods of windows from `growth` on."""
    growth: int
    """Updates until windows have their full length."""
    windows: int
    """Windows that an episode lasts."""
    round_updates: int
    """Updates after which all worlds start anew, from the seed and their number alone, so that a resumed run gives the same."""
    limit: float
    """Largest adjoint of a state, in shares of the cost of one step of one world."""
    clip: float
    """Largest norm of the gradient of a policy's mean cost; of a fleet, each has its own."""
    cost: CostConfig
    """What is to be small."""


class Backprop:
    """A Source whose batches are windows of flights that go on from batch to batch."""

    def __init__(self, config: BackpropConfig, env: Quadrotor) -> None:
        if env.num_envs % LANES:
            raise ConfigError(f"env.num_envs={env.num_envs}: flights are computed sixteen at a time, take a multiple of 16")
        if env.config.latency or env.config.substeps > 1 or env.config.limits.terminate:
            raise ConfigError("data=backprop flies without latency, substeps and termination: set env.limits.terminate=false")
        self.config, self.env = config, env
        self.tape: Tape | None = None
        costs = np.array([getattr(config.cost, name) for name in CostConfig.__dataclass_fields__], np.float32)
        self.rules = Rules(costs, env.config.dt, config.limit, config.clip)
        self.teach: Teach | None = None

    def open(self, folder: Path, seed: int) -> None:
        """Use `seed` for all randomness; nothing is kept on disk."""
        self.seed = seed

    def resume(self, step: int) -> None:
        """Worlds start anew at every round, so a run can go on from any of them.

        Raises:
            ConfigError: `step` is in the middle of a round.
        """
        if step % self.config.round_updates:
            raise ConfigError(
                f"trainer.checkpoint_every must be a multiple of data.round_updates={self.config.round_updates}, "
                f"so that a resumed run gives the same numbers; this checkpoint is of step {step}"
            )

    def saved(self, step: int) -> None:
        """Nothing to do."""

    @torch.no_grad()
    def batch(self, step: int, policy: Raptor | Fleet) -> Batch:
        """Where the next window starts: new episodes where the last ones are over."""
        env, config = self.env, self.config
        hidden = policy.config.hidden
        if step % config.round_updates == 0:
            self.begin(step // config.round_updates)
            env.reset(seed=int(np.random.default_rng([self.seed, step, 3]).integers(2**31)))
            self.age = torch.arange(env.num_envs) % config.windows
            self.memory = torch.zeros(env.num_envs, hidden)
            fresh = torch.ones(env.num_envs, dtype=torch.bool)
        else:
            lost = ~torch.isfinite(env.state).all(1) | (env.errors(env.state, env.steps)[0].norm(dim=1) > 5)
            fresh = (self.age >= config.windows) | lost
            self.age[fresh] = 0
            env.reset(mask=fresh)
            self.memory[fresh] = 0
        ramp = min(1.0, step / max(config.growth, 1))
        length = 10 * round((config.shortest + (config.longest - config.shortest) * ramp) / 10)
        if self.tape is None or self.tape.steps != length:
            self.tape = Tape(
                env.num_envs // LANES, length, policy.config.width, hidden, getattr(policy.config, "recurrent", True)
            )
        return {"memory": self.memory, "fresh": fresh, "length": torch.tensor(length)}

    def begin(self, number: int) -> None:
        """Before the worlds of a round start."""

    def loss(self, policy: Raptor | Fleet, batch: Batch) -> dict[str, Tensor]:
        """Mean cost of a step of the window, with its gradient; the worlds are then at the window's end."""
        env, tape = self.env, self.tape
        assert tape is not None
        length, blocks = tape.steps, env.num_envs // LANES
        reach = (env.config.limits.position_arms * env.reach).reshape(blocks, LANES)
        start = Start(lanes(env.state), lanes(env.last), self._reference(length), reach)
        firsts = policy.firsts()
        firsts = firsts.repeat_interleave(env.num_envs // len(firsts), dim=0)
        hidden = torch.where(batch["fresh"][:, None], firsts, firsts.detach() + batch["memory"])
        cost = Flight.apply(tape, env.work, start, self.rules, self.teach, lanes(hidden), *policy.weights())
        with torch.no_grad():
            env.state = worlds(tape.rows[:, :STATE, -1]).clone()
            env.last = worlds(tape.last).clone()
            env.steps = env.steps + length
            self.memory = worlds(tape.memory) - firsts
            self.age += 1
            error = env.errors(env.state, env.steps)[0].norm(dim=1)
        return {"loss": cost, "error": error.nanmedian(), "lost": (~(error <= 1)).float().mean()}

    def _reference(self, length: int) -> Tensor:
        times = [(self.env.steps + k) * self.env.config.dt for k in range(length + 1)]
        return torch.stack([lanes(torch.cat(self.env.reference.at(time), dim=1)) for time in times], dim=2)
