"""Windows of `obs_steps` observations and `action_steps` actions, gathered a batch at a time.

The window of frame t holds the observations t - obs_steps + 1 … t and the actions t … t + action_steps - 1. Where it
reaches over the start of its episode the first observation is repeated, where it reaches over the end the last action is,
and `valid` is False: padding is a mask, for the loss to leave out.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import DatasetError
from robot.core.interface import Interface
from robot.data import columns, statistics
from robot.data.columns import Column
from robot.data.episodes import Episode, EpisodeDataset

Array = NDArray[Any]
Batch = dict[str, Array]


class Windows:
    """All windows of some episodes, in memory, one a frame.

    Attributes:
        interface: of the episodes.
        start: first frame of each episode in the concatenation, (N + 1,); the last entry is the number of frames.
    """

    def __init__(
        self,
        episodes: EpisodeDataset | Sequence[Episode],
        obs_steps: int,
        action_steps: int,
        interface: Interface | None = None,
    ) -> None:
        """`interface` is asked for only where `episodes` is not a dataset, which has its own."""
        found = episodes.interface if isinstance(episodes, EpisodeDataset) else interface
        if found is None:
            raise DatasetError("windows over a list of episodes need their Interface")
        self.interface = found
        self.obs_steps = obs_steps
        self.action_steps = action_steps
        known = episodes.columns if isinstance(episodes, EpisodeDataset) else columns.of_interface(found)
        kept = [c for c in known if c.name.startswith(columns.PREFIX) or c.name == columns.ACTION]
        self._columns: dict[str, Column] = {c.key.removeprefix(columns.PREFIX): c for c in kept}
        lengths = episodes.lengths if isinstance(episodes, EpisodeDataset) else np.array([len(e) for e in episodes], np.int64)
        self.start = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        frames = int(self.start[-1])
        if frames == 0:
            raise DatasetError("no frames to make windows of")
        self._data = {name: np.empty((frames, *c.shape), c.storage_dtype) for name, c in self._columns.items()}
        for i in range(len(lengths)):
            self._fill(i, episodes)
        episode = np.repeat(np.arange(len(lengths)), lengths)
        self._first, self._last = self.start[episode], self.start[episode + 1] - 1

    def __len__(self) -> int:
        return int(self.start[-1])

    def gather(self, frames: NDArray[np.int64]) -> Batch:
        """The windows of `frames` (B,): {observation name: (B, obs_steps, …), "action": (B, action_steps, …), "valid":
        bool (B, action_steps)}, fresh arrays."""
        back = frames[:, None] + np.arange(1 - self.obs_steps, 1)
        back = np.maximum(back, self._first[frames, None])
        ahead = frames[:, None] + np.arange(self.action_steps)
        valid = ahead <= self._last[frames, None]
        ahead = np.minimum(ahead, self._last[frames, None])
        batch = {
            name: column.unpack(self._data[name][ahead if name == columns.ACTION else back])
            for name, column in self._columns.items()
        }
        return batch | {"valid": valid}

    def stats(self) -> dict[str, statistics.Stats]:
        """mean, std, min, max and count by field name over all frames: element by element (field.shape); over an image
        one number, shape ()."""
        return {name: self._field_stats(name, column) for name, column in self._columns.items()}

    def _field_stats(self, name: str, column: Column, chunk: int = 4096) -> statistics.Stats:
        axes = (0,) if column.kind == "array" else tuple(range(len(column.shape) + 1))
        data = self._data[name]
        parts = (statistics.of(column.unpack(data[i : i + chunk]), axes) for i in range(0, len(data), chunk))
        return statistics.merge(parts)

    def _fill(self, i: int, episodes: EpisodeDataset | Sequence[Episode]) -> None:
        rows = slice(self.start[i], self.start[i + 1])
        if isinstance(episodes, EpisodeDataset):
            packed = episodes.packed(i)
        else:
            packed = {c.key: c.pack(episodes[i].arrays[c.key]) for c in self._columns.values()}
        for name, column in self._columns.items():
            self._data[name][rows] = packed[column.key]


class Shuffle:
    """Endless batches of windows in an order drawn anew for each pass; the last incomplete batch of a pass is left out.

    All randomness comes from `generator`. `state_dict` is plain JSON data; after `load_state_dict` the same batches follow.
    """

    def __init__(self, windows: Windows, batch_size: int, generator: np.random.Generator) -> None:
        self.windows = windows
        self.batch_size = min(batch_size, len(windows))
        self._generator = generator
        self._begin_pass()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if self._position + self.batch_size > len(self.windows):
            self._begin_pass()
        chosen = self._order[self._position : self._position + self.batch_size]
        self._position += self.batch_size
        return self.windows.gather(chosen)

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self._state, "position": self._position, "windows": len(self.windows)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["windows"] != len(self.windows):
            raise DatasetError(f"this order was drawn over {state['windows']} windows, the dataset has {len(self.windows)}")
        self._generator.bit_generator.state = state["generator"]
        self._begin_pass()
        self._position = int(state["position"])

    def _begin_pass(self) -> None:
        self._state = self._generator.bit_generator.state
        self._order = self._generator.permutation(len(self.windows))
        self._position = 0
