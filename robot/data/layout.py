"""Where the files of a LeRobotDataset v3.0 are, and how they are read and written.

    meta/info.json                        schema and totals; written last, so it alone says what the dataset holds
    meta/stats.json  meta/tasks.parquet
    meta/episodes/chunk-000/file-000.parquet   a row an episode: length, place, statistics, `tiller/<header key>`
    data/chunk-000/file-000.parquet            a row a frame, a row group an episode

A shard is one data file with its episodes file. Rows of either that `info.json` does not count are leftovers of an
interrupted write and are ignored.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robot.core.errors import DatasetError
from robot.data.files import replacing

VERSION = "v3.0"
INFO = "meta/info.json"
STATS = "meta/stats.json"
TASKS = "meta/tasks.parquet"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEOS = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
FILES_PER_CHUNK = 1000
HEADER_PREFIX = "tiller/"
STATS_PREFIX = "stats/"


def place(shard: int) -> dict[str, int]:
    """Chunk and file number of a shard."""
    return {"chunk_index": shard // FILES_PER_CHUNK, "file_index": shard % FILES_PER_CHUNK}


def read_info(root: Path) -> dict[str, Any]:
    """meta/info.json, or a DatasetError that says how to get a dataset."""
    path = root / INFO
    if not path.is_file():
        raise DatasetError(f"no dataset in '{root}'; collect one with: python -m robot.collect env=<name> output={root}")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version, _, _, _ = (info[key] for key in ("codebase_version", "total_episodes", "features", "fps"))
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"'{path}' is not a dataset description ({error!r}); collect into another folder") from error
    if not str(version).startswith("v3."):
        raise DatasetError(f"'{path}' has format {version}; accepted: {VERSION} (lerobot's converters bring older ones up)")
    return info


def open_parquet(path: Path) -> pq.ParquetFile:
    """An open parquet file, or a DatasetError that says what to do."""
    try:
        return pq.ParquetFile(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise broken(path, error) from error


def broken(path: Path, error: Exception | str) -> DatasetError:
    """The error for a file that is missing, cut short or damaged."""
    reason = "the file is missing" if isinstance(error, FileNotFoundError) else (str(error).splitlines() or ["unreadable"])[0]
    return DatasetError(
        f"'{path}' cannot be read: {reason}; delete this file and run the same collection with resume=true, "
        "which makes its episodes again"
    )


def read_episodes(path: Path, with_stats: bool) -> pa.Table:
    """The rows of one episodes file."""
    file = open_parquet(path)
    names = [name for name in file.schema_arrow.names if with_stats or not name.startswith(STATS_PREFIX)]
    try:
        return file.read(names)
    except (OSError, pa.ArrowException) as error:
        raise broken(path, error) from error


def write_parquet(path: Path, tables: list[pa.Table]) -> None:
    """One row group a table; whole or not at all."""
    with (
        replacing(path) as temporary,
        pq.ParquetWriter(
            temporary, tables[0].schema, compression="zstd", use_dictionary=False, write_page_checksum=True
        ) as writer,
    ):
        for table in tables:
            writer.write_table(table, row_group_size=max(table.num_rows, 1))


def tasks_table(tasks: list[str]) -> pa.Table:
    """Task texts and numbers; the text is the index of the table that pandas reads."""
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
        for name, kind, stored in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
