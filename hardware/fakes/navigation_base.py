"""A simulated delivery base in a ROS graph: odometry, depth and a goal out, velocities in; episodes of `navigation`.

    python -m hardware.fakes.navigation_base bridge=ros2 episodes=3 seed=1000000

It drives in real time and stops by itself when no velocity has come for a while, as base controllers do. Between episodes it
tells the node /<node>/transition deactivate and activate. Each episode's outcome, and at its end what it saw, are JSON lines.
"""

import json
import signal
import sys
import time
from typing import Any

import numpy as np

from hardware.fakes.keys import keys
from hardware.ros.bridge import DEFAULT, LATCHED, SENSOR, Bridge, Message
from hardware.ros.lifecycle import wall
from hardware.ros.messages import default

KEYS = {
    "bridge": "ros2", "domain": -1, "url": "", "node": "tiller", "episodes": 1, "first": 0, "seed": 1_000_000,
    "robots": "wheeled", "timeout": 0.25, "split": "test",
}  # fmt: skip
PATIENCE = 20.0
"""How long a node may take to obey an order [s]."""
ACTIVE = "active"


class Base:
    """One world of `navigation` behind topics."""

    def __init__(self, bridge: Bridge, given: dict[str, Any]) -> None:
        import torch

        import sim.gym
        from robot.core.config import build

        torch.set_num_threads(1)
        tasks = {"point": 1.0, "explore": 0.0, "image": 0.0}
        node = sim.gym.config(
            "navigation",
            num_envs=1,
            split=given["split"],
            robots=given["robots"].split(","),
            randomize=0.0,
            tasks=tasks,
            threads=1,
        )
        self.env, self.given = build(node, "env"), given
        self.dt = self.env.config.control_dt
        self.odometry = bridge.advertise("/odom", "nav_msgs/msg/Odometry", SENSOR)
        self.depth = bridge.advertise("/camera/depth/image_rect_raw", "sensor_msgs/msg/Image", SENSOR)
        self.goal = bridge.advertise("/goal_pose", "geometry_msgs/msg/PoseStamped", LATCHED)
        self.orders = bridge.advertise(f"/{given['node']}/transition", "std_msgs/msg/String")
        self.commands = bridge.subscribe("/cmd_vel", "geometry_msgs/msg/Twist", DEFAULT)
        self.states = bridge.subscribe(f"/{given['node']}/state", "lifecycle_msgs/msg/State", LATCHED)
        self.state = ""
        self.due = time.monotonic()
        self.came, self.command = -np.inf, np.zeros(2)
        self.seen = {"commands": 0, "not_finite": 0, "out_of_range": 0, "longest_gap": 0.0}

    def play(self, episode: int) -> dict[str, Any]:
        """One episode; its metrics."""
        self._order("deactivate", lambda: self.state != ACTIVE)
        self.env.reset(seed=self.given["seed"], options={"episode": episode})
        self.command, self.came = np.zeros(2), -np.inf
        self._say_goal()
        for _ in range(3):  # goal and pictures are there before the order
            self._listen()
            self._tell()
            self._wait()
        self._order("activate", lambda: self.state == ACTIVE)
        limit = self.env.config.time_limit
        held = 0.0
        while self.env.clock[0] < limit - 1e-6 and not (self.env.hit[0] or self.env.reached[0]):
            self.tick()
            held += self.dt * (self.state != ACTIVE)
        found = {name: float(value[0]) for name, value in self.env.metrics().items()}
        return {"episode": episode, **found, "held_s": held}

    def tick(self) -> None:
        """Listen, drive, tell; then wait for the next period."""
        self._listen()
        now = time.monotonic()
        command = self.command if now - self.came < self.given["timeout"] else np.zeros(2)
        self.env.advance(command[None])
        self._tell()
        self._wait()

    def _wait(self) -> None:
        self.due = max(self.due + self.dt, time.monotonic() - self.dt)
        time.sleep(max(0.0, self.due - time.monotonic()))

    def _order(self, order: str, done: Any) -> None:
        end, told = time.monotonic() + PATIENCE, 0.0
        while not done() and time.monotonic() < end:
            self._listen()
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                self.orders.publish({"data": order})
            self._tell()
            self._wait()
        if not done():
            sys.exit(f"the node '{self.given['node']}' did not {order} within {PATIENCE} s")

    def _listen(self) -> None:
        for message, _ in self.states.take():
            self.state = message["label"]
        for message, came in self.commands.take():
            values = np.array([message["linear"]["x"], message["angular"]["z"]])
            finite = bool(np.isfinite(values).all())
            body = self.env.robot[0]
            self.seen["commands"] += 1
            self.seen["not_finite"] += not finite
            self.seen["out_of_range"] += finite and bool((np.abs(values) > body[5:7] + 1e-6).any())
            if np.isfinite(self.came):
                self.seen["longest_gap"] = max(self.seen["longest_gap"], came - self.came)
            if finite:
                self.came, self.command = came, np.clip(values, -body[5:7], body[5:7])

    def _say_goal(self) -> None:
        from sim.navigation.motion import to_frame

        x, y, yaw = to_frame(self.env.goal, self.env.start)[0]
        message = default("geometry_msgs/msg/PoseStamped")
        message["header"] = {"stamp": wall(), "frame_id": "odom"}
        message["pose"] = pose(x, y, yaw)
        self.goal.publish(message)

    def _tell(self) -> None:
        seen, stamp = self.env.look(), wall()
        image = np.ascontiguousarray(seen["depth"][0].numpy())
        depth = default("sensor_msgs/msg/Image")
        depth |= {"header": {"stamp": stamp, "frame_id": "camera"}, "height": image.shape[0], "width": image.shape[1]}
        depth |= {"encoding": "32FC1", "step": 4 * image.shape[1], "data": image.view(np.uint8).ravel()}
        self.depth.publish(depth)
        odometry = default("nav_msgs/msg/Odometry")
        odometry["header"], odometry["child_frame_id"] = {"stamp": stamp, "frame_id": "odom"}, "base_link"
        odometry["pose"]["pose"] = pose(*self.env.odometry[0])
        twist = odometry["twist"]["twist"]
        twist["linear"]["x"], twist["angular"]["z"] = map(float, self.env.velocity[0])
        self.odometry.publish(odometry)


def pose(x: float, y: float, yaw: float) -> Message:
    """geometry_msgs/Pose."""
    turn = {"x": 0.0, "y": 0.0, "z": float(np.sin(yaw / 2)), "w": float(np.cos(yaw / 2))}
    return {"position": {"x": float(x), "y": float(y), "z": 0.0}, "orientation": turn}


def into(name: str, given: dict[str, Any]) -> Bridge:
    """The bridge of configs/bridge, with a domain or url of its own."""
    from omegaconf import OmegaConf

    from robot.core.config import build
    from robot.core.paths import CONFIGS

    node: Any = OmegaConf.to_container(OmegaConf.load(CONFIGS / "bridge" / f"{name}.yaml"))
    node |= {key: given[key] for key, none in (("domain", -1), ("url", "")) if key in node and given[key] != none}
    return build(node, "bridge")


def main() -> None:
    """Play the episodes and end."""
    given = keys(KEYS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with into(given["bridge"], given) as bridge:
        base = Base(bridge, given)
        print("ready", flush=True)
        for number in range(given["first"], given["first"] + given["episodes"]):
            print(json.dumps(base.play(number)), flush=True)
        base.orders.publish({"data": "shutdown"})
        time.sleep(0.2)
        print(json.dumps({"device": base.seen}), flush=True)


if __name__ == "__main__":
    main()
