"""Pictures to a video file."""

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import DatasetError
from robot.core.optional import require


def write_video(path: Path | str, pictures: Iterable[NDArray[np.uint8]], fps: int = 20) -> Path:
    """Encode RGB pictures (h, w, 3) of even size as H.264 in mp4, or as an animated .webp or .gif by the suffix."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        if path.suffix == ".mp4":
            _encode(temporary, pictures, fps)
        else:
            image = require("PIL.Image", extra="train")
            first, *rest = [image.fromarray(picture) for picture in pictures]
            first.save(temporary, save_all=True, append_images=rest, duration=round(1000 / fps), loop=0, quality=60)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _encode(path: Path, pictures: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """H.264 High, 4:2:0, index first: what every browser plays and can start before the end has arrived."""
    av = require("av", extra="train")
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = container.add_stream("libx264", rate=fps, options={"crf": "27", "preset": "fast", "tune": "animation"})
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.thread_count = 1
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        if stream is None:
            raise DatasetError(f"{path.name}: a video needs at least one picture")
        container.mux(stream.encode())
