"""A trained network in Python: images of any size in, masks and probabilities of the same size out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, overload

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from polyp_lightning.checkpoints.named import find_net, list_nets
from polyp_lightning.common.errors import DataError
from polyp_lightning.common.extras import need
from polyp_lightning.common.frame_rule import ALARM_THRESHOLD, frame_score
from polyp_lightning.common.options import option
from polyp_lightning.data.cache import resize
from polyp_lightning.data.reading import read_image
from polyp_lightning.deploy.bundle import check_backend, check_threshold, format_of, load_model, read_bundle
from polyp_lightning.deploy.runners.arrays import TORCH_BACKENDS, Frames, Maps
from polyp_lightning.deploy.signature import THRESHOLD

AnImage: TypeAlias = "NDArray[Any] | Image.Image | str | Path"
"""RGB, uint8 (H, W, 3); a picture of Pillow; or the path of a file."""

_Opened: TypeAlias = tuple[Callable[[Frames], Maps], int, float, float]
"""What finds the logits of frames, their side in pixels, and the stored thresholds of pixels and of alarms."""

# Beyond it, float32 probabilities are 0 and 1.
_LARGEST_LOGIT = 30.0


@dataclass(frozen=True, repr=False)
class Prediction:
    """What a network says of one image, at the image's size.

    Attributes:
        mask: bool (H, W), True on polyps.
        probability: float32 (H, W), of polyp.
        score: the image's score, by which it gives an alarm; see :mod:`polyp_lightning.common.frame_rule`.
        alarm: whether it does.
    """

    mask: NDArray[np.bool_]
    probability: NDArray[np.float32]
    score: float
    alarm: bool

    def __repr__(self) -> str:
        """Names the size and the share of polyp, not the pixels."""
        height, width = self.mask.shape
        return f"Prediction({width}×{height} pixels, {self.mask.mean():.1%} polyp)"


class Predictor:
    """A network in evaluation mode, as :func:`load` returns it.

    Logits are resized to an image's size, not probabilities, as in ``test`` and ``predict``.

    Attributes:
        image_size: side in pixels of the square that every image is resized to.
        threshold: a polyp is where the probability exceeds it.
        alarm_threshold: an image whose score exceeds it gives an alarm.
    """

    def __init__(
        self,
        find_logits: Callable[[Frames], Maps],
        image_size: int,
        threshold: float,
        alarm_threshold: float = ALARM_THRESHOLD,
    ) -> None:
        check_threshold(threshold)
        self.image_size, self.threshold, self.alarm_threshold = image_size, threshold, alarm_threshold
        self._find_logits = find_logits

    @overload
    def predict(self, image: AnImage) -> Prediction: ...

    @overload
    def predict(self, image: "list[Any] | tuple[Any, ...]") -> list[Prediction]: ...

    def predict(self, image: "AnImage | list[Any] | tuple[Any, ...]") -> Prediction | list[Prediction]:
        """Segments an image of any size, or a list of images, one after the other.

        Args:
            image: RGB uint8 (H, W, 3), a picture of Pillow, the path of a file, or a list of these.

        Raises:
            DataError: it is none of these, or a file can't be read.
        """
        if isinstance(image, list | tuple):
            return [self.predict(one) for one in image]
        pixels = to_pixels(image)
        logit = self._find_logits(resize(pixels, self.image_size)[None])[0, 0]
        height, width = pixels.shape[:2]
        resized = cv2.resize(logit, (width, height), interpolation=cv2.INTER_LINEAR)
        mask = resized > np.log(self.threshold / (1 - self.threshold))
        score = float(_to_probability(np.float32(frame_score(logit))))
        return Prediction(np.asarray(mask, np.bool_), _to_probability(resized), score, score > self.alarm_threshold)


def load(
    path: str | Path,
    *,
    threshold: float | None = None,
    backend: str | None = None,
    threads: int | None = None,
    arch: str | None = None,
) -> Predictor:
    """Loads a checkpoint, pruned or not, or an exported model, ready to :meth:`~Predictor.predict`.

    An exported model needs PyTorch for PyTorch's own formats only.

    Args:
        path: a checkpoint of ``fit`` or ``prune``, a model that ``export`` has written, or the name of one of the
            package's networks.
        threshold: a polyp is where the probability exceeds it; not given, the one stored in the file, or else 0.5.
        backend: what runs the network, such as ``cuda`` or ``openvino``; not given, the file's usual one, on the CPU.
        threads: of the network; not given, PyTorch's own number for a checkpoint, and 1 for an exported model.
        arch: ``package.module.Class``, where a checkpoint's network is of your own: a file imports no code by itself.

    Raises:
        UnnamedClassError: the network is made by a class that ``arch`` does not name.
        ConfigError: the file is neither, is damaged, or can't be run here.
    """
    model = Path(path).expanduser()
    if str(path) in list_nets() and not model.exists():
        model = find_net(str(path), option("model"))
    if format_of(model) is None:
        find_logits, image_size, *stored = _open_checkpoint(model, backend, threads, arch)
    else:
        find_logits, image_size, *stored = _open_exported(model, backend, threads)
    # One given by hand is for both, as in `stream`.
    return Predictor(find_logits, image_size, *(stored if threshold is None else (threshold, threshold)))


def to_pixels(image: AnImage) -> NDArray[np.uint8]:
    """Returns an image's pixels, upright, RGB uint8 (H, W, 3).

    Raises:
        DataError: there are none of 8 bits, or not three channels.
    """
    if isinstance(image, str | Path):
        return read_image(Path(image).expanduser())
    if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F")):
        image = ImageOps.exif_transpose(image).convert("RGB")
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        msg = (
            f"an image is RGB, uint8 (height, width, 3), with values 0 to 255; got {pixels.dtype} {pixels.shape} of "
            f"a {type(image).__name__}. Give such an array, a picture of Pillow, a path, or a list of these"
        )
        raise DataError(msg)
    return pixels


def _open_exported(model: Path, backend: str | None, threads: int | None) -> _Opened:
    bundle = read_bundle(model)
    runner = load_model(bundle, backend or bundle.format.backends[0], 1 if threads is None else threads)
    return lambda frames: to_logits(runner(frames)), bundle.image_size, bundle.threshold, bundle.alarm_threshold


def _open_checkpoint(path: Path, backend: str | None, threads: int | None, arch: str | None) -> _Opened:
    torch, name = need("torch"), backend or TORCH_BACKENDS[0]
    # PyTorch and Lightning, which exported models do without.
    from polyp_lightning.checkpoints.trained import load_net
    from polyp_lightning.deploy.rewriting.capture import FrameLogits
    from polyp_lightning.deploy.runners.torch_runner import TorchRunner

    check_backend(name, TORCH_BACKENDS, path, "a checkpoint")
    trained = load_net(path, option("model"), [arch or ""])
    module = FrameLogits(trained.net, trained.mean, trained.std)
    runner = TorchRunner(module, name, threads or torch.get_num_threads())
    return runner, trained.image_size, THRESHOLD, trained.alarm_threshold


def _to_probability(logit: Any) -> Maps:
    return np.asarray(1 / (1 + np.exp(-logit)), np.float32)


def to_logits(probability: Maps) -> Maps:
    """Returns the logits of probabilities, at most 30 and at least -30."""
    values = probability.astype(np.float64)
    with np.errstate(divide="ignore"):
        logit = np.log(values) - np.log1p(-values)
    return np.asarray(np.clip(logit, -_LARGEST_LOGIT, _LARGEST_LOGIT), np.float32)
