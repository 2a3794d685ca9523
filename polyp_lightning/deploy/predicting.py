"""``predict`` with an exported model: images in, masks out; needs neither PyTorch nor Lightning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.common.frame_rule import frame_score
from polyp_lightning.common.tables import write_table
from polyp_lightning.data.cache import resize
from polyp_lightning.data.listing import SUFFIXES, is_called_image, is_image, list_images, natural_key, normal_name
from polyp_lightning.data.reading import read_image
from polyp_lightning.deploy.bundle import load_model, read_bundle
from polyp_lightning.deploy.contour import draw_contour, save_picture

ALARMS, ALARM_COLUMNS = "alarms.csv", ("mask", "frame_score", "alarm")
"""Each image's score, and 1 where it gives an alarm, else 0; see :mod:`polyp_lightning.common.frame_rule`."""

# Beyond it, float32 probabilities are 0 and 1.
_LARGEST_LOGIT = 30.0


@dataclass(frozen=True)
class PredictOptions:
    """The options of the verb ``predict`` with an exported model, whose help explains them."""

    model: Path
    source: Sequence[str]
    output: Path
    overlay: bool = False
    threshold: float | None = None
    backend: str | None = None
    threads: int = 1
    overwrite: bool = False


def predict(options: PredictOptions, say: Callable[[str], None] = print) -> list[Path]:
    """Writes each image's mask as ``<name>.png`` of 0 and 255 at the image's size, and a table of alarms.

    Returns the masks' files. An image that its orientation tag turns is segmented upright, and so are its mask and
    overlay. They are those that ``predict`` writes from the checkpoint that was exported, but for rounding.

    Raises:
        ConfigError: the model can't be run, the threshold is none, or there are masks already.
        DataError: there is no image, one can't be read, or two have one name.
    """
    images = name_masks(find_images(options.source), options.output)
    if not options.overwrite and (old := [mask for mask in images if mask.exists()]):
        msg = f"{old[0]} exists already; name another folder with --output, or replace its masks with --overwrite"
        raise ConfigError(msg)
    bundle = read_bundle(options.model)
    threshold = bundle.threshold if options.threshold is None else options.threshold
    if not 0 < threshold < 1:
        msg = f"--threshold {threshold} is no probability: give one above 0 and below 1"
        raise ConfigError(msg)
    runner = load_model(bundle, options.backend or bundle.format.backends[0], options.threads)
    alarms: list[tuple[str, float, int]] = []
    for target, source in images.items():
        pixels = read_image(source)
        probability = runner(resize(pixels, bundle.image_size)[None])[0, 0]
        mask = mask_at(probability, threshold, pixels.shape[0], pixels.shape[1])
        save_picture(Image.fromarray(mask), target)
        score = frame_score(probability)
        alarms.append((target.name, score, int(score > bundle.alarm_threshold)))
        if options.overlay:
            save_picture(draw_contour(pixels, mask), options.output / "overlays" / f"{target.stem}.jpg")
    write_table(options.output / ALARMS, ALARM_COLUMNS, alarms, "\n")
    say(f"Masks ({len(images)}): {options.output.absolute()}")
    return list(images)


def mask_at(probability: NDArray[np.float32], threshold: float, height: int, width: int) -> NDArray[np.uint8]:
    """Returns the mask at an image's size, uint8 (H, W) of 0 and 255.

    Logits are resized, not probabilities, as in ``test`` and in ``predict`` of a checkpoint.
    """
    with np.errstate(divide="ignore"):
        values = probability.astype(np.float64)
        logit = np.clip(np.log(values) - np.log1p(-values), -_LARGEST_LOGIT, _LARGEST_LOGIT)
    resized = cv2.resize(logit, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(resized > np.log(threshold / (1 - threshold)), 255, 0).astype(np.uint8)


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
