"""l2f, the simulator RAPTOR was trained in, with our vehicles: `pip install l2f foundation-policy` (compiles for minutes)."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.quadrotor.dynamics import GRAVITY, Params

Floats = NDArray[np.float32]
MOMENTS = ("position", "orientation", "linear_velocity", "angular_velocity", "rpm")
WIDTHS = (3, 4, 3, 3, 4)


class L2F:
    """A batch of l2f's worlds, its size one that l2f is compiled for (8, 16, … 8192)."""

    def __init__(self, vehicles: Params, seed: int = 0, spread: Floats | None = None) -> None:
        import l2f

        self.count = len(vehicles["mass"])
        self.vector: Any = l2f.vector_selector[self.count]
        self.device, self.rng, self.env = l2f.Device(), self.vector.VectorRng(), self.vector.VectorEnvironment()
        self.params, self.state, self.following = (
            self.vector.VectorParameters(), self.vector.VectorState(), self.vector.VectorState(),
        )  # fmt: skip
        self.vector.initialize_rng(self.device, self.rng, seed)
        self.vector.initialize_environment(self.device, self.env)
        self.vector.initial_parameters(self.device, self.env, self.params)
        self.vector.initial_state(self.device, self.env, self.params, self.state)
        single = l2f.Environment()
        l2f.initialize_environment(self.device, single)
        template = json.loads(l2f.parameters_to_json(self.device, single, self.params.parameters[0]))
        filled = []
        for k in range(self.count):
            each = l2f.Parameters()
            text = json.dumps(described(template, vehicles, k, 0.0 if spread is None else float(spread[k])))
            l2f.parameters_from_json(self.device, single, text, each)
            filled.append(each)
        self.params.parameters = filled

    def place(self, states: Floats) -> None:
        """Set the states (B, 17), without outer force."""
        self.vector.initial_state(self.device, self.env, self.params, self.state)
        worlds = self.state.states
        self._set(worlds, states)
        self.state.states = worlds

    def _set(self, worlds: list[Any], states: Floats) -> None:
        for world, row in zip(worlds, states, strict=True):
            first = 0
            for name, width in zip(MOMENTS, WIDTHS, strict=True):
                setattr(world, name, row[first : first + width].tolist())
                first += width

    def sample_forces(self, states: Floats) -> None:
        """As `place`, with the constant outer forces that l2f draws for its vehicles, the same for one seed."""
        self.vector.sample_initial_state(self.device, self.env, self.params, self.state, self.rng)
        worlds = self.state.states
        self._set(worlds, states)
        self.state.states = worlds

    def states(self) -> Floats:
        """(B, 17)."""
        rows = [np.concatenate([getattr(world, name) for name in MOMENTS]) for world in self.state.states]
        return np.array(rows, np.float32)

    def step(self, action: Floats) -> None:
        """One control period under motor commands (B, 4) in [-1, 1]."""
        self.vector.step(self.device, self.env, self.params, self.state, action, self.following, self.rng)
        self.state.assign(self.following)

    def observe(self) -> Floats:
        """What the policy sees, (B, 22)."""
        out = np.zeros((self.count, self.env.OBSERVATION_DIM), np.float32)
        self.vector.observe(self.device, self.env, self.params, self.state, out, self.rng)
        return out[:, :22]


def described(template: dict[str, Any], vehicles: Params, k: int, spread: float) -> dict[str, Any]:
    """One vehicle in l2f's words."""
    get = lambda name: vehicles[name][k].double().tolist()  # noqa: E731
    inertia, constants = get("inertia"), get("torque_constants")
    dynamics = {
        **template["dynamics"],
        "mass": get("mass"),
        "rotor_positions": get("rotor_positions"),
        "rotor_thrust_directions": get("rotor_directions"),
        "rotor_torque_directions": [[0.0, 0.0, float(np.sign(c))] for c in constants],
        "rotor_torque_constants": [abs(c) for c in constants],
        "rotor_thrust_coefficients": get("thrust_coefficients"),
        "rotor_time_constants_rising": get("rise"),
        "rotor_time_constants_falling": get("fall"),
        "gravity": [0.0, 0.0, -GRAVITY],
        "J": np.diag(inertia).tolist(),
        "J_inv": np.diag([1 / j for j in inertia]).tolist(),
    }
    disturbances = {**template["disturbances"], "random_force": {"mean": 0.0, "std": spread}}
    return {**template, "dynamics": dynamics, "disturbances": disturbances}
