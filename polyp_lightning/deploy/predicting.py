"""``predict`` on images: masks out, by a checkpoint or an exported model, which needs neither PyTorch nor Lightning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.common.tables import write_table
from polyp_lightning.data.listing import SUFFIXES, is_called_image, is_image, list_images, natural_key, normal_name
from polyp_lightning.data.reading import read_image
from polyp_lightning.deploy.contour import draw_contour, save_picture
from polyp_lightning.deploy.first_use import export_once
from polyp_lightning.deploy.predictor import load

ALARMS, ALARM_COLUMNS = "alarms.csv", ("mask", "frame_score", "alarm")
"""Each image's score, and 1 where it gives an alarm, else 0; see :mod:`polyp_lightning.common.frame_rule`."""


@dataclass(frozen=True)
class PredictOptions:
    """The options of the verb ``predict`` on images, whose help explains them."""

    model: Path
    source: Sequence[str]
    output: Path
    overlay: bool = False
    threshold: float | None = None
    backend: str | None = None
    threads: int | None = None
    overwrite: bool = False
    arch: str | None = None


def predict(options: PredictOptions, say: Callable[[str], None] = print) -> list[Path]:
    """Writes each image's mask as ``<name>.png`` of 0 and 255 at the image's size, and a table of alarms.

    Returns the masks' files. An image that its orientation tag turns is segmented upright, and so are its mask and
    overlay. They are those that ``predict`` writes for a data set, but for rounding.

    Raises:
        ConfigError: the model can't be run, the threshold is none, or there are masks already.
        DataError: there is no image, one can't be read, or two have one name.
    """
    images = name_masks(find_images(options.source), options.output)
    if not options.overwrite and (old := [mask for mask in images if mask.exists()]):
        msg = f"{old[0]} exists already; name another folder with --output, or replace its masks with --overwrite"
        raise ConfigError(msg)
    predictor = load(
        export_once(options.model, [options.backend] if options.backend else [], say),
        threshold=options.threshold,
        backend=options.backend,
        threads=options.threads,
        arch=options.arch,
    )
    alarms: list[tuple[str, float, int]] = []
    for target, source in images.items():
        pixels = read_image(source)
        found = predictor.predict(pixels)
        mask = found.mask * np.uint8(255)
        save_picture(Image.fromarray(mask), target)
        alarms.append((target.name, found.score, int(found.alarm)))
        if options.overlay:
            save_picture(draw_contour(pixels, mask), options.output / "overlays" / f"{target.stem}.jpg")
    write_table(options.output / ALARMS, ALARM_COLUMNS, alarms, "\n")
    say(f"Masks ({len(images)}): {options.output.absolute()}")
    return list(images)


def find_images(sources: Sequence[str]) -> list[Path]:
    """Finds the images that are meant by files, folders (or their ``images``) and patterns such as ``'a/*.png'``.

    Raises:
        DataError: one of them means no image.
    """
    return list(dict.fromkeys(image for source in sources for image in _images_of(source)))


def _images_of(source: str) -> list[Path]:
    path = Path(source).expanduser()
    if path.is_dir():
        direct = any(is_called_image(file.name) for file in path.iterdir())
        found = list_images(path if direct or not (path / "images").is_dir() else path / "images")
    else:
        # As it stands first: brackets are parts of names too.
        pattern = path.relative_to(path.anchor).as_posix()
        files = [path] if path.is_file() else Path(path.anchor).glob(pattern)
        found = sorted((file for file in files if is_image(file)), key=natural_key)
    if not found:
        msg = (
            f"--source {source} is neither an image ({', '.join(SUFFIXES)}), nor a folder of images, nor a pattern "
            "that any has; videos are for `stream`"
        )
        raise DataError(msg)
    return found


def name_masks(images: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Returns the image of each mask's file.

    Raises:
        DataError: two images have the same name, so that one mask would replace the other, or a mask an image.
    """
    named: dict[Path, Path] = {}
    for image in images:
        target = output / f"{normal_name(image.stem)}.png"
        if target.resolve() == image.resolve():
            msg = f"the mask of {image} would replace it; name another folder with --output"
            raise DataError(msg)
        if (other := named.setdefault(target, image)) != image:
            msg = f"{other} and {image} would both be written to {target}; predict them into two folders with --output"
            raise DataError(msg)
    return named
