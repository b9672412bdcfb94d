"""Human PushT demonstrations as a dataset: `python -m robot.examples.convert_pusht source=<file> output=data/pusht_human`.

With mirror=true every episode is written twice, the second time in the mirror that the task is symmetric to.

`source` is an .npz with the arrays state, action and episode_ends, or the original zarr store as a folder (Diffusion Policy,
`pusht_cchi_v7_replay.zarr`, https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from robot.core.errors import DatasetError, TillerError
from robot.data.episodes import DatasetWriter, Episode
from robot.data.zarr import read_array
from sim import gym
from sim.pusht.physics import Tables


def read(source: Path) -> dict[str, np.ndarray]:
    """state (F, 5), action (F, 2) and episode_ends (N,)."""
    names = ("state", "action", "episode_ends")
    try:
        if source.is_dir():
            return {name: read_array(next(source.glob(f"*/{name}"))) for name in names}
        with np.load(source) as file:
            return {name: file[name] for name in names}
    except (OSError, KeyError, ValueError, StopIteration) as error:
        raise DatasetError(f"source: '{source}' is no store of PushT demonstrations ({error!r})") from error


def mirrored(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same episode in the mirror along the T's goal, which table, goal and T are symmetric to (the walls to a pixel)."""
    flip = {name: 512 - columns[name][:, 1::-1] for name in ("agent", "action")}
    block = np.column_stack([512 - columns["block"][:, 1::-1], (np.pi / 2 - columns["block"][:, 2]) % (2 * np.pi)])
    return {**columns, **flip, "agent_velocity": -columns["agent_velocity"][:, ::-1], "block": block}


def episodes(data: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    """Observations and actions of each episode; velocities were not recorded and are replayed, exact to 1e-4 px."""
    first, tables = 0, Tables(1)
    for end in data["episode_ends"].tolist():
        states, actions = data["state"][first:end].astype(np.float64), data["action"][first:end].astype(np.float64)
        tables.place(0, states[0, :2], states[0, 2:])
        velocity = [tables.state[0, 2:4].copy()] + [tables.step(action[None])[0, 2:4].copy() for action in actions[:-1]]
        goal = np.tile([256, 256, np.pi / 4], (end - first, 1))
        yield {
            "agent": states[:, :2], "agent_velocity": np.stack(velocity), "block": states[:, 2:], "goal": goal, "action": actions
        }  # fmt: skip
        first = end


def main(arguments: list[str]) -> None:
    if not arguments:
        print(__doc__)
        return
    given = {"mirror": "false"} | {name: value for name, _, value in (argument.partition("=") for argument in arguments)}
    if set(given) != {"source", "output", "mirror"} or given["mirror"] not in ("true", "false"):
        raise DatasetError(
            "usage: python -m robot.examples.convert_pusht source=<npz or zarr folder> output=<folder> mirror=true"
        )
    env, count, frames = gym.BatchedEnv("pusht", num_envs=1).inner, 0, 0
    with DatasetWriter(given["output"], env.interface, {"task": "pusht", "source": "human"}, 100) as writer:
        for columns in episodes(read(Path(given["source"]).expanduser())):
            for shown in [columns, mirrored(columns)] if given["mirror"] == "true" else [columns]:
                arrays = {name if name == "action" else f"observation.{name}": v.astype(np.float32) for name, v in shown.items()}
                length = len(arrays["action"])
                arrays |= {"reward": np.zeros(length, np.float32), "terminated": np.zeros(length, bool)}
                writer.append(Episode(arrays, {"episode": count}))
                count, frames = count + 1, frames + length
    print(f"{count} episodes, {frames} frames in {given['output']}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except TillerError as error:
        sys.exit(f"error: {error}")
