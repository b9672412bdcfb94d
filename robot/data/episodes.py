"""Episodes, and datasets of episodes on disk in the LeRobotDataset v3.0 layout (see `layout`)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from robot.core.errors import DatasetError, InterfaceError
from robot.core.interface import Interface
from robot.data import columns, foreign, layout, statistics
from robot.data.columns import Column
from robot.data.files import TEMPORARY, write_json

Header = dict[str, bool | int | float | str]


@dataclass
class Episode:
    """One run from reset to end.

    Attributes:
        arrays: (T, …) each: `observation.<field>` and `action` of the Interface, `reward`, `terminated` (datasets of others may
            lack the last two).
        header: what is known of the whole episode: seed, episode number, success, scene family, …
    """

    arrays: dict[str, NDArray[Any]]
    header: Header = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.arrays[columns.ACTION])

    @property
    def observation(self) -> dict[str, NDArray[Any]]:
        """The observation arrays by field name of the Interface."""
        prefix = columns.PREFIX
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}


class EpisodeDataset:
    """A dataset on disk, read episode by episode.

    Attributes:
        root: its folder.
        info: the contents of meta/info.json.
        interface: what the recorded env and the policies trained on it speak.
        lengths: frames of each episode, (N,).
        headers: header columns (N,) by name.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.info = layout.read_info(self.root)
        self.interface, self.columns = _describe(self.info, self.root / layout.INFO)
        rows = self._rows()
        self.lengths = rows["length"].to_numpy()
        self._file = np.stack([rows["data/chunk_index"].to_numpy(), rows["data/file_index"].to_numpy()], 1)
        self._start = rows["dataset_from_index"].to_numpy()
        first: dict[tuple[int, int], int] = {}
        for place, start in zip(map(tuple, self._file.tolist()), self._start.tolist(), strict=True):
            first.setdefault(place, start)
        self._first = first
        prefix = layout.HEADER_PREFIX
        self.headers = {name.removeprefix(prefix): rows[name].to_numpy() for name in rows.column_names if name.startswith(prefix)}
        parts = ("chunk_index", "file_index", "from_timestamp")
        self._videos = {
            c.name: [rows[f"videos/{c.name}/{part}"].to_numpy() for part in parts] for c in self.columns if c.kind == "video"
        }
        self._open: tuple[Path, pq.ParquetFile] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Episode]:
        return (self.episode(i) for i in range(len(self)))

    def episode(self, i: int) -> Episode:
        """Episode `i` of the dataset; a DatasetError names the file that is damaged."""
        packed = self.packed(i)
        arrays = {column.key: column.unpack(packed[column.key]) for column in self.columns}
        return Episode(arrays, {name: _plain(values[i]) for name, values in self.headers.items()})

    def packed(self, i: int) -> dict[str, NDArray[Any]]:
        """The arrays of episode `i` as they are stored (depth in millimetres), by array name."""
        if not 0 <= i < len(self):
            raise DatasetError(f"no episode {i} in '{self.root}', which has {len(self)}")
        place = tuple(self._file[i].tolist())
        path = self.root / self.info.get("data_path", layout.DATA).format(chunk_index=place[0], file_index=place[1])
        start, length = int(self._start[i]) - self._first[place], int(self.lengths[i])
        try:
            table = self._read(path, start, length)
            if table.num_rows != length:
                raise ValueError(f"episode {i} has {table.num_rows} frames there instead of {length}")
            arrays = {c.key: c.from_arrow(table[c.name]) for c in self.columns if c.kind != "video"}
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise layout.broken(path, error) from error
        return arrays | {c.key: self._video(c, i) for c in self.columns if c.kind == "video"}

    def _video(self, column: Column, i: int) -> NDArray[np.uint8]:
        """The frames of episode `i` of a camera that was recorded as video."""
        chunk, file, start = self._videos[column.name]
        pattern = self.info.get("video_path") or layout.VIDEOS
        path = self.root / pattern.format(video_key=column.name, chunk_index=int(chunk[i]), file_index=int(file[i]))
        try:
            return foreign.decode_video(path, float(start[i]), int(self.lengths[i]))
        except (OSError, ValueError) as error:
            raise layout.broken(path, error) from error

    def require(self, interface: Interface) -> None:
        """Raise a DatasetError unless the dataset was recorded with `interface`."""
        differences = interface.compare(self.interface)
        if differences:
            raise DatasetError(
                f"dataset '{self.root}' does not fit: {'; '.join(differences)}; "
                "collect one with this env, or use the env that it was collected with"
            )

    def _rows(self) -> pa.Table:
        """The episodes that info.json counts, without their statistics."""
        count = int(self.info["total_episodes"])
        if count < 1:
            raise DatasetError(f"the dataset in '{self.root}' has no episodes; collect some with: python -m robot.collect")
        tables: list[pa.Table] = []
        for path in sorted((self.root / "meta" / "episodes").glob("*/*.parquet")):
            if sum(table.num_rows for table in tables) >= count:
                break
            tables.append(layout.read_episodes(path, with_stats=False))
        rows = pa.concat_tables(tables, promote_options="default").slice(0, count) if tables else pa.table({})
        if rows.num_rows != count or rows["episode_index"].to_pylist() != list(range(count)):
            missing = self.root / layout.EPISODES.format(**layout.place(len(tables)))
            raise layout.broken(missing, f"{rows.num_rows} of {count} episodes found")
        return rows

    def _read(self, path: Path, start: int, length: int) -> pa.Table:
        """Rows start … start + length - 1 of a data file."""
        if self._open is None or self._open[0] != path:
            self._open = (path, layout.open_parquet(path))
        file = self._open[1]
        ends = np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)])
        first, last = np.searchsorted(ends, [start, start + length - 1], side="right")
        groups = list(range(int(first), min(int(last) + 1, file.num_row_groups)))
        table = file.read_row_groups(groups, [c.name for c in self.columns if c.kind != "video"])
        return table.slice(start - (int(ends[first - 1]) if first else 0), length)


