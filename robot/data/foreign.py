"""Datasets in the LeRobotDataset v3.0 layout that others recorded: their Interface, columns and videos.

What such a dataset does not say (units, frames, bounds) stays empty in the Interface. Colour images, embedded or as
video, become uint8 (H, W, 3); depth images in millimetres become float32 metres; text columns are left out.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import DatasetError
from robot.core.interface import Field, Interface
from robot.core.optional import require
from robot.data import columns
from robot.data.columns import Column

_IMAGES = ("image", "video")


def describe(info: Mapping[str, Any], where: Path) -> tuple[Interface, list[Column]]:
    """The Interface that the features of meta/info.json imply, and the columns to read; `where` is for error messages."""
    features: Mapping[str, Any] = info["features"]
    if columns.ACTION not in features:
        raise DatasetError(f"'{where}' has no feature 'action'; it has {sorted(features)}")
    names = [name for name, feature in features.items() if name.startswith(columns.PREFIX) and feature["dtype"] != "string"]
    found = [_column(name, features[name]) for name in (*names, columns.ACTION)]
    fields = [_field(column) for column in found]
    extra = [column for column in columns.OUTCOME if column.name in features]
    return Interface(tuple(fields[:-1]), fields[-1], 1.0 / float(info["fps"])), [*found, *extra]


def decode_video(path: Path, start: float, count: int) -> NDArray[np.uint8]:
    """`count` frames (count, H, W, 3) of a video from the time `start` [s] on; ValueError when there are fewer."""
    av = require("av", extra="train")
    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            tolerance = 0.5 / float(stream.average_rate)
            container.seek(int(start / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                if frame.time >= start - tolerance and len(frames) < count:
                    frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    return np.stack(frames)
    except FileNotFoundError:
        raise
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"not a readable video: {error}") from error
    raise ValueError(f"{len(frames)} frames from {start:.3f} s on, {count} are needed")


def _column(name: str, feature: Mapping[str, Any]) -> Column:
    shape = tuple(int(n) for n in feature["shape"])
    if feature["dtype"] not in _IMAGES:
        return Column(name, shape, feature["dtype"], "array", _names(feature.get("names"), shape))
    labels = [str(label) for label in feature.get("names") or ()]
    first = labels[:1] in (["channels"], ["channel"], ["c"]) if labels else shape[0] in (1, 3)
    height, width, channels = (*shape[1:], shape[0]) if first and shape[0] in (1, 3) else shape
    info = feature.get("info") or {}
    if info.get("is_depth_map") or info.get("video.is_depth_map"):
        if feature["dtype"] == "video" or info.get("depth_unit", "mm") != "mm":
            raise DatasetError(f"feature '{name}': depth is read from 16-bit PNG in millimetres only")
        return Column(name, (height, width), "float32", "depth")
    return Column(name, (height, width, channels), "uint8", "video" if feature["dtype"] == "video" else "rgb")


def _names(names: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Element names where there is one for each; some datasets nest them as {"motors": [...]}."""
    if isinstance(names, Mapping):
        names = [name for group in names.values() for name in (group if isinstance(group, Iterable) else [group])]
    names = tuple(str(name) for name in names or ())
    return names if shape and len(names) == shape[-1] else ()


def _field(column: Column) -> Field:
    name = column.name.removeprefix(columns.PREFIX)
    if column.kind == "depth":
        return Field(name, column.shape, "float32", "m", low=0.0)
    return Field(name, column.shape, column.dtype, names=column.names)
