"""Datasets that others recorded in the LeRobotDataset v3.0 layout, with embedded images and with videos."""

import io
import json
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from robot.core.errors import DatasetError
from robot.data.episodes import EpisodeDataset
from robot.data.windows import Windows

LENGTHS = (5, 7, 4)
HEIGHT, WIDTH, FPS = 32, 48, 10


def level(frame: int) -> int:
    """Grey level that tells which frame of the dataset an image is."""
    return 15 * frame


def blob(frame: int) -> dict[str, bytes | None]:
    buffer = io.BytesIO()
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), level(frame), np.uint8)).save(buffer, "png")
    return {"bytes": buffer.getvalue(), "path": None}


def write_video(path: Path, frames: range) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = WIDTH, HEIGHT, "yuv420p", 3
        for frame in frames:
            image = np.full((HEIGHT, WIDTH, 3), level(frame), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three episodes; data in one file and one row group, videos of the first two episodes in one file."""
    total = sum(LENGTHS)
    names = {"motors": ["left", "right"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": names},
        "observation.images.top": {"dtype": "video", "shape": [3, HEIGHT, WIDTH], "names": ["channels", "height", "width"]},
        "observation.images.hand": {"dtype": "image", "shape": [HEIGHT, WIDTH, 3], "names": ["height", "width", "channels"]},
        "observation.note": {"dtype": "string", "shape": [1], "names": None},
        "action": {"dtype": "float32", "shape": [2], "names": ["left", "right"]},
    }
    info = {"codebase_version": "v3.0", "fps": FPS, "total_episodes": 3, "total_frames": total, "features": features}
    info |= {"data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"}
    info |= {"video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"}
    for folder in ("meta/episodes/chunk-000", "data/chunk-000"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "meta/info.json").write_text(json.dumps(info))
    state = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(2 * total, dtype=np.float32)), 2)
    table = {"observation.state": state, "action": state, "observation.note": ["x"] * total}
    table |= {"observation.images.hand": [blob(k) for k in range(total)]}
    pq.write_table(pa.table(table), tmp_path / "data/chunk-000/file-000.parquet")
    starts = np.cumsum([0, *LENGTHS])
    key = "videos/observation.images.top"
    rows = {
        "episode_index": range(3), "length": LENGTHS, "data/chunk_index": [0] * 3, "data/file_index": [0] * 3,
        "dataset_from_index": starts[:3], "dataset_to_index": starts[1:], "tasks": [["push"]] * 3,
        f"{key}/chunk_index": [0] * 3, f"{key}/file_index": [0, 0, 1], f"{key}/from_timestamp": [0.0, LENGTHS[0] / FPS, 0.0],
    }  # fmt: skip
    pq.write_table(pa.table({k: list(v) for k, v in rows.items()}), tmp_path / "meta/episodes/chunk-000/file-000.parquet")
    write_video(tmp_path / f"{key}/chunk-000/file-000.mp4", range(12))
    write_video(tmp_path / f"{key}/chunk-000/file-001.mp4", range(12, 16))
    return tmp_path


def test_its_interface_follows_from_its_features(root: Path) -> None:
    interface = EpisodeDataset(root).interface
    assert interface.names == ("state", "images.top", "images.hand")
    assert interface.dt == pytest.approx(0.1)
    assert interface.field("state").names == ("left", "right")
    for name in ("images.top", "images.hand"):
        assert (interface.field(name).shape, interface.field(name).dtype) == ((HEIGHT, WIDTH, 3), "uint8")
    assert interface.action.names == ("left", "right")


def test_its_episodes_are_read_frame_by_frame(root: Path) -> None:
    dataset = EpisodeDataset(root)
    first = 0
    for number, length in enumerate(LENGTHS):
        observation = dataset.episode(number).observation
        expected = np.array([level(first + k) for k in range(length)])
        np.testing.assert_array_equal(observation["state"][:, 0], 2 * np.arange(first, first + length))
        np.testing.assert_array_equal(observation["images.hand"].mean((1, 2, 3)), expected)
        np.testing.assert_allclose(observation["images.top"].mean((1, 2, 3)), expected, atol=7)
        first += length
    batch = Windows(dataset, 2, 2).gather(np.array([5, 15]))
    np.testing.assert_allclose(batch["images.top"].mean((2, 3, 4)), [[75, 75], [210, 225]], atol=7)


def test_what_is_missing_or_broken_is_named(root: Path) -> None:
    video = root / "videos/observation.images.top/chunk-000/file-001.mp4"
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(DatasetError, match=r"file-001\.mp4"):
        EpisodeDataset(root).episode(2)
    video.unlink()
    with pytest.raises(DatasetError, match=r"file-001\.mp4.*missing"):
        EpisodeDataset(root).episode(2)
    info = json.loads((root / "meta/info.json").read_text())
    del info["features"]["action"]
    (root / "meta/info.json").write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="no feature 'action'"):
        EpisodeDataset(root)
