"""What surrounds the polyps of a phantom frame: the wall, its folds and vessels, the lens and the recorder."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


@dataclass
class Canvas:
    """A frame while it is drawn.

    Attributes:
        rgb: float32 (H, W, 3), reflectance; about 0 to 1, clipped only at the end.
        bumps: float32 (H, W), how far the surface bulges towards the lens; highlights sit on bulges.
        x: float32 (H, W), the column of each pixel.
        y: float32 (H, W), the row of each pixel.
        centre: column and row of the lumen, in pixels; may lie outside the frame.
        light: unit vector (x, y) in the image plane that points away from the lamp.
    """

    rgb: Float
    bumps: Float
    x: Float
    y: Float
    centre: tuple[float, float]
    light: tuple[float, float]


def noise(rng: np.random.Generator, height: int, width: int, cells: int) -> Float:
    """Smooth noise of mean 0 and standard deviation about 1 with ``cells`` cells across the width; float32 (H, W)."""
    rows = max(3, round(cells * height / width))
    grid = rng.standard_normal((rows, cells), dtype=np.float32)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def mucosa(rng: np.random.Generator, height: int, width: int) -> Canvas:
    """A wall without folds: pinkish, mottled at several scales."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    base = np.array([0.74, 0.42, 0.34]) + rng.normal(0, [0.035, 0.03, 0.03])
    wall = np.zeros((height, width), np.float32)
    for cells, strength in ((3, 0.03), (7, 0.025), (16, 0.018), (40, 0.012), (110, 0.01)):
        wall += strength * noise(rng, height, width, cells)
    redness = noise(rng, height, width, 5) * 0.022
    rgb = base.astype(np.float32) + wall[..., None] * np.array([1.0, 0.9, 0.85], np.float32)
    rgb -= redness[..., None] * np.array([0.2, 1.0, 0.8], np.float32)
    turn = rng.uniform(0, 2 * math.pi)
    reach = rng.uniform(0.1, 0.75)
    centre = (width * (0.5 + reach * math.cos(turn)), height * (0.5 + reach * math.sin(turn)))
    light = rng.uniform(0, 2 * math.pi)
    return Canvas(rgb, np.zeros_like(wall), x, y, centre, (math.cos(light), math.sin(light)))


def draw_folds(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draws haustral folds, arcs around the lumen with a bright crest and a dark far side, and the dark lumen."""
    height, width = canvas.x.shape
    dx, dy = canvas.x - canvas.centre[0], canvas.y - canvas.centre[1]
    squeeze = rng.uniform(0.75, 1.3)
    wobble = 1 + 0.12 * noise(rng, height, width, 4)
    distance = np.hypot(dx, dy * squeeze) * wobble
    radius = rng.uniform(25, 60)
    while radius < 1.2 * width and rng.random() < 0.9:
        sharpness = rng.uniform(5, 14)
        offset = (distance - radius) / sharpness
        arc = 1 / (1 + np.exp(-3 * (noise(rng, height, width, 3) + rng.uniform(-0.3, 1.0))))
        crest = np.exp(-(offset**2)) * rng.uniform(0.03, 0.11)
        behind = np.exp(-np.abs(offset + 1.6)) * (offset < 0.3) * rng.uniform(0.08, 0.26)
        canvas.rgb += (arc * (crest - behind))[..., None]
        canvas.bumps += (0.5 * arc * crest).astype(np.float32)
        radius += rng.uniform(35, 110)
    lumen = np.exp(-((distance / rng.uniform(20, 55)) ** 2))
    canvas.rgb *= (1 - 0.85 * lumen)[..., None]


def draw_vessels(canvas: Canvas, rng: np.random.Generator) -> None:
    """Draws thin, branching vessels: the zero lines of smooth noise, faded in and out."""
    height, width = canvas.x.shape
    for cells, thickness in ((6, 0.035), (13, 0.06)):
        line = np.exp(-((noise(rng, height, width, cells) / thickness) ** 2))
        patch = np.clip(noise(rng, height, width, 4) + rng.uniform(-0.8, 0.6), 0, 1)
        depth = (line * patch * rng.uniform(0.04, 0.12))[..., None]
        canvas.rgb -= depth * np.array([0.5, 1.0, 0.9], np.float32)


def finish(canvas: Canvas, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Lights, blurs and records the frame.

    Returns:
        The frame, uint8 (H, W, 3), and what the lens shows of it, bool (H, W); the rest is black or text.
    """
    height, width = canvas.x.shape
    fall = np.hypot((canvas.x / width - rng.uniform(0.38, 0.62)) * 1.15, canvas.y / height - rng.uniform(0.38, 0.62))
    rgb = canvas.rgb * (rng.uniform(1.0, 1.18) * (1 - rng.uniform(0.5, 0.85) * fall**1.7))[..., None]
    rgb += _highlights(canvas, rng)[..., None]
    rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.5, 1.6))
    rgb += rng.standard_normal((height, width, 1), dtype=np.float32) * rng.uniform(0.005, 0.016)
    visible = _aperture(canvas, rng)
    frame = np.clip(rgb * visible[..., None] * 255, 0, 255).astype(np.uint8)
    gamma = (np.linspace(0, 1, 256) ** rng.uniform(0.9, 1.15) * 255).astype(np.uint8)
    frame = np.asarray(cv2.LUT(frame, gamma), np.uint8)
    _write_date(frame, rng)
    return frame, visible


def _highlights(canvas: Canvas, rng: np.random.Generator) -> Float:
    """Specular highlights: small saturated specks, most of them where the surface bulges."""
    height, width = canvas.x.shape
    specks = noise(rng, height, width, int(rng.integers(30, 60))) + 0.5 * noise(rng, height, width, 8)
    specks += np.clip(9 * canvas.bumps, 0, 0.9)
    hard = np.clip((specks - rng.uniform(2.5, 3.1)) * 3, 0, 1)
    return np.asarray(cv2.GaussianBlur(hard * 0.8, (0, 0), 0.8), np.float32)


def _aperture(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.bool_]:
    """What the lens shows: a rectangle whose corners are cut or rounded."""
    height, width = canvas.x.shape
    margin = rng.uniform(2, 14)
    u = (np.abs(canvas.x - width / 2) + margin) / (width / 2)
    v = (np.abs(canvas.y - height / 2) + margin) / (height / 2)
    inside = (u < 1) & (v < 1)
    if rng.random() < 0.5:
        return np.asarray(inside & (u + v < rng.uniform(1.6, 1.8)))
    power = rng.uniform(4, 9)
    return np.asarray(inside & (u**power + v**power < rng.uniform(1.1, 1.4)))


def _write_date(frame: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """Writes a recorder's date and time into a corner of two frames out of three, in place."""
    if rng.random() > 0.67:
        return
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(2004, 2024)
    hour, minute = rng.integers(7, 19), rng.integers(0, 60)
    left, top = int(rng.choice([6, 300])), int(rng.integers(10, 18))
    for line, text in enumerate((f"{day:02d}/{month:02d}/{year}", f"{hour:02d}:{minute:02d}")):
        cv2.putText(frame, text, (left, top + 12 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (225, 225, 225), 1)
