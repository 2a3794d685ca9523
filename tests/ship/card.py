"""Draws the model card, ``README.md`` beside the networks, from the tables beside it and the text of ``card.md``."""

import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from string import Template
from typing import Any

import cv2
import numpy as np
from marks import SetMark, SpeedMark, VideoMark, run
from packing import TABLE, Packed
from PIL import Image

from polyp_lightning.callbacks.mask_writer import draw_contour
from polyp_lightning.checkpoints import named
from polyp_lightning.common.files import sha256, write_beside
from polyp_lightning.common.tables import read_rows
from polyp_lightning.data.sets.phantom import draw_frame
from polyp_lightning.deploy.bundle import load_model, read_bundle
from polyp_lightning.deploy.first_use import export_once
from polyp_lightning.deploy.parity import image_dice

SETS, SPEEDS, VIDEOS = "scores.csv", "speed.csv", "video.csv"
CARD, FAILURES = "README.md", "failures.jpg"
_TEXT = Path(__file__).with_name("card.md")
_LISTS = ("kvasir-880-120-", "clinicdb-sequence-", "polypgen-")


def write(measured: Path, folder: Path) -> None:
    """Puts the measured tables, the drawn failures and the card beside the networks."""
    for name in (SETS, SPEEDS, VIDEOS):
        shutil.copy(measured / name, folder / name)
    with write_beside(folder / FAILURES) as path:
        draw_failures().save(path, quality=80)
    with write_beside(folder / CARD) as path:
        path.write_text(draw(folder), encoding="utf-8")


def draw(folder: Path) -> str:
    """Draws the card from the tables in a folder."""
    packed = read_rows(folder / TABLE, Packed)
    return Template(_TEXT.read_text(encoding="utf-8")).substitute(
        nets=_table(_NETS, packed),
        validation=_table(_VALIDATION, packed),
        tables=draw_tables(folder),
        rows=", ".join(one.net for one in packed),
        lists=_table(_HASHES, list_lists()),
    )


def list_lists() -> list[Path]:
    """Lists the files that say which images train, validate and test."""
    folder = Path(named.__file__).parents[1] / "data" / "splits"
    return [path for path in sorted(folder.glob("*.txt")) if path.name.startswith(_LISTS)]


def draw_tables(folder: Path) -> str:
    """Draws the tables of scores, alarms, speed and videos."""
    sets, speeds = read_rows(folder / SETS, SetMark), read_rows(folder / SPEEDS, SpeedMark)
    machines = ", ".join({one.machine for one in speeds})
    return "\n\n".join(
        [
            _table(_DICE, [one for one in sets if one.polyp_frames]),
            _table(_FALSE, [one for one in sets if one.clean_frames]),
            _table(_SPEED, speeds),
            f"One thread of: {machines}; network alone, batch 1, all in turns.",
            _table(_VIDEO, read_rows(folder / VIDEOS, VideoMark)),
        ]
    )


def _share(count: int, of: int) -> str:
    return f"{count} of {of} ({count / of:.1%})"


# Each table's columns, and what a row has there.
_NETS: dict[str, Callable[[Packed], object]] = {
    "network": lambda one: one.net,
    "GMACs": lambda one: f"{one.gmacs:.3f}",
    "parameters": lambda one: f"{one.params / 1e6:.2f} M",
    "MB": lambda one: f"{one.bytes / 1e6:.2f}",
    "seed": lambda one: one.seed,
    "epochs": lambda one: one.epochs,
    "mean of": lambda one: f"{one.averaged} run{'s' * (one.averaged != 1)}",
    "made": lambda one: one.date,
    "SHA-256": lambda one: f"`{one.sha256}`",
}
_VALIDATION: dict[str, Callable[[Packed], object]] = {
    "network": lambda one: one.net,
    "val Dice": lambda one: f"{one.val_dice:.4f}",
    "with halved weights": lambda one: f"{one.val_dice_halved:.4f}",
    "alarm above": lambda one: f"{one.alarm_threshold:.5f}",
    "frames found": lambda one: _share(one.val_found, one.val_polyp_frames),
    "false alarms": lambda one: f"{one.val_false_alarms} of {one.val_clean_frames}",
}
_HASHES: dict[str, Callable[[Path], object]] = {
    "list": lambda path: path.name,
    "SHA-256": lambda path: f"`{sha256(path)}`",
}
_DICE: dict[str, Callable[[SetMark], object]] = {
    "network": lambda one: one.net,
    "backend": lambda one: one.backend,
    "test set": lambda one: one.test_set,
    "frames with a polyp": lambda one: one.polyp_frames,
    "Dice [95 %]": lambda one: f"{one.dice:.3f} [{one.dice_low:.3f}, {one.dice_high:.3f}]",
    "frames found": lambda one: _share(one.found_frames, one.polyp_frames),
    "polyps found": lambda one: _share(one.found_polyps, one.polyps),
}
_FALSE: dict[str, Callable[[SetMark], object]] = {
    "network": lambda one: one.net,
    "backend": lambda one: one.backend,
    "test set": lambda one: one.test_set,
    "frames without a polyp, with an alarm": lambda one: _share(one.false_alarms, one.clean_frames),
    "95 %": lambda one: f"{one.false_low:.1%} to {one.false_high:.1%}",
}
_SPEED: dict[str, Callable[[SpeedMark], object]] = {
    "network": lambda one: one.net,
    "backend": lambda one: one.backend,
    "size": lambda one: f"{one.image_size}²",
    "ms p50 / p99": lambda one: f"{one.p50:.1f} / {one.p99:.1f}",
    "frames per second at p50": lambda one: f"{one.fps:.0f}",
}
_VIDEO: dict[str, Callable[[VideoMark], object]] = {
    "network": lambda one: one.net,
    "video": lambda one: one.video,
    "seconds": lambda one: f"{one.seconds:.0f}",
    "frames that show a polyp": lambda one: _share(one.frames_with_alarm, one.frames),
    "alarms a minute, of single frames": lambda one: f"{one.single_per_minute:.1f}",
    "alarms a minute that last": lambda one: f"{one.lasting_per_minute:.1f} ({one.rule})",
}


def _table(columns: Mapping[str, Callable[[Any], object]], rows: Iterable[Any]) -> str:
    cells = [list(columns), ["---"] * len(columns), *([cell(row) for cell in columns.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in cells)


def draw_failures(count: int = 3, tried: int = 200) -> Image.Image:
    """Draws the phantoms on which each network is worst, mask on the left, prediction on the right; a row each.

    Frames of patients are not published; these are drawn, by a generator that no network here was trained on.
    """
    rows = []
    for name in named.list_nets():
        bundle = read_bundle(export_once(named.find_net(name, "--net")))
        runner, scored = load_model(bundle, bundle.format.backends[0], 1), []
        for index in range(tried):
            frame, mask = draw_frame(1, index)
            probability = run(runner, bundle, frame)
            scored.append((image_dice(probability, mask), index, frame, mask, probability))
        worst = sorted(scored, key=lambda one: one[:2])[:count]
        rows.append(np.hstack([_pair(frame, mask, probability) for *_, frame, mask, probability in worst]))
    return Image.fromarray(np.vstack(rows))


def _pair(frame: np.ndarray, mask: np.ndarray, probability: np.ndarray) -> np.ndarray:
    found = cv2.resize(probability, frame.shape[1::-1]) > 0.5
    pair = [np.asarray(draw_contour(frame, one.astype(np.uint8) * np.uint8(255))) for one in (mask, found)]
    return np.asarray(cv2.resize(np.hstack(pair), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
