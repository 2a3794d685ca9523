"""From probabilities to what a viewer sees: polyp or not, its contour, a few lines of text."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from polyp_lightning.common.frame_rule import frame_score
from polyp_lightning.deploy.contour import CONTOUR


@dataclass(frozen=True)
class Finding:
    """What a probability map says of its frame.

    Attributes:
        polyp: whether there is one.
        confidence: probability of the weakest of the pixels that decide (the top 0.1 %) where there is a polyp, 1 minus
            it where there is none. It is the network's own word, not calibrated.
    """

    polyp: bool
    confidence: float


def find_polyp(probability: NDArray[np.float32], threshold: float) -> Finding:
    """Decides whether there is a polyp: the score of the (S, S) probabilities exceeds the alarm threshold.

    >>> import numpy as np
    >>> one = np.zeros((100, 100), np.float32); one[0, :10] = 0.75
    >>> find_polyp(one, 0.5)
    Finding(polyp=True, confidence=0.75)
    """
    deciding = frame_score(probability)
    return Finding(deciding > threshold, deciding if deciding > threshold else 1 - deciding)


def resize_to_mask(probability: NDArray[np.float32], threshold: float, height: int, width: int) -> NDArray[np.uint8]:
    """Returns the mask at a frame's size, uint8 (H, W) of 0 and 1: probabilities are resized, then compared."""
    return (cv2.resize(probability, (width, height), interpolation=cv2.INTER_LINEAR) > threshold).astype(np.uint8)


def draw_finding(frame: NDArray[np.uint8], mask: NDArray[np.uint8] | None, lines: list[str]) -> None:
    """Draws a mask's contour, if there is one, and lines of ASCII text into an RGB frame (H, W, 3), in place."""
    size = min(frame.shape[:2])
    if mask is not None:
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(frame, outlines, -1, CONTOUR, 1 + size // 250)
    scale = size / 700
    step = round(28 * scale) + 2
    for number, line in enumerate(lines, 1):
        # A shadow keeps it legible on any frame; a thicker outline would have other advance widths.
        for offset, colour in ((1, (0, 0, 0)), (0, (255, 255, 255))):
            where = (step // 2 + offset, number * step + offset)
            cv2.putText(frame, line, where, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
