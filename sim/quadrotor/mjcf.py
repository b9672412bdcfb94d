"""A quadrotor as MJCF: the same rigid body for MuJoCo, which shares no code with ours and so can check it.

A free body with four actuators that each take the thrust of one rotor [N]; motors, drag, wind and outer forces are left to
the caller. MuJoCo's free joint has our conventions: position_w, quaternion wxyz, velocity_w, body rates_b.
"""

from torch import Tensor

from robot.core.errors import ConfigError
from sim.quadrotor.dynamics import GRAVITY, ROTORS, Params


def mjcf(params: Params, timestep: float = 0.001) -> str:
    """The model of one vehicle (tensors with a batch of one, as `sim.quadrotor.vehicle.load` gives), integrated by RK4.

    An actuator acts at its rotor's hub along the rotor's direction d with the force T d and the drag torque k T d.

    Args:
        timestep: of MuJoCo's integrator [s].
    """
    if len(params["mass"]) != 1:
        raise ConfigError(f"params: an MJCF is of one vehicle, these are {len(params['mass'])}; take one with vehicle.select")
    hubs, directions, torques = (params[k][0] for k in ("rotor_positions", "rotor_directions", "torque_constants"))
    sites = "".join(f'\n      <site name="rotor{i}" pos="{_row(hubs[i])}"/>' for i in range(ROTORS))
    motors = "".join(
        f'\n    <general name="rotor{i}" site="rotor{i}" gear="{_row(directions[i])} {_row(torques[i] * directions[i])}"/>'
        for i in range(ROTORS)
    )
    return f"""<mujoco model="quadrotor">
  <option timestep="{timestep!r}" gravity="0 0 {-GRAVITY!r}" integrator="RK4">
    <flag contact="disable"/>
  </option>
  <worldbody>
    <body name="vehicle">
      <freejoint name="vehicle"/>
      <inertial pos="0 0 0" mass="{_row(params["mass"])}" diaginertia="{_row(params["inertia"][0])}"/>{sites}
    </body>
  </worldbody>
  <actuator>{motors}
  </actuator>
</mujoco>
"""


def _row(values: Tensor) -> str:
    return " ".join(f"{value:.9g}" for value in values.flatten().tolist())
