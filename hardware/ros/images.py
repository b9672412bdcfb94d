"""Pictures and clouds of a ROS graph as observation fields."""

import io
from dataclasses import dataclass

import numpy as np

from hardware.ros.bridge import Message
from hardware.ros.sensors import Array, Sensor, TopicConfig, Values
from robot.core.errors import MessageError
from robot.core.interface import Field
from robot.core.optional import require

DEPTH = {"32FC1": ("<f4", 1.0), "16UC1": ("<u2", 1e-3), "mono16": ("<u2", 1e-3)}
"""Encodings of depth images: dtype of a pixel, and metres a unit (REP 118)."""
COLOUR = {
    "rgb8": (3, [0, 1, 2]),
    "bgr8": (3, [2, 1, 0]),
    "rgba8": (4, [0, 1, 2]),
    "bgra8": (4, [2, 1, 0]),
    "mono8": (1, [0, 0, 0]),
}
"""Encodings of colour images: bytes of a pixel, and which of them are red, green and blue."""
PIXELS = 64_000_000
"""Larger pictures are refused."""
SCALARS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
"""sensor_msgs/PointField: dtype of each number."""


@dataclass
class PictureConfig(TopicConfig):
    height: int
    """Rows that the policy sees [px]; pictures may be larger by whole factors."""
    width: int
    """Columns that the policy sees [px]."""


@dataclass
class DepthConfig(PictureConfig):
    max_range: float
    """Depth beyond this reads as no return [m]."""


class Depth(Sensor):
    """sensor_msgs/Image of depth, 32FC1 in metres or 16UC1 in millimetres (REP 118): `depth`, of each block the nearest."""

    kind = "sensor_msgs/msg/Image"

    def __init__(self, config: DepthConfig) -> None:
        super().__init__(config)
        self.fields = (Field("depth", (config.height, config.width), "float32", "m", "camera", 0.0),)

    def read(self, message: Message) -> Values:
        dtype, unit = DEPTH.get(message["encoding"], ("", 0.0))
        if not dtype:
            raise MessageError(f"depth is encoded as '{message['encoding']}'; accepted: {', '.join(DEPTH)}")
        kind = np.dtype(dtype).newbyteorder(">" if message["is_bigendian"] else "<")
        full = rows(message, kind.itemsize).copy().view(kind).astype(np.float32) * unit
        full = np.where(np.isfinite(full) & (full > 0) & (full <= self.config.max_range), full, np.inf)
        nearest = blocks(full, self.config).min(axis=(1, 3))
        return {"depth": np.where(np.isfinite(nearest), nearest, 0.0)}


class Colour(Sensor):
    """sensor_msgs/Image of colours: `rgb`, of each block the mean."""

    kind = "sensor_msgs/msg/Image"

    def __init__(self, config: PictureConfig) -> None:
        super().__init__(config)
        self.fields = (Field("rgb", (config.height, config.width, 3), "uint8", "1", "camera"),)

    def read(self, message: Message) -> Values:
        size, order = COLOUR.get(message["encoding"], (0, []))
        if not size:
            raise MessageError(f"picture is encoded as '{message['encoding']}'; accepted: {', '.join(COLOUR)}")
        full = rows(message, size)
        full = full.reshape(len(full), -1, size)[..., order]
        return {"rgb": smaller(full, self.config)}


class CompressedColour(Colour):
    """sensor_msgs/CompressedImage, JPEG or PNG: `rgb`."""

    kind = "sensor_msgs/msg/CompressedImage"

    def read(self, message: Message) -> Values:
        image = require("PIL.Image", "ros")
        try:
            with image.open(io.BytesIO(bytes(message["data"])), formats=("JPEG", "PNG")) as picture:
                if picture.width * picture.height > PIXELS:
                    raise MessageError(f"picture of {picture.width}x{picture.height} is too large")
                full = np.asarray(picture.convert("RGB"))
        except (OSError, SyntaxError, image.DecompressionBombError) as error:
            raise MessageError(f"picture cannot be decoded: {error}") from error
        return {"rgb": smaller(full, self.config)}


@dataclass
class CloudConfig(TopicConfig):
    points: int
    """That the policy sees: evenly drawn from more, zeros where there are fewer."""
    frame: str
    """frame_id of the points; clouds in another frame are refused."""


class Cloud(Sensor):
    """sensor_msgs/PointCloud2: `points`, those that are finite."""

    kind = "sensor_msgs/msg/PointCloud2"

    def __init__(self, config: CloudConfig) -> None:
        super().__init__(config)
        self.fields = (Field("points", (config.points, 3), "float32", "m", config.frame, names=("x", "y", "z")),)

    def read(self, message: Message) -> Values:
        if message["header"]["frame_id"] != self.config.frame:
            raise MessageError(f"cloud in frame '{message['header']['frame_id']}', expected '{self.config.frame}'")
        step, count = int(message["point_step"]), int(message["width"]) * int(message["height"])
        data = np.frombuffer(bytes(message["data"]), np.uint8)
        if not 0 < step <= 4096 or count * step > data.size or int(message["row_step"]) != step * int(message["width"]):
            raise MessageError(f"cloud of {count} points of {step} bytes in {data.size} bytes")
        data = data[: count * step].reshape(count, step)
        axes = {field["name"]: field for field in message["fields"]}
        order = ">" if message["is_bigendian"] else "<"
        points = np.stack([_axis(data, axes[axis], order) for axis in "xyz"], axis=-1)
        points = points[np.isfinite(points).all(axis=1)]
        wanted = self.config.points
        kept = points[np.linspace(0, len(points) - 1, wanted).round().astype(int)] if len(points) > wanted else points
        return {"points": np.concatenate([kept, np.zeros((wanted - len(kept), 3))])}


def _axis(data: Array, field: Message, order: str) -> Array:
    kind = np.dtype(order + SCALARS[int(field["datatype"])])
    at = int(field["offset"])
    if not 0 <= at <= data.shape[1] - kind.itemsize:
        raise MessageError(f"cloud's '{field['name']}' lies outside of its points")
    return data[:, at : at + kind.itemsize].copy().view(kind)[:, 0].astype(np.float64)


def rows(message: Message, size: int) -> Array:
    """Bytes of an image (height, width * size) without padding; a MessageError where they do not fit together."""
    height, width, step = int(message["height"]), int(message["width"]), int(message["step"])
    data = np.frombuffer(bytes(message["data"]), np.uint8)
    if min(height, width) < 1 or height * width > PIXELS or step < width * size or data.size != height * step:
        raise MessageError(f"image of {height}x{width} in {data.size} bytes, {step} a row")
    return data.reshape(height, step)[:, : width * size]


def blocks(full: Array, config: PictureConfig) -> Array:
    """(height, rows a block, width, columns a block, ...) of a picture that is larger by whole factors."""
    down, across = full.shape[0] // config.height, full.shape[1] // config.width
    if down < 1 or full.shape[:2] != (down * config.height, across * config.width):
        wanted = f"{config.height}x{config.width}"
        raise MessageError(f"picture of {full.shape[0]}x{full.shape[1]}; a whole multiple of {wanted} is needed")
    return full.reshape(config.height, down, config.width, across, *full.shape[2:])


def smaller(full: Array, config: PictureConfig) -> Array:
    """uint8 (height, width, 3): means of blocks, rounded."""
    return np.round(blocks(full, config).mean(axis=(1, 3))).astype(np.uint8)
