"""Opens image files by what they hold, whatever their suffix, and refuses what may be meant otherwise than it is read.

Pillow opens all formats. It refuses truncated files, which OpenCV fills up with grey, and follows what a TIFF's tags
say of its samples: white as zero, palettes, planes, alpha, compression. TIFFs that it does not know are left to
tifffile, such as CVC-ClinicDB's, of which OpenCV gets other pixels than their PNG distribution holds.

Colour profiles and gamma are ignored, and so, in images, are a TIFF's extra samples that it does not call alpha.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from polyp_lightning.common.errors import DataError

_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_LOSSY = ("JPEG", "MPO", "WEBP")
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX")


class Opened(NamedTuple):
    """A picture that stands upright.

    Attributes:
        picture: of mode L, RGB or RGBA; the latter where pixels have an alpha.
        orientation: how the stored pixels lie, as the file's EXIF, XMP or TIFF tag says: 1 to 8, 1 for upright.
        lossy: whether its format may have changed colours.
        unnamed: whether a sample was left out of which the file does not say what it is.
    """

    picture: Image.Image
    orientation: int
    lossy: bool
    unnamed: bool


def open_upright(path: Path) -> Opened:
    """Decodes a file and turns the picture as its orientation tag says.

    Raises:
        DataError: the file is damaged, is no image, holds several pictures, has more than 8 bits a channel, or its
            colours are not clearly grey or RGB; it names the file.
    """
    try:
        with _open(path) as picture:
            _refuse_unclear(picture, path)
            lossy, unnamed = picture.format in _LOSSY, 0 in _tags(picture).get(Base.ExtraSamples, ())
            # Before loading, which turns a TIFF and takes its tag away.
            orientation = picture.getexif().get(Base.Orientation, 1)
            _load(picture)
            ImageOps.exif_transpose(picture, in_place=True)
            return Opened(_simplify(picture), orientation if orientation in range(1, 9) else 1, lossy, unnamed)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a broken header makes them stumble over
        reason = "it is empty" if path.is_file() and not path.stat().st_size else error
        msg = f"cannot read {path}: {reason}. Replace the file by an intact copy, or remove it and its partner."
        raise DataError(msg) from error


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=_FORMATS)
    except Exception:
        try:
            return _open_by_tifffile(path)
        except tifffile.TiffFileError:  # no TIFF: what Pillow says of it counts
            pass
        raise


def _open_by_tifffile(path: Path) -> Image.Image:
    """Opens a TIFF of 8-bit samples that need no interpretation: grey, or as many as RGB or RGBA have."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            msg = f"cannot read {path}: {error}. Install it (pip install imagecodecs), or save the file as PNG."
            raise DataError(msg) from error
        if page.axes.startswith("S"):
            pixels = np.moveaxis(pixels, 0, -1)
        kind = tifffile.PHOTOMETRIC(page.photometric)
        if (
            kind.name not in {"MINISBLACK", "RGB"}
            or pixels.dtype != np.uint8
            or pixels.shape[2:] not in {(), (3,), (4,)}
        ):
            what = f"{kind.name} pixels of {pixels.dtype} and shape {pixels.shape}"
            raise _unclear(path, what, "Only 8-bit grey or RGB is read")
        _refuse_several(len(file.pages), path)
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        picture.getexif()[Base.Orientation] = page.tags.valueof(Base.Orientation.value, 1)
        return picture


def _load(picture: Image.Image) -> None:
    try:
        picture.load()
    except OSError as error:
        if "compression" not in picture.info:
            raise
        msg = f"{error}; its compression is {picture.info['compression']}, is that known here?"
        raise OSError(msg) from error


def _tags(picture: Image.Image) -> Mapping[int, Any]:
    """Returns the tags of a TIFF that Pillow has opened; none of others."""
    return getattr(picture, "tag_v2", {})


def _refuse_unclear(picture: Image.Image, path: Path) -> None:
    """Refuses a picture that has been opened and not yet decoded, if its pixels could be read in more than one way."""
    # The pictures behind the first one of a camera's JPEG are previews.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        _refuse_several(getattr(picture, "n_frames", 1), path)
    tags = _tags(picture)
    # Of 16-bit colours Pillow would take the high byte.
    deep = max(tags.get(Base.BitsPerSample, (8,))) > 8 or ";16B" in str(getattr(picture, "tile", ""))
    if deep or picture.mode[0] in "IF":
        what = f"more than 8 bits a channel (Pillow's mode {picture.mode})"
        raise _unclear(path, what, "Which of its values are black and white is not sure, so only 8-bit images are read")
    if picture.mode not in _MODES or max(tags.get(Base.SampleFormat, (1,))) > 1:
        raise _unclear(path, f"{picture.mode} pixels", "Only unsigned grey or RGB is read")
    photometric = tags.get(Base.PhotometricInterpretation)
    # tifffile writes arrays of bool so without being asked to, and reads them back the other way round.
    unasked = photometric == 0 and picture.mode == "1" and str(tags.get(Base.Software)).startswith("tifffile")
    if tags and (photometric is None or unasked):
        what = "samples of which it is not sure whether 0 is black or white"
        raise _unclear(path, what, "Its photometric tag is missing, or set by tifffile for an array of bool")
    if max(tags.get(Base.ColorMap, (65535,))) < 256:
        raise _unclear(path, "a palette of black only", "A TIFF's palette goes up to 65535")


def _refuse_several(count: int, path: Path) -> None:
    if count > 1:
        raise _unclear(path, f"{count} pictures", "Which one is meant is not sure")


def _unclear(path: Path, holds: str, why: str) -> DataError:
    return DataError(f"{path} holds {holds}. {why}: convert it to one 8-bit grey or RGB image, such as a PNG.")


def _simplify(picture: Image.Image) -> Image.Image:
    """Returns it in grey, RGB or, where pixels have an alpha, RGBA."""
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        return picture.convert("RGBA")
    wanted = "L" if picture.mode in {"1", "L"} else "RGB"
    return picture if picture.mode == wanted else picture.convert(wanted)
