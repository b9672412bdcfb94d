"""Quadrotors, each another: hold a position or follow a path, from any attitude, in wind, under pushes and with faults.

Observations and actions are those of RAPTOR (arXiv 2509.11481): errors to the reference, the rotation matrix, body rates and
the last action; four motor commands in [-1, 1] at 100 Hz, front right, back right, back left, front left.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from robot.core.errors import ConfigError
from robot.core.interface import Field, Interface
from sim.env import Env, Observation
from sim.quadrotor import dynamics, kernel, tasks, vehicle
from sim.quadrotor.dynamics import ROTORS, STATE, CompiledStep
from sim.quadrotor.vehicle import DistributionConfig

SAMPLED, TABLE = "sampled", "table"
MOTORS = ("front_right", "back_right", "back_left", "front_left")
_KINDS = [vehicle.Distribution.DRAWS, tasks.StartConfig.DRAWS, tasks.ReferenceConfig.DRAWS, tasks.EventConfig.DRAWS, 2]
"""Random numbers of an episode: vehicle, start, reference, event, wind."""


@dataclass
class NoiseConfig:
    position: float
    """Standard deviation of the observed position [m]."""
    rotation: float
    """Of the observed rotation matrix's elements."""
    velocity: float
    """Of the observed velocity [m/s]."""
    rate: float
    """Of the observed body rates [rad/s]."""


@dataclass
class LimitConfig:
    terminate: bool
    """Whether leaving the limits ends an episode."""
    position_arms: float
    """Largest error along an axis, in arm lengths."""
    velocity: float
    """Largest speed along an axis [m/s]."""
    rate: float
    """Largest body rate about an axis [rad/s]."""
    lost: float
    """Distance from the reference at the end beyond which a vehicle counts as lost [m]."""


@dataclass
class RewardConfig:
    alive: float
    """A step."""
    position: float
    """A metre of error."""
    yaw: float
    """A radian 2 acos(1 - |q_z|)."""
    action: float
    """A unit of change of the action."""
    terminated: float
    """At a failure."""


@dataclass
class QuadrotorConfig:
    num_envs: int
    """Worlds."""
    vehicle: str
    """sampled: another vehicle each episode; table: all of configs/vehicle in turn; or the name of one of them."""
    fleet: int
    """Vehicles that are sampled once and kept, world i of B flies number i * fleet // B; 0: a new one each episode."""
    fleet_seed: int
    """What the fleet is drawn from."""
    vehicles: DistributionConfig
    """What sampled vehicles are drawn from."""
    dt: float
    """Control period [s]."""
    substeps: int
    """Integration steps in a control period."""
    time_limit: float
    """Length of an episode [s]."""
    start: tasks.StartConfig
    """Where episodes start."""
    reference: tasks.ReferenceConfig
    """What is to be followed."""
    event: tasks.EventConfig
    """What happens once on the way."""
    wind: float
    """Largest horizontal wind, constant in an episode [m/s]; it acts through drag."""
    drag: float
    """Drag added to every vehicle, by its mass [1/s]."""
    latency: int
    """Control periods between a command and its effect."""
    noise: NoiseConfig
    """What sensors add."""
    limits: LimitConfig
    """What an episode must not leave."""
    ground: float | None
    """Height of the ground below the origin's frame [m], or null for none."""
    reward: RewardConfig
    """Weights of the reward."""
    threads: int
    """Threads of the kernel, 0 for all cores."""


def interface(dt: float) -> Interface:
    """What flows: 22 numbers to four motors."""
    axes = ("x", "y", "z")
    fields = (
        Field("position", (3,), unit="m", frame="world", names=axes),
        Field("rotation", (3, 3), unit="1", frame="world from body"),
        Field("velocity", (3,), unit="m/s", frame="world", names=axes),
        Field("rate", (3,), unit="rad/s", frame="body", names=axes),
        Field("last_action", (4,), unit="1", low=-1.0, high=1.0, names=MOTORS),
    )
    return Interface(fields, Field("motors", (4,), unit="1", low=-1.0, high=1.0, names=MOTORS), dt)


