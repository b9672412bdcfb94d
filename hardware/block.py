"""Memory that two processes share, one writing, one reading: numbers around a record and a checksum say whether it is whole."""

import mmap
import os
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
HEAD = struct.Struct("<QQdI")
"""Number of the record, twice (the second one after everything else), a stamp [s], and a checksum of the arrays."""


class Block:
    """Named arrays of fixed shapes in an anonymous file; pass `fd` to the other process.

    The reader never waits and the writer never asks: a record that is being written is no record.
    """

    def __init__(self, shapes: dict[str, tuple[tuple[int, ...], str]], fd: int | None = None) -> None:
        """shapes: (shape, dtype) of each array, the same on both sides; `fd` of the block that the other side made."""
        self.shapes = shapes
        sizes = [int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in shapes.values()]
        self.size = HEAD.size + sum(sizes)
        self.fd = os.memfd_create("tiller") if fd is None else fd
        if fd is None:
            os.ftruncate(self.fd, self.size)
        self.memory = mmap.mmap(self.fd, self.size)
        self.number = 0

    def write(self, arrays: dict[str, Array], stamp: float) -> int:
        """Publish a record; its number."""
        body = b"".join(np.ascontiguousarray(arrays[name], dtype).tobytes() for name, (_, dtype) in self.shapes.items())
        self.number += 1
        self.memory[:8] = struct.pack("<Q", self.number)
        self.memory[16:24] = struct.pack("<d", stamp)
        self.memory[24:28] = struct.pack("<I", zlib.crc32(body))
        self.memory[HEAD.size :] = body
        self.memory[8:16] = struct.pack("<Q", self.number)
        return self.number

    def read(self, after: int = 0) -> tuple[dict[str, Array], float, int] | None:
        """The newest whole record, its stamp and its number, or None where there is none newer than `after`."""
        second = struct.unpack("<Q", self.memory[8:16])[0]
        if second <= after:
            return None
        whole = bytes(self.memory[:])
        first, _, stamp, check = HEAD.unpack(whole[: HEAD.size])
        if first != second or zlib.crc32(whole[HEAD.size :]) != check:
            return None
        arrays, at = {}, HEAD.size
        for name, (shape, dtype) in self.shapes.items():
            count = int(np.prod(shape))
            arrays[name] = np.frombuffer(whole, dtype, count, at).reshape(shape)
            at += count * np.dtype(dtype).itemsize
        return arrays, stamp, second

    def close(self) -> None:
        """Let go of the memory."""
        self.memory.close()
        os.close(self.fd)
