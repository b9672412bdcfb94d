"""Datasets on disk: exact round trip, LeRobot v3 structure, resumption, errors that say what to do."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from robot.core.errors import DatasetError
from robot.core.interface import Field, Interface
from robot.data import png, statistics
from robot.data.episodes import DatasetWriter, Episode, EpisodeDataset

INTERFACE = Interface(
    (
        Field("depth", (6, 8), "float32", "m", "camera", 0.0, 5.0),
        Field("rgb", (6, 8, 3), "uint8", "1", "camera"),
        Field("speed", (), "float32", "m/s", "body"),
        Field("pose", (3,), "float32", "m, m, rad", "odom", names=("x", "y", "yaw")),
        Field("grid", (2, 3), "float32", "1"),
    ),
    Field("path", (4, 3), "float32", "m"),
    dt=0.4,
)
INFO = {"task": "walk", "seed": 7, "env": {"num_envs": 2}}


def make_episode(number: int) -> Episode:
    rng = np.random.default_rng(number)
    length = 3 + number % 4
    arrays = {
        "observation.depth": rng.integers(0, 5001, (length, 6, 8)).astype(np.float32) / np.float32(1000),
        "observation.rgb": rng.integers(0, 256, (length, 6, 8, 3), dtype=np.uint8),
        "observation.speed": rng.normal(size=length).astype(np.float32),
        "observation.pose": rng.normal(size=(length, 3)).astype(np.float32),
        "observation.grid": rng.normal(size=(length, 2, 3)).astype(np.float32),
        "action": rng.normal(size=(length, 4, 3)).astype(np.float32),
        "reward": rng.normal(size=length).astype(np.float32),
        "terminated": np.arange(length) == length - 1,
    }
    return Episode(arrays, {"seed": 7, "episode": number, "success": bool(number % 2), "spl": 0.5 * number, "family": "home"})


def write(root: Path, numbers: range, size: int = 4, resume: bool = False) -> None:
    with DatasetWriter(root, INTERFACE, INFO, size, resume) as writer:
        for number in numbers:
            writer.append(make_episode(number))


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def test_what_was_written_is_read_back_exactly(tmp_path: Path) -> None:
    write(tmp_path, range(10))
    dataset = EpisodeDataset(tmp_path)
    assert len(dataset) == 10
    assert dataset.interface == INTERFACE
    for number in (9, 0, 5, 4, 3):
        expected, found = make_episode(number), dataset.episode(number)
        assert found.header == expected.header
        assert found.arrays.keys() == expected.arrays.keys()
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)
            assert found.arrays[name].dtype == array.dtype
    assert set(dataset.episode(0).observation) == set(INTERFACE.names)
    np.testing.assert_array_equal(dataset.headers["episode"], np.arange(10))


def test_depth_is_kept_to_the_millimetre(tmp_path: Path) -> None:
    episode = make_episode(0)
    depth = np.random.default_rng(0).uniform(0, 5, episode.arrays["observation.depth"].shape).astype(np.float32)
    episode.arrays["observation.depth"] = depth
    with DatasetWriter(tmp_path, INTERFACE, INFO) as writer:
        writer.append(episode)
    found = EpisodeDataset(tmp_path).episode(0).arrays["observation.depth"]
    assert np.abs(found - depth).max() <= 0.000501
    episode.arrays["observation.depth"] = depth + 70
    with DatasetWriter(tmp_path / "far", INTERFACE, INFO) as writer, pytest.raises(DatasetError, match=r"depth.*65\.535"):
        writer.append(episode)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((5, 7), np.uint8), ((5, 7), np.uint16), ((5, 7, 3), np.uint8), ((1, 1), np.uint16), ((4, 3, 1), np.uint8)],
)
def test_png_is_lossless_and_other_readers_open_it(shape: tuple[int, ...], dtype: type) -> None:
    images = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (6, *shape), dtype=dtype, endpoint=True)
    images[0] = 0
    blobs = png.encode(images)
    flat = images.reshape(6, *shape[:2]) if shape[2:] == (1,) else images
    np.testing.assert_array_equal(png.decode(blobs), flat)
    np.testing.assert_array_equal([np.asarray(Image.open(io.BytesIO(blob))) for blob in blobs], flat)
    foreign = io.BytesIO()
    Image.fromarray(flat[1]).save(foreign, "png")
    np.testing.assert_array_equal(png.decode([foreign.getvalue(), blobs[2]]), flat[1:3])


@pytest.mark.parametrize("damage", [lambda b: b[:60], lambda b: b"no image", lambda b: b[:50] + bytes([b[50] ^ 1]) + b[51:]])
def test_a_damaged_png_is_refused(damage) -> None:
    blob = png.encode(np.random.default_rng(0).integers(0, 9, (1, 20, 20), dtype=np.uint8))[0]
    with pytest.raises(ValueError, match=r"PNG|image"):
        png.decode([damage(blob)])


def test_merged_statistics_are_those_of_the_whole() -> None:
    data = np.random.default_rng(0).normal(3.0, 2.0, (101, 5))
    merged = statistics.merge(statistics.of(part) for part in (data[:1], data[1:40], data[40:]))
    for key, value in statistics.of(data).items():
        np.testing.assert_allclose(merged[key], value, rtol=1e-12)
    np.testing.assert_allclose(merged["std"], data.std(0), rtol=1e-12)


def test_the_structure_is_lerobots(tmp_path: Path) -> None:
    write(tmp_path, range(6))
    info = json.loads((tmp_path / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0"
    assert info["fps"] == pytest.approx(2.5)
    frames = sum(len(make_episode(i)) for i in range(6))
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (6, frames, 1)
    assert info["splits"] == {"train": "0:6"}
    for key in ("robot_type", "chunks_size", "data_files_size_in_mb", "video_files_size_in_mb", "video_path"):
        assert key in info
    features = info["features"]
    assert features["observation.pose"] == {"dtype": "float32", "shape": [3], "names": ["x", "y", "yaw"]}
    assert features["observation.speed"]["shape"] == [1]
    assert features["action"]["shape"] == [4, 3]
    assert features["observation.depth"]["dtype"] == "image"
    assert features["observation.depth"]["shape"] == [6, 8, 1]
    assert features["observation.depth"]["info"] == {"is_depth_map": True, "depth_unit": "mm"}
    standard = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64", "task_index": "int64"}
    for name, dtype in standard.items():
        assert features[name] == {"dtype": dtype, "shape": [1], "names": None}
    table = pq.read_table(tmp_path / info["data_path"].format(chunk_index=0, file_index=1))
    assert set(table.column_names) == set(features)
    first = sum(len(make_episode(i)) for i in range(4))
    assert table["index"].to_pylist() == list(range(first, frames))
    assert table["frame_index"].to_pylist() == [*range(len(make_episode(4))), *range(len(make_episode(5)))]
    np.testing.assert_allclose(table["timestamp"].to_numpy(), np.array(table["frame_index"].to_pylist()) / info["fps"], rtol=1e-6)
    depth = Image.open(io.BytesIO(table["observation.depth"][0].as_py()["bytes"]))
    np.testing.assert_array_equal(
        np.asarray(depth) / 1000, make_episode(4).arrays["observation.depth"][0].astype(np.float64).round(3)
    )


def test_episode_rows_tasks_and_statistics_are_lerobots(tmp_path: Path) -> None:
    write(tmp_path, range(6))
    rows = pq.read_table(tmp_path / "meta/episodes/chunk-000/file-001.parquet").to_pylist()
    assert [row["episode_index"] for row in rows] == [4, 5]
    for row in rows:
        assert row["tasks"] == ["walk"]
        assert row["dataset_to_index"] - row["dataset_from_index"] == row["length"]
        assert (row["data/chunk_index"], row["data/file_index"]) == (0, 1)
        assert (row["meta/episodes/chunk_index"], row["meta/episodes/file_index"]) == (0, 1)
    pose = make_episode(4).arrays["observation.pose"]
    np.testing.assert_allclose(rows[0]["stats/observation.pose/mean"], pose.astype(np.float64).mean(0))
    assert np.shape(rows[0]["stats/observation.rgb/max"]) == (3, 1, 1)
    stats = json.loads((tmp_path / "meta/stats.json").read_text())
    assert set(stats) == set(json.loads((tmp_path / "meta/info.json").read_text())["features"])
    actions = np.concatenate([make_episode(i).arrays["action"] for i in range(6)])
    np.testing.assert_allclose(stats["action"]["std"], actions.astype(np.float64).std(0))
    depth = np.concatenate([make_episode(i).arrays["observation.depth"] for i in range(6)])
    assert np.shape(stats["observation.depth"]["mean"]) == (1, 1, 1)
    assert stats["observation.depth"]["mean"][0][0][0] == pytest.approx(1000 * depth.mean(), rel=1e-5)
    tasks = pq.read_table(tmp_path / "meta/tasks.parquet")
    assert tasks.to_pylist() == [{"task_index": 0, "task": "walk"}]
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_a_resumed_dataset_is_byte_for_byte_that_of_one_run(tmp_path: Path) -> None:
    write(tmp_path / "once", range(11))
    write(tmp_path / "parts", range(5))
    assert len(EpisodeDataset(tmp_path / "parts")) == 5
    write(tmp_path / "parts", range(5, 6), resume=True)
    write(tmp_path / "parts", range(6, 11), resume=True)
    assert contents(tmp_path / "parts") == contents(tmp_path / "once")
    write(tmp_path / "parts", range(0), resume=True)
    assert contents(tmp_path / "parts") == contents(tmp_path / "once")


def test_rows_that_info_does_not_count_are_ignored_and_replaced(tmp_path: Path) -> None:
    write(tmp_path / "once", range(11))
    write(tmp_path / "torn", range(6))
    info = (tmp_path / "torn/meta/info.json").read_bytes()
    write(tmp_path / "torn", range(6, 11), resume=True)
    (tmp_path / "torn/meta/info.json").write_bytes(info)
    (tmp_path / "torn/data/chunk-000/file-009.parquet.tmp").write_bytes(b"half a file")
    dataset = EpisodeDataset(tmp_path / "torn")
    assert len(dataset) == 6
    np.testing.assert_array_equal(dataset.episode(5).arrays["action"], make_episode(5).arrays["action"])
    write(tmp_path / "torn", range(6, 11), resume=True)
    assert contents(tmp_path / "torn") == contents(tmp_path / "once")


@pytest.mark.parametrize("shard", [0, 1, 2])
def test_a_damaged_shard_is_named_and_made_again(tmp_path: Path, shard: int) -> None:
    write(tmp_path / "once", range(11))
    write(tmp_path / "bad", range(11))
    path = tmp_path / f"bad/data/chunk-000/file-00{shard}.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=rf"file-00{shard}.parquet.*resume=true"):
        EpisodeDataset(tmp_path / "bad").episode(4 * shard)
    path.unlink()
    with pytest.raises(DatasetError, match=rf"file-00{shard}.parquet.*missing.*resume=true"):
        EpisodeDataset(tmp_path / "bad").episode(4 * shard)
    with DatasetWriter(tmp_path / "bad", INTERFACE, INFO, 4, resume=True) as writer:
        assert len(writer) == 4 * shard
        for number in range(len(writer), 11):
            writer.append(make_episode(number))
    assert contents(tmp_path / "bad") == contents(tmp_path / "once")


def test_a_flipped_bit_is_found_or_harmless(tmp_path: Path) -> None:
    write(tmp_path, range(1))
    path = tmp_path / "data/chunk-000/file-000.parquet"
    whole, expected = path.read_bytes(), make_episode(0)
    found = 0
    positions = range(0, len(whole), 53)
    for position in positions:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        try:
            arrays = EpisodeDataset(tmp_path).episode(0).arrays
        except DatasetError:
            found += 1
            continue
        for name, array in expected.arrays.items():
            np.testing.assert_array_equal(arrays[name], array, err_msg=f"bit flipped at {position}")
    assert found > len(positions) // 3


def test_user_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"python -m robot.collect .*output=.*nothing"):
        EpisodeDataset(tmp_path / "nothing")
    write(tmp_path / "d", range(2))
    with pytest.raises(DatasetError, match="resume=true"):
        DatasetWriter(tmp_path / "d", INTERFACE, INFO)
    with pytest.raises(DatasetError, match="another seed"):
        DatasetWriter(tmp_path / "d", INTERFACE, INFO | {"seed": 8}, 4, resume=True)
    with pytest.raises(DatasetError, match="no episode 2"):
        EpisodeDataset(tmp_path / "d").episode(2)
    slower = Interface(INTERFACE.observation, INTERFACE.action, dt=0.5)
    EpisodeDataset(tmp_path / "d").require(INTERFACE)
    with pytest.raises(DatasetError, match=r"dt: expected 0\.5 s, found 0\.4 s"):
        EpisodeDataset(tmp_path / "d").require(slower)
    info = tmp_path / "d/meta/info.json"
    info.write_text(info.read_text().replace("v3.0", "v2.1"))
    with pytest.raises(DatasetError, match=r"v2\.1.*v3\.0"):
        EpisodeDataset(tmp_path / "d")
    info.write_text("{")
    with pytest.raises(DatasetError, match=r"info\.json"):
        EpisodeDataset(tmp_path / "d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.arrays.pop("reward"), "'reward' is missing"),
        (
            lambda e: e.arrays.update({"observation.pose": np.zeros((3, 2), np.float32)}),
            r"'observation\.pose' has shape \(3, 2\)",
        ),
        (lambda e: e.arrays["action"].__setitem__((0, 0), np.nan), "'action' is not finite"),
        (lambda e: e.header.pop("spl"), "header"),
        (lambda e: e.header.update(spl=[1]), "header 'spl' is a list"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused(tmp_path: Path, change, message: str) -> None:
    with DatasetWriter(tmp_path, INTERFACE, INFO) as writer:
        writer.append(make_episode(1))
        bad = make_episode(0)
        change(bad)
        with pytest.raises(DatasetError, match=message):
            writer.append(bad)
    assert len(EpisodeDataset(tmp_path)) == 1