class Quadrotor(Env):
    """See the module. `state` (B, 17), `last` (B, 4) and the time are all that a world is; `params` its vehicle.

    `nominal` is the vehicle as the episode began, before anything happened to it: what a model-based controller may know.
    """

    def __init__(self, config: QuadrotorConfig) -> None:
        _check(config)
        self.config, n = config, config.num_envs
        super().__init__(interface(config.dt), n, max_steps=round(config.time_limit / config.dt))
        self.distribution = vehicle.Distribution(config.vehicles)
        self.table = vehicle.names() if config.vehicle == TABLE else [] if config.vehicle == SAMPLED else [config.vehicle]
        self._fleet = vehicle.stack([vehicle.load(name) for name in self.table]) if self.table else None
        self.labels = {"vehicle": self.table or [SAMPLED]}
        self._draws = torch.rand(config.fleet, _KINDS[0], generator=torch.Generator().manual_seed(config.fleet_seed))
        self.assigned = torch.arange(n) * config.fleet // n if config.fleet else None
        self.params = {k: v.clone() for k, v in vehicle.select(self.distribution.base, [0] * n).items()}
        self.nominal = {k: v.clone() for k, v in self.params.items()}
        self.work = kernel.pack(dynamics.constants(self.params).numpy())
        self.state, self.last = torch.zeros(n, STATE), torch.zeros(n, ROTORS)
        self.state[:, 3] = 1
        self.queue = torch.zeros(config.latency, n, ROTORS)
        self.reference = tasks.Reference(n)
        self.reach = torch.ones(n)
        self.event_step = torch.zeros(n, dtype=torch.int64)
        self.change = torch.zeros(n)
        self.total, self.squares = torch.zeros(n), torch.zeros(n)
        self._sensor = torch.Generator().manual_seed(0)
        kernel.threads(config.threads)

    # Physics, differentiable with respect to state and action

    def advance(self, state: Tensor, action: Tensor) -> Tensor:
        """The states (B, 17) one control period after `state` under motor commands (B, 4) in [-1, 1]."""
        setpoint = (action.clamp(-1, 1) + 1) / 2
        for _ in range(self.config.substeps):
            state = CompiledStep.apply(state, setpoint, self.work, self.config.dt / self.config.substeps)
        return state

    def errors(self, state: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Position and velocity (B, 3) relative to the reference at control periods `steps` (B,)."""
        where, speed = self.reference.at(steps * self.config.dt)
        return state[:, 0:3] - where, state[:, 7:10] - speed

    def refresh(self, ids: Tensor) -> None:
        """Make changes of `params` in the worlds `ids` count."""
        constants = dynamics.constants(vehicle.select(self.params, ids)).numpy()
        kernel.fill(self.work, ids.numpy(), constants)

    def assign(self, numbers: Tensor | None) -> None:
        """From their next episodes on, worlds fly these vehicles (B,) of the fleet, or any vehicles."""
        if numbers is None:
            self.assigned = None
            return
        if not 0 <= int(numbers.min()) <= int(numbers.max()) < self.config.fleet:
            raise ConfigError(
                f"the fleet has vehicles 0 to {self.config.fleet - 1}, not {int(numbers.min())} to {int(numbers.max())}"
            )
        self.assigned = numbers.expand(self.num_envs).clone()

    def vehicles(self) -> vehicle.Params:
        """The fleet, (fleet, …), its outer forces those of a median draw."""
        rest = torch.full((self.config.fleet, vehicle.Distribution.DRAWS), 0.5)
        rest[:, : vehicle.Distribution.FORCE] = self._draws[:, : vehicle.Distribution.FORCE]
        return self.distribution.sample(rest)

    # The five methods of an environment

    def _reset(self, ids: Tensor) -> None:
        config = self.config
        body, start, path, event, wind = self.draw(ids, sum(_KINDS)).split(_KINDS, dim=1)
        if self.assigned is not None:
            body = torch.cat(
                [self._draws[self.assigned[ids], : vehicle.Distribution.FORCE], body[:, vehicle.Distribution.FORCE :]], 1
            )
        if self._fleet is None:
            vehicles = self.distribution.sample(body)
        else:
            vehicles = vehicle.select(self._fleet, self.episode[ids] % len(self.table))
            vehicles = {name: value.clone() for name, value in vehicles.items()}
        vehicles["drag"] = vehicles["drag"] + config.drag * vehicles["mass"][:, None]
        vehicles["wind"] = torch.cat([config.wind * (2 * wind - 1), torch.zeros(len(ids), 1)], dim=1)
        for name, value in vehicles.items():
            self.params[name][ids] = value
            self.nominal[name][ids] = value
        self.reach[ids] = vehicle.arm_length(vehicles)
        self.refresh(ids)
        self.reference.begin(ids, config.reference, path)
        state = tasks.start(config.start, vehicles, start)
        where, speed = self.reference.at(torch.zeros(self.num_envs))
        state[:, 0:3] += where[ids]
        state[:, 7:10] += speed[ids]
        self.state[ids] = state
        self.last[ids] = 0
        self.queue[:, ids] = 0
        low, high = config.event.time
        self._event_draws = getattr(self, "_event_draws", torch.zeros(self.num_envs, tasks.EventConfig.DRAWS))
        self._event_draws[ids] = event
        self.event_step[ids] = ((low + (high - low) * event[:, 0]) / config.dt).long()
        for value in (self.change, self.total, self.squares):
            value[ids] = 0

    def _apply(self, action: Tensor) -> None:
        config = self.config
        self._events()
        effective = action
        if config.latency:
            effective = self.queue[-1].clone()
            self.queue = torch.cat([action[None], self.queue[:-1]])
        with torch.no_grad():
            self.state = self.advance(self.state, effective)
        if config.ground is not None:
            self._land(config.ground)
        self.change = (action - self.last).norm(dim=1)
        self.last = action.clamp(-1, 1).clone()

    def _observe(self) -> Observation:
        position, velocity = self.errors(self.state, self.steps)
        noise = self.config.noise
        observation = {
            "position": position,
            "rotation": dynamics.rotation(self.state[:, 3:7]),
            "velocity": velocity,
            "rate": self.state[:, 10:13].clone(),
            "last_action": self.last.clone(),
        }
        for name in ("position", "rotation", "velocity", "rate"):
            std = getattr(noise, name)
            if std:
                draws = self.draw(torch.arange(self.num_envs), observation[name][0].numel(), _stream(name, self.steps))
                observation[name] = observation[name] + std * vehicle.normal(draws).reshape(observation[name].shape)
        return observation

    def _reward(self) -> dict[str, Tensor]:
        weights = self.config.reward
        error = self.errors(self.state, self.steps)[0].norm(dim=1)
        yaw = 2 * torch.acos((1 - self.state[:, 6].abs()).clamp(-1, 1))
        failed = self._failed().float()
        terms = {
            "alive": torch.full_like(error, weights.alive),
            "position": -weights.position * error,
            "yaw": -weights.yaw * yaw,
            "action": -weights.action * self.change,
            "terminated": -weights.terminated * failed,
        }
        self.total += torch.stack(list(terms.values())).sum(0)
        self.squares += error**2
        return terms

    def _terminated(self) -> Tensor:
        return self._failed() if self.config.limits.terminate else torch.zeros(self.num_envs, dtype=torch.bool)

    def metrics(self) -> dict[str, Tensor]:
        error = self.errors(self.state, self.steps)[0].norm(dim=1)
        failed = self._failed() if self.config.limits.terminate else error > self.config.limits.lost
        which = self.episode % max(len(self.table), 1)
        return {
            "success": (~failed).float(), "lost": (error > self.config.limits.lost).float(), "final_error": error,
            "rmse": torch.sqrt(self.squares / self.steps.clamp_min(1)), "return": self.total,
            "time": self.steps * self.config.dt, "vehicle": which, "mass": self.params["mass"],
            "thrust_to_weight": vehicle.thrust_to_weight(self.params),
        }  # fmt: skip

    def _failed(self) -> Tensor:
        limits = self.config.limits
        position, _ = self.errors(self.state, self.steps)
        return (
            (position.abs() > limits.position_arms * self.reach[:, None]).any(1)
            | (self.state[:, 7:10].abs() > limits.velocity).any(1)
            | (self.state[:, 10:13].abs() > limits.rate).any(1)
        )

    def _events(self) -> None:
        event = self.config.event
        if not (event.push or event.payload or event.loss or event.propeller):
            return
        ids = torch.nonzero(self.steps == self.event_step).flatten()
        if len(ids):
            self.state[ids, 7:10] += tasks.happen(event, self.params, ids, self._event_draws[ids])
            self.refresh(ids)

    def _land(self, ground: float) -> None:
        """What is below the ground stands on it: no downward speed, and friction takes the rest in a tenth of a second."""
        below = self.state[:, 2] < ground
        self.state[:, 2] = self.state[:, 2].clamp_min(ground)
        keep = torch.where(below, 0.9, 1.0)[:, None]
        self.state[:, 9] = torch.where(below, self.state[:, 9].clamp_min(0), self.state[:, 9])
        self.state[:, 7:9] *= keep
        self.state[:, 10:13] *= keep


def _stream(name: str, steps: Tensor) -> Tensor:
    """Numbers that keep sensors and moments apart."""
    return 16 * (steps + 1) + ("position", "rotation", "velocity", "rate").index(name)


def _check(config: QuadrotorConfig) -> None:
    if config.vehicle not in (SAMPLED, TABLE, *vehicle.names()):
        raise ConfigError(f"env.vehicle: no '{config.vehicle}'; there are {', '.join((SAMPLED, TABLE, *vehicle.names()))}")
    if config.num_envs < 1 or config.dt <= 0 or config.substeps < 1 or config.time_limit < config.dt or config.latency < 0:
        raise ConfigError(
            "env: num_envs and substeps must be at least 1, dt positive, time_limit at least dt, latency not negative"
        )
    if config.fleet < 0 or (config.fleet and config.vehicle != SAMPLED):
        raise ConfigError(
            f"env.fleet={config.fleet}: a number of sampled vehicles, not negative and only with env.vehicle=sampled"
        )
    if not 0 <= config.event.loss < 1 or config.event.payload <= -1:
        raise ConfigError(f"env.event: loss={config.event.loss} must be in [0, 1), payload={config.event.payload} above -1")