class DatasetWriter:
    """Appends episodes to a dataset in shards of `episodes_per_file`.

    A shard becomes part of the dataset in one step, when meta/info.json is replaced. A process may be killed at any
    moment: opening again with `resume` goes on after the last whole shard, and the finished files are the same, byte for
    byte, as those of an uninterrupted run. Use it as a context manager, or call `close`, to write the last, shorter shard.
    """

    def __init__(
        self,
        root: str | Path,
        interface: Interface,
        info: Mapping[str, Any],
        episodes_per_file: int = 100,
        resume: bool = False,
    ) -> None:
        """`info` (what JSON can hold: env and policy config, seed, task, …) is kept under "tiller" in meta/info.json."""
        self.root = Path(root)
        self.interface = interface
        self.columns = columns.of_interface(interface)
        self.tiller = {
            **json.loads(json.dumps(info)),
            "interface": json.loads(interface.to_json()),
            "episodes_per_file": episodes_per_file,
        }
        self._size = episodes_per_file
        self._task = str(info.get("task", "no task"))
        self._tasks: list[str] = []
        self._types: dict[str, str] | None = None
        self._shards = 0
        self._frames = 0
        self._stats: dict[str, statistics.Stats] = {}
        self._pending: list[Episode] = []
        self._saved = 0
        if (self.root / layout.INFO).exists():
            if not resume:
                raise DatasetError(f"'{self.root}' holds a dataset already; go on with resume=true, or choose another output")
            self._recover()
        self._clean()

    def __len__(self) -> int:
        """Episodes appended so far, those of earlier runs included."""
        return self._shards * self._size + len(self._pending)

    def __enter__(self) -> "DatasetWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, episode: Episode) -> None:
        """Add one episode; a DatasetError names the array or header key that does not fit."""
        self._check(episode)
        self._pending.append(episode)
        if len(self._pending) == self._size:
            self._flush()

    def close(self) -> None:
        """Write what is pending as a last, shorter shard."""
        if len(self._pending) > self._saved:
            self._flush()

    def _check(self, episode: Episode) -> None:
        for column in self.columns:
            array = episode.arrays.get(column.key)
            expected = (len(episode), *column.shape)
            if array is None or array.shape != expected or not len(episode):
                found = "is missing" if array is None else f"has shape {array.shape}"
                raise DatasetError(
                    f"episode {len(self)}: array '{column.key}' {found}, expected {expected} with at least one frame"
                )
            reason = column.refuses(array)
            if reason:
                raise DatasetError(f"episode {len(self)}: array '{column.key}' {reason}")
        types = {key: _kind(key, value) for key, value in episode.header.items()}
        self._types = self._types or types
        if types != self._types:
            raise DatasetError(f"episode {len(self)}: header {types} differs from the dataset's {self._types}")

    def _flush(self) -> None:
        """Write the pending episodes as the current shard: frames, episode rows, totals, and info.json last."""
        place = layout.place(self._shards)
        frames = self._frames
        tables, rows, stats = [], [], [self._stats] if self._stats else []
        for number, episode in enumerate(self._pending, self._shards * self._size):
            arrays = self._stored(episode, number, frames)
            stats.append({c.name: c.statistics(arrays[c.name]) for c in (*self.columns, *columns.DERIVED)})
            tables.append(self._frame_table(arrays))
            rows.append(self._row(episode, number, frames, stats[-1]))
            frames += len(episode)
        total = {name: statistics.merge(part[name] for part in stats) for name in stats[-1]}
        layout.write_parquet(self.root / layout.DATA.format(**place), tables)
        layout.write_parquet(self.root / layout.EPISODES.format(**place), [pa.Table.from_pylist(rows)])
        layout.write_parquet(self.root / layout.TASKS, [layout.tasks_table(self._tasks)])
        write_json(self.root / layout.STATS, {n: {k: v.tolist() for k, v in s.items()} for n, s in total.items()})
        write_json(self.root / layout.INFO, self._info(len(self), frames))
        self._saved = len(self._pending)
        if self._saved == self._size:
            self._shards, self._frames, self._stats = self._shards + 1, frames, total
            self._pending, self._saved = [], 0

    def _stored(self, episode: Episode, number: int, first: int) -> dict[str, NDArray[Any]]:
        """Packed arrays by column name, those that place the frames included."""
        length = len(episode)
        task = str(episode.header.get("task", self._task))
        if task not in self._tasks:
            self._tasks.append(task)
        frame = np.arange(length, dtype=np.int64)
        arrays = {column.name: column.pack(episode.arrays[column.key]) for column in self.columns}
        return arrays | {
            "next.done": frame == length - 1,
            "timestamp": (frame * self.interface.dt).astype(np.float32),
            "frame_index": frame,
            "episode_index": np.full(length, number, np.int64),
            "index": frame + first,
            "task_index": np.full(length, self._tasks.index(task), np.int64),
        }

    def _frame_table(self, arrays: dict[str, NDArray[Any]]) -> pa.Table:
        used = (*self.columns, *columns.DERIVED)
        table = pa.table({column.name: column.to_arrow(arrays[column.name]) for column in used})
        features = {column.name: column.hub_feature() for column in used}
        return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})

    def _row(self, episode: Episode, number: int, first: int, stats: dict[str, statistics.Stats]) -> dict[str, Any]:
        place = layout.place(self._shards)
        row = {
            "episode_index": number,
            "tasks": [str(episode.header.get("task", self._task))],
            "length": len(episode),
            "dataset_from_index": first,
            "dataset_to_index": first + len(episode),
        }
        for group in ("data", "meta/episodes"):
            row |= {f"{group}/{key}": value for key, value in place.items()}
        row |= {f"{layout.HEADER_PREFIX}{key}": _plain(value) for key, value in episode.header.items()}
        for name, values in stats.items():
            row |= {f"{layout.STATS_PREFIX}{name}/{key}": values[key].tolist() for key in statistics.KEYS}
        return row

    def _info(self, episodes: int, frames: int) -> dict[str, Any]:
        rate = 1.0 / self.interface.dt
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self.tiller.get("robot_type"),
            "total_episodes": episodes,
            "total_frames": frames,
            "total_tasks": len(self._tasks),
            "chunks_size": layout.FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": round(rate) if abs(rate - round(rate)) < 1e-9 else rate,
            "splits": {"train": f"0:{episodes}"},
            "data_path": layout.DATA,
            "video_path": None,
            "features": {c.name: c.feature() for c in (*self.columns, *columns.DERIVED)},
            "tiller": {**self.tiller, "header": self._types},
        }

    def _recover(self) -> None:
        """Take over the whole shards on disk, and the episodes of a last shorter one as pending."""
        info = layout.read_info(self.root)
        found = dict(info.get("tiller") or {})
        self._types = found.pop("header", None)
        differing = sorted(key for key in found.keys() | self.tiller.keys() if found.get(key) != self.tiller.get(key))
        if differing:
            raise DatasetError(
                f"cannot resume '{self.root}': it was collected with another {', '.join(differing)}; choose another output"
            )
        count = self._intact(int(info["total_episodes"]))
        whole = count // self._size
        for shard in range(whole):
            self._take(layout.read_episodes(self.root / layout.EPISODES.format(**layout.place(shard)), with_stats=True))
        self._shards = whole
        if count < info["total_episodes"] and whole:
            write_json(self.root / layout.INFO, self._info(count, self._frames))
        elif count < info["total_episodes"]:
            (self.root / layout.INFO).unlink()
        elif count > whole * self._size:
            dataset = EpisodeDataset(self.root)
            self._pending = [dataset.episode(i) for i in range(whole * self._size, count)]
            self._saved = len(self._pending)

    def _take(self, rows: pa.Table) -> None:
        """Count the episodes of a whole shard in."""
        for row in rows.to_pylist():
            self._frames += row["length"]
            self._tasks += [task for task in row["tasks"] if task not in self._tasks]
            for column in (*self.columns, *columns.DERIVED):
                prefix = f"{layout.STATS_PREFIX}{column.name}/"
                part = {key: np.array(row[prefix + key]) for key in statistics.KEYS}
                known = self._stats.get(column.name)
                self._stats[column.name] = statistics.merge([known, part] if known else [part])

    def _intact(self, count: int) -> int:
        """How many of the `count` episodes stand in shards whose files can be opened, counted from the first."""
        for start in range(0, count, self._size):
            place = layout.place(start // self._size)
            expected = min(start + self._size, count) - start
            try:
                rows = layout.read_episodes(self.root / layout.EPISODES.format(**place), with_stats=False)
                frames = layout.open_parquet(self.root / layout.DATA.format(**place)).metadata.num_rows
            except DatasetError:
                return start
            if rows.num_rows < expected or frames < sum(rows["length"].to_pylist()[:expected]):
                return start
        return count

    def _clean(self) -> None:
        """Remove what an interrupted write left behind."""
        shards = self._shards + bool(self._pending)
        for pattern in (layout.DATA, layout.EPISODES):
            keep = {self.root / pattern.format(**layout.place(shard)) for shard in range(shards)}
            for path in (self.root / pattern).parent.parent.glob("chunk-*/file-*.parquet*"):
                if path not in keep:
                    path.unlink()
        for name in (layout.INFO, layout.STATS, layout.TASKS):
            (self.root / (name + TEMPORARY)).unlink(missing_ok=True)


def _describe(info: Mapping[str, Any], where: Path) -> tuple[Interface, list[Column]]:
    """Interface and columns, as recorded or, in a dataset of others, as its features imply."""
    try:
        if "tiller" not in info:
            return foreign.describe(info, where)
        interface = Interface.from_json(json.dumps(info["tiller"]["interface"]))
        return interface, columns.of_interface(interface)
    except (KeyError, TypeError, ValueError, InterfaceError) as error:
        raise DatasetError(f"'{where}' does not say what the dataset holds: {error!r}; collect into another folder") from error


def _plain(value: Any) -> Any:
    """A Python number or text from a numpy scalar or 0-d array."""
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def _kind(key: str, value: Any) -> str:
    kind = type(_plain(value)).__name__
    if kind not in ("bool", "int", "float", "str"):
        raise DatasetError(f"header '{key}' is a {kind}; accepted: bool, int, float, str")
    return kind
