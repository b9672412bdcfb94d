"""Human PushT demonstrations as a dataset: `python -m robot.examples.convert_pusht source=<file> output=data/pusht_human`.

`source` is an .npz with the arrays state, action and episode_ends, or the original zarr store as a folder (Diffusion Policy,
`pusht_cchi_v7_replay.zarr`, https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip).
"""

import importlib
import json
import sys
import zlib
from pathlib import Path

import numpy as np

from robot.core.errors import DatasetError, TillerError
from robot.data.episodes import DatasetWriter, Episode
from sim import gym
from sim.pusht.physics import Tables


def read(source: Path) -> dict[str, np.ndarray]:
    """state (F, 5), action (F, 2) and episode_ends (N,)."""
    names = ("state", "action", "episode_ends")
    try:
        if source.is_dir():
            return {name: _zarr(next(source.glob(f"*/{name}"))) for name in names}
        with np.load(source) as file:
            return {name: file[name] for name in names}
    except (OSError, KeyError, ValueError, StopIteration) as error:
        raise DatasetError(f"source: '{source}' is no store of PushT demonstrations ({error!r})") from error


def _zarr(folder: Path) -> np.ndarray:
    """An array of a zarr v2 store, whole rows a chunk; chunks that numcodecs' Blosc packed need the package numcodecs."""
    about = json.loads((folder / ".zarray").read_text())
    files = sorted((f for f in folder.iterdir() if not f.name.startswith(".")), key=lambda f: int(f.name.split(".")[0]))
    kind = (about["compressor"] or {}).get("id")
    if kind == "blosc":
        unpack = importlib.import_module("numcodecs").Blosc().decode
    else:
        unpack = zlib.decompress if kind == "zlib" else bytes
    rows = [np.frombuffer(unpack(f.read_bytes()), about["dtype"]).reshape(about["chunks"]) for f in files]
    return np.concatenate(rows)[: about["shape"][0]]


def main(arguments: list[str]) -> None:
    if not arguments:
        print(__doc__)
        return
    given = {name: value for name, _, value in (argument.partition("=") for argument in arguments)}
    if set(given) != {"source", "output"}:
        raise DatasetError("usage: python -m robot.examples.convert_pusht source=<npz or zarr folder> output=<folder>")
    data = read(Path(given["source"]).expanduser())
    env = gym.BatchedEnv("pusht", num_envs=1).inner
    first, tables = 0, Tables(1)
    with DatasetWriter(given["output"], env.interface, {"task": "pusht", "source": "human"}, 100) as writer:
        for number, end in enumerate(data["episode_ends"].tolist()):
            states, actions = data["state"][first:end].astype(np.float64), data["action"][first:end].astype(np.float64)
            tables.place(0, states[0, :2], states[0, 2:])
            velocity = [tables.state[0, 2:4].copy()]  # not recorded: replayed, and exact to 1e-4 px
            velocity += [tables.step(action[None])[0, 2:4].copy() for action in actions[:-1]]
            goal = np.tile([256, 256, np.pi / 4], (end - first, 1))
            columns = {"agent": states[:, :2], "agent_velocity": np.stack(velocity), "block": states[:, 2:], "goal": goal}
            arrays = {f"observation.{name}": value.astype(np.float32) for name, value in columns.items()}
            arrays |= {"action": actions.astype(np.float32), "reward": np.zeros(end - first, np.float32)}
            writer.append(Episode({**arrays, "terminated": np.zeros(end - first, bool)}, {"episode": number}))
            first = end
    print(f"{len(data['episode_ends'])} episodes, {first} frames in {given['output']}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except TillerError as error:
        sys.exit(f"error: {error}")
