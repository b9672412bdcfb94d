"""What real depth cameras do to depth: noise that grows with range, holes, disparity steps, bleeding edges, scale error.

Every number comes from a hash of (seed, step, pixel), not from a running generator: the same world and step always give the
same image, and no world depends on another.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit


@dataclass
class DepthNoiseConfig:
    relative: float
    """Standard deviation of the range error of each pixel, relative to the range [1]; 0.01 is 1 %."""
    invalid: float
    """Share of pixels without a return [1]."""
    holes: float
    """Expected number of blind blobs in an image [1]."""
    hole_size: float
    """Radius of a blob, relative to the image's width [1]."""
    disparity: float
    """Quantisation step of inverse depth [1/m]; 0 for none. A stereo pair with 50 mm baseline, 400 px focal length and 1/8 px
    has 0.00625."""
    edges: float
    """Probability that a pixel at a depth edge reads its neighbour's depth or a mean of both [1]."""
    scale: float
    """Standard deviation of a factor on all depths, constant over an episode [1]."""

    @property
    def active(self) -> bool:
        return max(self.relative, self.invalid, self.holes, self.disparity, self.edges, self.scale) > 0.0


DEVIATION = math.sqrt(4 * (256**2 - 1) / 12)
"""Standard deviation of the sum of four uniform bytes."""


class DepthNoise:
    def __init__(self, config: DepthNoiseConfig) -> None:
        self.config = config

    def apply(self, depth: np.ndarray, seeds: np.ndarray, steps: np.ndarray) -> None:
        """Spoil depth images in place.

        Args:
            depth: float32 (B, H, W) [m]; 0 means no return and stays so.
            seeds: uint64 (B,), one an episode.
            steps: int64 (B,), one an image.
        """
        c = self.config
        if c.active:
            _apply(
                depth, seeds.astype(np.uint64), steps.astype(np.uint64), c.relative, c.invalid, c.holes, c.hole_size, c.disparity,
                c.edges, c.scale,
            )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def _mix(value):
    """The finaliser of splitmix64 (Steele et al., 2014)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@njit(cache=True, nogil=True, inline="always")
def _uniform(key, index):
    """Uniform in (0, 1)."""
    return (float(_mix(key + np.uint64(index) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) + 0.5) * 2.0**-53


@njit(cache=True, nogil=True, inline="always")
def _normal(key, index):
    """Standard normal, by Box and Muller."""
    return math.sqrt(-2.0 * math.log(_uniform(key, 2 * index))) * math.cos(2.0 * math.pi * _uniform(key, 2 * index + 1))


@njit(cache=True, nogil=True, inline="always")
def _scramble(value):
    """A 32-bit hash (lowbias32 by Wellons, 2018), since eight of these fit into one vector instruction."""
    value = np.uint32(np.uint32(value ^ (value >> np.uint32(16))) * np.uint32(0x7FEB352D))
    value = np.uint32(np.uint32(value ^ (value >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(value ^ (value >> np.uint32(16)))


@njit(cache=True, nogil=True, error_model="numpy")
def _bleed(image, key, edges):
    """Pixels beside a jump of more than 10 % read half-way across it, or their neighbour."""
    height, width = image.shape
    for row in range(height):
        before = image[row, 0]
        for col in range(1, width):
            here = image[row, col]
            if here > 0.0 and before > 0.0 and abs(here - before) > 0.1 * min(here, before):
                draw = _uniform(key, row * width + col)
                if draw < 0.5 * edges:
                    image[row, col] = before
                elif draw < edges:
                    image[row, col] = 0.5 * (here + before)
            before = here


@njit(cache=True, nogil=True, error_model="numpy")
def _blind(image, key, holes, size):
    """Round holes, a Poisson number of them."""
    height, width = image.shape
    threshold, product, count = math.exp(-holes), _uniform(key, 0), 0
    while product > threshold and count < 16:
        count += 1
        product *= _uniform(key, count)
    for k in range(count):
        row, col = _uniform(key, 100 + 3 * k) * height, _uniform(key, 101 + 3 * k) * width
        radius = size * width * (0.5 + _uniform(key, 102 + 3 * k))
        for v in range(max(int(row - radius), 0), min(int(row + radius) + 1, height)):
            for u in range(max(int(col - radius), 0), min(int(col + radius) + 1, width)):
                if (v - row) ** 2 + (u - col) ** 2 < radius * radius:
                    image[v, u] = 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _scatter(pixels, key, factor, relative, invalid):
    """Scale, range error and missing pixels of a flat image; a normal number is the sum of the four bytes of a hash."""
    low, high = np.uint32(key & np.uint64(0xFFFFFFFF)), np.uint32(key >> np.uint64(32))
    base, gain, missing = np.float32(factor), np.float32(factor * relative / DEVIATION), np.float32(invalid)
    for k in range(pixels.size):
        a = _scramble(np.uint32(np.uint32(k) * np.uint32(0x9E3779B9) + low))
        b = _scramble(np.uint32(a ^ high))
        total = (a & np.uint32(255)) + ((a >> np.uint32(8)) & np.uint32(255)) + ((a >> np.uint32(16)) & np.uint32(255))
        error = np.float32(np.int32(total + (a >> np.uint32(24))) - np.int32(510))
        value = pixels[k] * (base + gain * error)
        share = np.float32(np.int32(b >> np.uint32(8))) * np.float32(2.0**-24)
        pixels[k] = np.float32(0.0) if share < missing else value


@njit(cache=True, nogil=True, error_model="numpy")
def _quantise(pixels, step):
    """Round inverse depth to whole steps [1/m], at least one; no return stays so."""
    fine, step = np.float32(1.0 / step), np.float32(step)
    for k in range(pixels.size):
        value = pixels[k]
        steps = max(np.float32(math.floor(fine / value + np.float32(0.5))), np.float32(1.0))
        pixels[k] = np.float32(1.0) / (steps * step) if value > 0 else value


@njit(cache=True, nogil=True)
def _apply(depth, seeds, steps, relative, invalid, holes, size, disparity, edges, scale):
    for b in range(depth.shape[0]):
        episode = _mix(seeds[b] + np.uint64(1))
        key = _mix(episode + steps[b] * np.uint64(0xD1342543DE82EF95))
        factor = 1.0 + scale * _normal(episode, 7) if scale > 0.0 else 1.0
        pixels = depth[b].reshape(-1)
        if edges > 0.0:
            _bleed(depth[b], key + np.uint64(11), edges)
        if scale > 0.0 or relative > 0.0 or invalid > 0.0:
            _scatter(pixels, _mix(key + np.uint64(29)), factor, relative, invalid)
        if disparity > 0.0:
            _quantise(pixels, disparity)
        if holes > 0.0:
            _blind(depth[b], key + np.uint64(83), holes, size)
