"""Arrays of zarr v2 stores, as far as recorded demonstrations come in them: chunks of whole rows."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import DatasetError
from robot.core.optional import require


def read_array(folder: Path) -> NDArray[Any]:
    """The array in `folder`, which holds .zarray and its chunks; those that Blosc packed need the package numcodecs.

    Raises:
        DatasetError: there is no such array.
    """
    try:
        about = json.loads((folder / ".zarray").read_text())
        files = sorted((f for f in folder.iterdir() if not f.name.startswith(".")), key=lambda f: int(f.name.split(".")[0]))
        kind = (about["compressor"] or {}).get("id")
        unpack = require("numcodecs", extra="train").Blosc().decode if kind == "blosc" else zlib.decompress if kind else bytes
        rows = [np.frombuffer(unpack(f.read_bytes()), about["dtype"]).reshape(about["chunks"]) for f in files]
        return np.concatenate(rows)[: about["shape"][0]]
    except (OSError, KeyError, ValueError, zlib.error) as error:
        raise DatasetError(f"'{folder}' is no zarr array of whole rows ({error!r})") from error
