"""What a stream says of each frame: a table or lines of JSON, masks as PNG, and a line of progress now and then."""

import csv
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.contour import save_picture
from polyp_lightning.deploy.video.overlay import Finding

EVERY = 5.0
"""Seconds between two lines of progress."""

COLUMNS = ("frame", "seconds", "polyp", "confidence", "area", "boxes")
"""Of the results: frames count from 1, polyp is 1 or 0, the area is in pixels of the frame, and a box, one for each
patch, is left, top, width and height in pixels."""

_KINDS = (".csv", ".jsonl")


class Recorder:
    """Records what was found, frame by frame.

    Use it in a ``with`` block. Unlike other files the results grow in their place: each line is whole and can be read
    while the stream runs.

    Args:
        results: a file for a line per frame, .csv or .jsonl; None for none.
        masks: a folder for a mask per frame, ``frame-000001.png`` of 0 and 255; None for none.
        overwrite: whether older ones may be replaced.
        say: takes the lines of progress.

    Raises:
        ConfigError: the results' name ends otherwise, or there are older ones.
    """

    def __init__(self, results: Path | None, masks: Path | None, overwrite: bool, say: Callable[[str], None]) -> None:
        if results is not None and results.suffix not in _KINDS:
            msg = f"--results {results}: its name ends in one of {', '.join(_KINDS)}"
            raise ConfigError(msg)
        older = [("--results", results)] if results is not None and results.exists() else []
        if masks is not None and (any(masks.glob("frame-*.png")) or masks.is_file()):
            older.append(("--masks", masks))
        if older and not overwrite:
            msg = f"{older[0][0]} {older[0][1]} exists already; name another, or replace it with --overwrite"
            raise ConfigError(msg)
        self._results, self._masks, self._say = results, masks, say
        self._open = ExitStack()
        self._file: Any = None
        self._rows: Any = None
        self._frames = self._polyps = 0
        self._begun = self._said = time.monotonic()

    @property
    def needs_masks(self) -> bool:
        """Whether it asks for the frames' masks."""
        return self._results is not None or self._masks is not None

    def __enter__(self) -> Self:
        """Opens the results."""
        self._begun = self._said = time.monotonic()
        for folder in (self._masks, self._results and self._results.parent):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
        if self._results is not None:
            self._file = self._open.enter_context(self._results.open("w", encoding="utf-8", newline=""))
            if self._results.suffix == ".csv":
                self._rows = csv.writer(self._file, lineterminator="\n")
                self._rows.writerow(COLUMNS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the results."""
        self._open.close()

    def add(self, seconds: Fraction, finding: Finding, mask: NDArray[np.uint8] | None, size: tuple[int, int]) -> None:
        """Adds the next frame.

        Args:
            seconds: its time since the source's first frame.
            finding: whether it shows a polyp.
            mask: uint8 (H, W) of 0 and 1; None where it shows none.
            size: H and W.
        """
        self._frames += 1
        self._polyps += finding.polyp
        if self._masks is not None:
            pixels = np.zeros(size, np.uint8) if mask is None else mask * np.uint8(255)
            save_picture(Image.fromarray(pixels), self._masks / f"frame-{self._frames:06d}.png")
        if self._file is not None:
            boxes, area = ([], 0) if mask is None else (find_boxes(mask), int(np.count_nonzero(mask)))
            self._write(round(float(seconds), 6), finding, area, boxes)
        now = time.monotonic()
        if now - self._said >= EVERY:
            self._said = now
            pace = self._frames / (now - self._begun)
            self._say(
                f"{self._frames} frames, {float(seconds):.0f} s of video: {pace:.1f} FPS, {self._polyps} with a polyp"
            )

    def _write(self, seconds: float, finding: Finding, area: int, boxes: list[list[int]]) -> None:
        start = (self._frames, seconds, int(finding.polyp), round(finding.confidence, 4), area)
        if self._rows is not None:
            self._rows.writerow([*start, "; ".join(" ".join(map(str, box)) for box in boxes)])
        else:
            self._file.write(json.dumps(dict(zip(COLUMNS, (*start, boxes), strict=True))) + "\n")
        self._file.flush()


def drop_specks(mask: NDArray[np.uint8], least: int) -> NDArray[np.uint8]:
    """Returns a mask (H, W) of 0 and 1 without its patches of fewer than so many pixels; corners join a patch.

    >>> drop_specks(np.array([[1, 1, 0, 1], [0, 0, 0, 0]], np.uint8), 2).tolist()
    [[1, 1, 0, 0], [0, 0, 0, 0]]
    """
    if least <= 1:
        return mask
    _, labels, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    stays = facts[:, cv2.CC_STAT_AREA] >= least
    stays[0] = False
    return np.asarray(stays[labels], np.uint8)


def find_boxes(mask: NDArray[np.uint8]) -> list[list[int]]:
    """Returns left, top, width and height of each patch of a mask (H, W) of 0 and 1, the largest patch first.

    >>> find_boxes(np.array([[1, 0, 0, 0], [0, 0, 1, 1]], np.uint8))
    [[2, 1, 2, 1], [0, 0, 1, 1]]
    """
    facts = cv2.connectedComponentsWithStats(mask, connectivity=8)[2][1:]
    order = np.argsort(-facts[:, cv2.CC_STAT_AREA], kind="stable")
    boxes: list[list[int]] = facts[order, :4].tolist()
    return boxes
