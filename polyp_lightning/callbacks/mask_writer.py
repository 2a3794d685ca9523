"""Writing predicted masks as images, batch by batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.utilities import rank_zero_info
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from polyp_lightning.common.errors import DataError
from polyp_lightning.common.tables import write_table
from polyp_lightning.data.reading import read_image
from polyp_lightning.deploy.contour import draw_contour, save_picture
from polyp_lightning.deploy.predicting import ALARM_COLUMNS, ALARMS
from polyp_lightning.training.trainer_facts import folders_of_sets


class MaskWriter(BasePredictionWriter):
    """Writes each predicted mask as ``<name>.png`` with values 0 and 255, at the size of the original image.

    An image that its orientation tag turns is segmented upright, and so are its mask and overlay: they match what a
    viewer shows, not the pixels as they are stored.

    Nothing is kept in memory: call ``trainer.predict(..., return_predictions=False)``. A file is complete or not there.
    With several predict sets each has a folder of its own. Beside the masks ``alarms.csv`` says of each image its score
    and whether it gives an alarm (1 or 0), see :mod:`polyp_lightning.common.frame_rule`.

    Args:
        output: the folder for the masks; null for ``masks`` in the run's folder.
        overlay: also write ``overlays/<name>.jpg``: the original image with the contour of the predicted polyps.
    """

    def __init__(self, output: str | None = None, overlay: bool = False) -> None:
        super().__init__("batch")
        self.output = output
        self.overlay = overlay
        self._sources: dict[Path, str] = {}
        self._alarms: list[tuple[str, float, int]] = []

    def folder(self, trainer: Trainer) -> Path:
        """Where the masks go."""
        return Path(trainer.default_root_dir) / "masks" if self.output is None else Path(self.output).expanduser()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forgets the images of an earlier run."""
        self._sources.clear()
        self._alarms.clear()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: dict[str, list[Any]],
        batch_indices: Sequence[int] | None,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Writes the masks of one batch, as :meth:`PolypSegmenter.predict_step` returns them.

        Raises:
            DataError: two images have the same name, so that one mask would replace the other.
        """
        home = self.folder(trainer)
        folder = home / folders_of_sets(trainer, trainer.predict_dataloaders)[dataloader_idx]
        for index, (mask, name, path) in enumerate(
            zip(*(prediction[key] for key in ("mask", "name", "path")), strict=True)
        ):
            target = folder / f"{name}.png"
            self._claim(target, path)
            pixels = mask.cpu().numpy()
            save_picture(Image.fromarray(pixels), target)
            if self.overlay:
                frame = read_image(Path(path)) if path else _enlarged(batch["image"][index], pixels.shape)
                save_picture(draw_contour(frame, pixels), folder / "overlays" / f"{name}.jpg")
            if "alarm" in prediction:
                alarm = (prediction["frame_score"][index], int(prediction["alarm"][index]))
                self._alarms.append((target.relative_to(home).as_posix(), *alarm))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the table of alarms, and says where the masks are."""
        if self._alarms:
            write_table(self.folder(trainer) / ALARMS, ALARM_COLUMNS, self._alarms, "\n")
        rank_zero_info(f"Masks ({len(self._sources)}): {self.folder(trainer).absolute()}")

    def _claim(self, target: Path, path: str) -> None:
        other = self._sources.setdefault(target, path)
        if other != path:
            msg = (
                f"{other} and {path} would both be written to {target}. "
                "Rename one, or predict them separately with another --output."
            )
            raise DataError(msg)


def _enlarged(image: Tensor, size: tuple[int, ...]) -> NDArray[np.uint8]:
    """A frame (3, S, S) that has no file, at its original size: uint8 (H, W, 3)."""
    resized = F.interpolate(image[None].float(), size, mode="bilinear")[0]
    pixels: NDArray[np.uint8] = resized.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(pixels)
