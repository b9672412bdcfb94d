"""How one field of an Interface becomes one column of a parquet file, in the terms of LeRobotDataset v3.

| field | column | stored as |
| --- | --- | --- |
| float image (H, W) in metres, none negative or above 65.535 | `image`, 16-bit PNG in millimetres | struct<bytes, path> |
| uint8 image (H, W, 3) | `image`, PNG | struct<bytes, path> |
| one number, shape () or (1,) | its dtype | value |
| vector (n,) | its dtype | fixed-size list |
| any other shape | its dtype | nested lists |
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from robot.core.interface import Field, Interface
from robot.data import png, statistics

Array = NDArray[Any]

PREFIX = "observation."
ACTION = "action"
NEXT = "next."
MILLIMETRES = 1000
_DEPTH_LIMIT = 65.535
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ROW_NAMES = ("height", "width", "channels")


@dataclass(frozen=True)
class Column:
    """One column of the frame table; `shape` leaves out the frames, `kind` is 'depth', 'rgb', 'array', or 'video'
    for colour images outside the parquet file (read only)."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str = "array"
    names: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of the array in an Episode: 'observation.<field>', 'action', 'reward', 'terminated'."""
        return self.name.removeprefix(NEXT)

    @property
    def storage_dtype(self) -> np.dtype[Any]:
        """What `pack` returns: 2 bytes a depth pixel instead of 4."""
        return np.dtype(np.uint16) if self.kind == "depth" else np.dtype(self.dtype)

    def refuses(self, array: Array) -> str:
        """Why the values of an array cannot be stored, empty if they can."""
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return "is not finite"
        if self.kind == "depth" and (array.min() < 0 or array.max() > _DEPTH_LIMIT):
            return f"has depths outside 0 … {_DEPTH_LIMIT} m: {array.min()} … {array.max()}"
        return ""

    def pack(self, array: Array) -> Array:
        """The array (T, *shape) as it is stored; depth in whole millimetres."""
        if self.kind == "depth":
            return np.rint(np.asarray(array, np.float32) * MILLIMETRES).astype(np.uint16)
        return np.asarray(array, self.dtype)

    def unpack(self, stored: Array) -> Array:
        """The inverse of `pack`, exact to the stored resolution: unpack(pack(unpack(x))) == unpack(x)."""
        if self.kind != "depth":
            return stored
        return np.divide(stored, np.dtype(self.dtype).type(MILLIMETRES), dtype=self.dtype)

    def to_arrow(self, stored: Array) -> pa.Array:
        """A column of T rows from a packed array."""
        if self.kind != "array":
            blobs = pa.array(png.encode(stored), pa.binary())
            return pa.StructArray.from_arrays([blobs, pa.nulls(len(stored), pa.string())], fields=list(_IMAGE))
        flat = pa.array(np.ascontiguousarray(stored).reshape(-1))
        if self.shape in ((), (1,)):
            return flat
        if len(self.shape) == 1:
            return pa.FixedSizeListArray.from_arrays(flat, self.shape[0])
        for size in reversed(self.shape):
            flat = pa.ListArray.from_arrays(np.arange(0, len(flat) + 1, size, dtype=np.int32), flat)
        return flat

    def from_arrow(self, rows: pa.ChunkedArray) -> Array:
        """The packed array (T, *shape) of a column; ValueError when it does not have that shape."""
        values = rows.combine_chunks()
        if self.kind != "array":
            images = png.decode(values.field("bytes").to_pylist())
            return images.reshape(len(values), *self.shape).astype(self.storage_dtype, copy=False)
        while pa.types.is_nested(values.type):
            values = values.flatten()
        return values.to_numpy(zero_copy_only=False).astype(self.dtype, copy=False).reshape(len(rows), *self.shape)

    def statistics(self, stored: Array) -> statistics.Stats:
        """Over the frames; an image has one number a channel, (C, 1, 1): millimetres, or colour scaled to 0 … 1."""
        if self.kind == "array":
            return statistics.of(stored.reshape(len(stored), *(self.shape or (1,))))
        pixels = stored[..., None] if self.kind == "depth" else stored / 255.0
        return {
            name: value if name == "count" else value.reshape(-1, 1, 1)
            for name, value in statistics.of(pixels, (0, 1, 2)).items()
        }

    def feature(self) -> dict[str, Any]:
        """The entry of `features` in meta/info.json."""
        if self.kind == "depth":
            entry = {"dtype": "image", "shape": [*self.shape, 1], "names": list(_ROW_NAMES)}
            return entry | {"info": {"is_depth_map": True, "depth_unit": "mm"}}
        if self.kind == "rgb":
            return {"dtype": "image", "shape": list(self.shape), "names": list(_ROW_NAMES)}
        return {"dtype": self.dtype, "shape": list(self.shape or (1,)), "names": list(self.names) or None}

    def hub_feature(self) -> dict[str, Any]:
        """The same for the reader of Hugging Face `datasets`, kept in the parquet schema."""
        if self.kind != "array":
            return {"_type": "Image"}
        value = {"dtype": self.dtype, "_type": "Value"}
        if self.shape in ((), (1,)):
            return value
        if len(self.shape) == 1:
            return {"feature": value, "length": self.shape[0], "_type": "Sequence"}
        return {"shape": list(self.shape), "dtype": self.dtype, "_type": f"Array{len(self.shape)}D"}


def from_field(field: Field, name: str) -> Column:
    """The column for a field of an Interface."""
    bounded = field.low is not None and field.low >= 0 and (field.high is None or field.high <= _DEPTH_LIMIT)
    dtype = np.dtype(field.dtype)
    if len(field.shape) == 2 and dtype.kind == "f" and field.unit == "m" and bounded:
        return Column(name, field.shape, field.dtype, "depth")
    if len(field.shape) == 3 and field.shape[2] == 3 and dtype == np.uint8:
        return Column(name, field.shape, field.dtype, "rgb")
    return Column(name, field.shape, field.dtype, "array", field.names)


def of_interface(interface: Interface) -> list[Column]:
    """Columns of everything an episode holds: observations, action, reward, termination."""
    columns = [from_field(field, PREFIX + field.name) for field in interface.observation]
    action = Column(ACTION, interface.action.shape, interface.action.dtype, "array", interface.action.names)
    return [*columns, action, *OUTCOME]


OUTCOME = (Column(NEXT + "reward", (), "float32"), Column(NEXT + "terminated", (), "bool"))
"""What a step led to; datasets of others may lack it."""
DERIVED = (
    Column(NEXT + "done", (), "bool"),
    Column("timestamp", (), "float32"),
    Column("frame_index", (), "int64"),
    Column("episode_index", (), "int64"),
    Column("index", (), "int64"),
    Column("task_index", (), "int64"),
)
"""Columns that follow from a frame's place in the dataset; every LeRobot dataset has the last five."""
