"""Pictures to a video file, and back to one that stands for it."""

import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from robot.core.errors import DatasetError
from robot.core.optional import require


@dataclass
class Film:
    """Pictures (h, w, 3) of an episode, one a control period of `dt` seconds."""

    episode: int
    outcome: str
    dt: float
    pictures: list[NDArray[np.uint8]]


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


def poster(path: Path | str, at: float = 0.4) -> bytes:
    """A WebP picture from the video `at` of its length, what a page shows before it plays; empty if it cannot be decoded."""
    av = require("av", extra="train")
    try:
        with av.open(str(path)) as container:
            count = container.streams.video[0].frames
            for number, frame in enumerate(container.decode(video=0)):
                if number >= at * count:
                    out = io.BytesIO()
                    frame.to_image().save(out, format="webp", quality=60)
                    return out.getvalue()
    except (av.error.FFmpegError, IndexError):
        return b""
    return b""


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
