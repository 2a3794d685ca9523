"""What a mask means: which of its pixels are polyp.

One rule holds for all formats. Background is black: a pixel is polyp if one of its channels is above 127, which soft
edges and the noise of JPEG around black do not reach. Where the file has an alpha,

- that is the same everywhere, colours decide;
- and one colour everywhere, the alpha decides: opaque is polyp;
- and both vary, polyp is what is neither black nor transparent.

A mask that may mean something else is refused: one that is neither black nor anywhere above 127, as where a polyp is
stored as 1; and one with flat areas of a colour that is too dark to count and too bright for noise (32 to 127), or of a
label beside 255.

Where not every colour is polyp, as in BKAI-IGH NeoPolyp (red for neoplastic, green for not), those that count are
named. A pixel has a named colour if each channel is on the same side of 127 as the colour's. Dark colours other than
black, such as #010101 for the label 1, must be met exactly.
"""

from functools import reduce
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.opening import Opened

THRESHOLD = 127
"""A mask's pixel belongs to a polyp if it is brighter than this: masks hold values between 0 and 255."""

NOISE = 31
"""Flat areas up to this brightness are taken for noise; CVC-ClinicDB's masks have some of up to 23."""

ANY_COLOUR = "any"

Colour = tuple[int, ...]
_BLACK = (0, 0, 0)
_FLAT = np.ones((5, 5), np.uint8)
_FEW = 8  # levels: files of labels hold no more, noise and soft edges do


def parse_colours(text: str) -> tuple[Colour, ...]:
    """Reads the colours that count as polyp: names or hexadecimal numbers, with commas between; none for ``any``.

    >>> parse_colours("red, #010101")
    ((255, 0, 0), (1, 1, 1))
    """
    if text == ANY_COLOUR:
        return ()
    try:
        return tuple(ImageColor.getrgb(name.strip())[:3] for name in text.split(","))
    except ValueError as error:
        msg = (
            f"--data.mask_colours={text} holds no colour: {error}. Give names such as red, or #ff0000, with commas "
            "between; any: all that are not black."
        )
        raise ConfigError(msg) from error


def find_polyp(opened: Opened, colours: tuple[Colour, ...], path: Path) -> NDArray[np.bool_]:
    """Returns where a mask shows polyp, (H, W), by the rule above; ``path`` is for messages.

    Raises:
        DataError: what it means is not clear.
    """
    picture = opened.picture
    if opened.unnamed and not _varies(picture):
        msg = (
            f"the mask {path} is of one colour, with another sample of which it does not say whether it is an alpha. "
            "Save it in grey: 255 where there is a polyp and 0 elsewhere."
        )
        raise DataError(msg)
    if picture.mode != "RGBA":
        return _find_coloured(opened, colours, path)
    alpha, rgb = picture.getchannel("A"), picture.convert("RGB")
    opaque, alpha_varies, colour_varies = np.asarray(alpha) > THRESHOLD, _varies(alpha), _varies(rgb)
    if colour_varies and not alpha_varies:
        return _find_coloured(opened._replace(picture=rgb), colours, path)
    if alpha_varies and not (colour_varies or colours):
        return opaque
    visible = Image.fromarray(np.asarray(rgb) * opaque[..., None])
    if alpha_varies and _brightest(visible) <= THRESHOLD < _brightest(rgb):
        msg = (
            f"all that is not black in the mask {path} is transparent, so it may mean either. "
            "Save it without alpha: 255 where there is a polyp and 0 elsewhere."
        )
        raise DataError(msg)
    return _find_coloured(opened._replace(picture=visible), colours, path) & opaque


def _find_coloured(opened: Opened, colours: tuple[Colour, ...], path: Path) -> NDArray[np.bool_]:
    """Finds the pixels of the colours that count in a mask without alpha."""
    picture = opened.picture
    if colours:
        _refuse_lossy(opened, colours, path)
        pixels = np.asarray(picture.convert("RGB"))
        return reduce(np.logical_or, (_has_colour(pixels, colour) for colour in colours))
    pixels = np.asarray(picture)
    brightness = pixels if pixels.ndim == 2 else _brightest_channel(pixels)
    _refuse_dark(pixels, brightness, opened.lossy, path)
    return brightness > THRESHOLD


def _brightest_channel(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    red, green, blue = cv2.split(pixels)  # ten times as fast as NumPy's maximum over the last axis
    return np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)


def _has_colour(pixels: NDArray[np.uint8], colour: Colour) -> NDArray[np.bool_]:
    wanted = np.array(colour)
    same = pixels == wanted if _is_dark(colour) else (pixels > THRESHOLD) == (wanted > THRESHOLD)
    return np.asarray(same.all(axis=2))


def _is_dark(colour: Colour) -> bool:
    return colour != _BLACK and max(colour) <= THRESHOLD


def _refuse_lossy(opened: Opened, colours: tuple[Colour, ...], path: Path) -> None:
    if opened.lossy and any(map(_is_dark, colours)):
        msg = (
            f"--data.mask_colours names a dark colour, which must be met exactly, but the mask {path} is a JPEG or "
            "WebP, which changes colours. Save masks as PNG."
        )
        raise DataError(msg)


def _refuse_dark(pixels: NDArray[np.uint8], brightness: NDArray[np.uint8], lossy: bool, path: Path) -> None:
    """Refuses a mask with areas that are neither background nor bright enough to count."""
    top = int(brightness.max())
    if top > THRESHOLD:
        dark = _find_dark_areas(brightness, lossy)
        what = f"has areas of a colour that is neither black nor brighter than {THRESHOLD}"
    else:
        dark = [top] if top else []
        what = f"is no brighter than {top}, so no pixel of it would count as polyp (> {THRESHOLD})"
    if dark:
        first = pixels[brightness == dark[-1]][0]
        colour = "#" + "".join(f"{value:02x}" for value in np.broadcast_to(first, 3))
        msg = (
            f"the mask {path} {what}. Masks are 255 where there is a polyp and 0 elsewhere: save it so, or name the "
            f"colours that count, such as --data.mask_colours='{colour}'."
        )
        raise DataError(msg)


def _find_dark_areas(brightness: NDArray[np.uint8], lossy: bool) -> list[int]:
    """Finds the levels of areas that are no noise, no soft edge, and no background."""
    between = cv2.inRange(brightness, NOISE + 1, THRESHOLD)
    if cv2.erode(between, _FLAT).any():
        flat = cv2.erode(brightness, _FLAT) == cv2.dilate(brightness, _FLAT)
        return sorted(set(brightness[flat & (between > 0)].tolist()))
    if lossy:
        return []
    counts = np.bincount(brightness.ravel(), minlength=256)
    bright, few = counts[THRESHOLD + 1 :].sum(), np.count_nonzero(counts) <= _FEW
    return [level for level in range(1, NOISE + 1) if few and counts[0] and counts[level] > bright]


def _varies(picture: Image.Image) -> bool:
    return any(len(set(channel.getextrema())) > 1 for channel in picture.split())


def _brightest(picture: Image.Image) -> int:
    return int(np.asarray(picture).max())
