"""Colonoscopy-like frames drawn procedurally: a data set for machines that have none.

A frame is a function of a seed and its number. Polyps are domes with an irregular contour whose colour is close to the
mucosa's; folds' ends, residue, bubbles and red patches resemble them without being any, and about one frame in ten
shows no polyp. The drawing imitates what makes real frames hard (low contrast, soft borders, highlights, text), it is
no model of anatomy: results on it say nothing about patients.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.data.dataset import Dataset, DatasetSpec
from polyp_lightning.data.mucosa import Canvas, Float, draw_folds, draw_vessels, finish, mucosa, noise

HEIGHT, WIDTH = 288, 384
"""Size in pixels of every frame: that of CVC-ClinicDB."""

VERSION = 1
"""Raised whenever the same seed and number give other pixels: cached frames are then drawn again."""

SEED = 0
"""Seed of the drawing. It is not the run's seed: runs with different seeds see the same frames."""

# How many polyps a frame shows, and how often.
_COUNTS, _SHARES = (0, 1, 2, 3), (0.1, 0.72, 0.14, 0.04)

# Steps in which a contour is drawn: finer than a pixel on the largest polyp.
_ANGLES = 2048


class PhantomSource:
    """Drawn frames; the attributes are those of `polyp_lightning.data.sources.Source`."""

    def __init__(self, frames: int, seed: int) -> None:
        self.key = "phantom"
        self.seed = seed
        self.names = [frame_name(index) for index in range(frames)]
        self.paths = [""] * frames
        self.has_masks = True

    def fingerprint(self) -> str:
        """Computes a digest over the drawing's version, the seed and the number of frames."""
        return hashlib.sha256(f"{VERSION} {self.seed} {len(self.names)}".encode()).hexdigest()

    def read(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draws a frame and its mask."""
        return draw_frame(self.seed, index)


def load(_root: Path, _split: str | None, frames: int) -> Dataset:
    """Numbers the frames and divides them; refuses too few."""
    if frames < 7:
        msg = f"--data.phantom_frames={frames} is too few: at least 7, of which 5 train, 1 validates and 1 tests."
        raise ConfigError(msg)
    source = PhantomSource(frames, SEED)
    held_out = frames // 7
    names = [("phantom", name) for name in source.names]
    val, test = names[-2 * held_out : -held_out], names[-held_out:]
    protocol = (
        f"{frames} frames drawn with seed {SEED}: the last seventh tests, the one before validates; "
        "says nothing about patients"
    )
    tests = {f"phantom-{held_out}": test}
    return Dataset("phantom", "by-number", protocol, {"phantom": source}, names[: -2 * held_out], val, tests, test)


SPEC = DatasetSpec("phantom", ("by-number",), load, mixes=False)


def frame_name(index: int) -> str:
    """Names a frame.

    >>> frame_name(7)
    'phantom-0007'
    """
    return f"phantom-{index:04d}"


def draw_frame(seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draws a frame, RGB uint8 (288, 384, 3), and the mask of all its polyps, uint8 (288, 384) of 0 and 1.

    The same seed and index, which is ≥ 0, always give the same frame.

    >>> frame, mask = draw_frame(seed=0, index=3)
    >>> frame.shape, mask.shape
    ((288, 384, 3), (288, 384))
    """
    rng = np.random.default_rng([seed, index])
    canvas = mucosa(rng, HEIGHT, WIDTH)
    draw_folds(canvas, rng)
    draw_vessels(canvas, rng)
    for _ in range(rng.integers(0, 4)):
        _draw_distractor(canvas, rng)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    for number in range(int(rng.choice(_COUNTS, p=_SHARES))):
        mask |= _draw_polyp(canvas, rng, first=number == 0)
    frame, visible = finish(canvas, rng)
    return frame, (mask & visible).astype(np.uint8)


@dataclass(frozen=True)
class _Blob:
    """A star-shaped region with a smooth, irregular contour.

    Attributes:
        depth: float32 (H, W); 0 at the centre, 1 on the contour, growing outwards.
        radius: mean radius in pixels.
    """

    depth: Float
    radius: float


def _blob(canvas: Canvas, rng: np.random.Generator, radius: float, stretch: float, roughness: float) -> _Blob:
    """Places a blob where its centre is well inside what the lens shows."""
    dx = canvas.x - rng.uniform(0.22, 0.78) * WIDTH
    dy = canvas.y - rng.uniform(0.22, 0.78) * HEIGHT
    turn, elongation = rng.uniform(0, math.pi), math.sqrt(rng.uniform(1, stretch))
    # `math`, not NumPy: a float64 scalar of NumPy's would turn every array it meets into float64.
    along = (dx * math.cos(turn) + dy * math.sin(turn)) / elongation
    across = (dy * math.cos(turn) - dx * math.sin(turn)) * elongation
    contour = _contour(rng, roughness)
    angle = (np.arctan2(across, along) + math.pi) * (_ANGLES / (2 * math.pi))
    reach = radius * contour[angle.astype(np.int32) % _ANGLES]
    return _Blob(np.hypot(along, across) / reach, radius)


def _contour(rng: np.random.Generator, roughness: float) -> Float:
    """Radius over angle, mean 1: a few waves, the slower the stronger; float32 (_ANGLES,)."""
    angle = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    contour = np.ones(_ANGLES)
    for k in range(2, 8):
        contour += roughness * rng.normal() / k**1.2 * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    return np.maximum(contour, 0.5).astype(np.float32)


def _dome(blob: _Blob, steepness: float) -> Float:
    """Height above the wall in units of the radius: a cap that meets the wall at the contour."""
    return np.asarray(np.maximum(0, 1 - blob.depth**2) ** steepness, np.float32)


def _relief(canvas: Canvas, height: Float, radius: float) -> Float:
    """Brightness that the lamp's direction gives a height field: brighter on the near slope, darker on the far one."""
    gy = cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3) * (radius / 8)
    gx = cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3) * (radius / 8)
    slope = gx * canvas.light[0] + gy * canvas.light[1]
    return np.asarray(cv2.GaussianBlur(np.tanh(slope), (0, 0), 1 + radius / 25), np.float32)


