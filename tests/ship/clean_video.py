"""Makes a video of single frames by slow motion of the camera: what a false alarm a minute is counted on."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from polyp_lightning.deploy.video.saving import VideoWriter

RATE, SECONDS = 25, 3
HEIGHT, WIDTH = 384, 480


def move_camera(frame: NDArray[np.uint8], step: int, steps: int, phase: float) -> NDArray[np.uint8]:
    """Shows a frame (H, W, 3) as a camera does that pans, turns and comes closer, at one of so many steps.

    Returns (384, 480, 3): from 1.1 to 1.3 times as near as fits, up to 4 % of the width aside, turned by up to 3°.
    """
    height, width = frame.shape[:2]
    angle = 2 * np.pi * step / steps + phase
    near = max(WIDTH / width, HEIGHT / height) * (1.2 - 0.1 * np.cos(angle))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 3 * np.sin(angle + 1), near)
    aside = 0.04 * np.array([WIDTH * np.sin(angle), HEIGHT * np.cos(angle)])
    turn[:, 2] += (WIDTH - width) / 2 + aside[0], (HEIGHT - height) / 2 + aside[1]
    return np.asarray(cv2.warpAffine(frame, turn, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT), np.uint8)


def write_clean_video(frames: Iterable[NDArray[np.uint8]], path: Path) -> Path:
    """Writes three seconds of each frame, one after another."""
    with VideoWriter(path, Fraction(RATE), overwrite=True) as writer:
        for number, frame in enumerate(frames):
            steps = RATE * SECONDS
            for step in range(steps):
                shown = move_camera(frame, step, steps, float(number))
                writer.write(shown, Fraction(number * steps + step, RATE))
    return path