def _draw_polyp(canvas: Canvas, rng: np.random.Generator, first: bool) -> NDArray[np.bool_]:
    """Draws one polyp into the canvas and returns its region, bool (H, W)."""
    share = math.exp(rng.uniform(math.log(0.02), math.log(0.3 if first else 0.06)))
    blob = _blob(canvas, rng, math.sqrt(share * HEIGHT * WIDTH / math.pi), stretch=2.2, roughness=0.2)
    flat = rng.random() < 0.12
    relief = rng.uniform(0.1, 0.2) if flat else rng.uniform(0.2, 0.45)
    tint = rng.uniform(0.6, 1.0) if flat else rng.uniform(1.1, 2.0)
    softness = rng.uniform(0.04, 0.12)
    inside = 1 / (1 + np.exp(np.clip((blob.depth - 1) / softness, -30, 30)))
    height = _dome(blob, rng.uniform(0.5, 1.0))
    # Redder than its surroundings, but not by much.
    colour = np.array([0.025, -0.06, -0.04]) + rng.normal(0, 0.012, 3)
    tinge = (tint * colour).astype(np.float32)
    texture = noise(rng, HEIGHT, WIDTH, int(rng.integers(30, 70))) * rng.uniform(0.015, 0.04)
    shade = relief * (0.5 * _relief(canvas, height, blob.radius) + 0.35 * (height - 0.3))
    canvas.rgb += (inside * (shade + texture))[..., None] + inside[..., None] * tinge
    # The shadow that a raised rim casts on the wall around it.
    rim = np.exp(-(((blob.depth - 1.08) / 0.09) ** 2)) * relief * rng.uniform(0.1, 0.45)
    canvas.rgb -= rim[..., None]
    canvas.bumps += 0.6 * relief * height
    return blob.depth < 1


def _draw_distractor(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draws something that a careless eye takes for a polyp."""
    kind = rng.choice(["fold end", "residue", "bubbles", "red patch"], p=[0.35, 0.2, 0.2, 0.25])
    if kind == "bubbles":
        _draw_bubbles(canvas, rng)
        return
    radius = rng.uniform(12, 42)
    if kind == "fold end":
        blob = _blob(canvas, rng, radius, stretch=1.2, roughness=0.12)
        ridge = np.sqrt(np.maximum(0, 1 - blob.depth**2))
        canvas.rgb += (rng.uniform(0.1, 0.2) * _open_side(canvas, rng) * _relief(canvas, ridge, radius))[..., None]
    elif kind == "residue":
        blob = _blob(canvas, rng, radius * 0.6, stretch=2.5, roughness=0.35)
        cover = 0.75 / (1 + np.exp(np.clip((blob.depth - 1) / 0.1, -30, 30)))
        colour = np.array([0.62, 0.47, 0.2], np.float32) * float(rng.uniform(0.75, 1.1))
        canvas.rgb += cover[..., None] * (colour - canvas.rgb)
    else:
        blob = _blob(canvas, rng, radius, stretch=2.2, roughness=0.25)
        stain = np.exp(-(blob.depth**2)) * rng.uniform(0.25, 0.65)
        canvas.rgb -= stain[..., None] * np.array([0.01, 0.055, 0.04], np.float32)


def _open_side(canvas: Canvas, rng: np.random.Generator) -> Float:
    """A weight that fades to nothing along a random direction: what ends a fold on one side only."""
    turn = rng.uniform(0, 2 * math.pi)
    ahead = (canvas.x - WIDTH / 2) * math.cos(turn) + (canvas.y - HEIGHT / 2) * math.sin(turn)
    return np.asarray(1 / (1 + np.exp(-ahead / 25)), np.float32)


def _draw_bubbles(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draws a cluster of bubbles: bright rims with a glint."""
    x, y = rng.uniform(0.2, 0.8) * WIDTH, rng.uniform(0.2, 0.8) * HEIGHT
    for _ in range(rng.integers(3, 12)):
        radius = rng.uniform(2.5, 9)
        column, row = x + rng.normal(0, 18), y + rng.normal(0, 14)
        top, left = max(0, int(row) - 16), max(0, int(column) - 16)
        near = np.s_[top : max(0, int(row) + 17), left : max(0, int(column) + 17)]
        distance = np.hypot(canvas.x[near] - column, canvas.y[near] - row)
        rim = np.exp(-(((distance - radius) / 1.2) ** 2)) * 0.22 + (distance < radius) * np.float32(0.03)
        glint = np.exp(-((distance / (0.25 * radius + 0.5)) ** 2)) * 0.35
        canvas.rgb[near] += (rim + glint)[..., None]
