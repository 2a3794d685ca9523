"""Training steps timed inside Lightning's own loop."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from measuring import Effort, Pairs

from polyp_lightning.training.module import PolypSegmenter

Batch = dict[str, Any]
Turn = Callable[[], Iterator[Batch]]
"""One turn of a side: a generator that gives Lightning a batch to train on, or does its own work and gives none."""

SIDE = 256
# The product's default.
BATCH = 8
ENCODERS = {"resnet18": "resnet18-Unet", "timm-tf_efficientnet_lite0": "lite0-Unet"}
# Enough for a steady state: the first steps make the optimizer's state and let the allocator grow.
_WARM_UP = 2


class Turns:
    """A train loader that measures: between two of its batches lies one whole step, with all that Lightning adds.

    Args:
        ours: one turn of our side.
        reference: one turn of the other side.
        effort: how many turns.
    """

    def __init__(self, ours: Turn, reference: Turn, effort: Effort) -> None:
        self.pairs = Pairs()
        self._sides = ((ours, self.pairs.ours), (reference, self.pairs.reference))
        self._effort = effort

    def __len__(self) -> int:
        """More than are ever given; with a length known beforehand Lightning doesn't fetch ahead."""
        return 2 * self._effort.most + 2 * _WARM_UP + 1

    def __iter__(self) -> Iterator[Batch]:
        """Yields batches in the order A B B A A B …, and takes the time until the next one is asked for."""
        for _ in range(_WARM_UP):
            for turn, _ in self._sides:
                yield from turn()
        since = time.perf_counter()
        while self._effort.wants_more(len(self.pairs.reference), since):
            for turn, seconds in self._sides if len(self.pairs.ours) % 2 == 0 else self._sides[::-1]:
                start = time.perf_counter()
                yield from turn()
                seconds.append(time.perf_counter() - start)


def fit(module: PolypSegmenter, turns: Turns) -> Pairs:
    """Trains for one epoch of turns, with nothing attached that a user could leave out."""
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, train_dataloaders=turns)
    return turns.pairs


def segmenter(encoder: str) -> PolypSegmenter:
    """A Unet with random weights, the same for the same encoder, at a learning rate that leaves it finite."""
    torch.manual_seed(0)
    return PolypSegmenter(arch="Unet", encoder=encoder, lr=1e-4, image_size=SIDE)


def random_batch() -> Batch:
    """A batch as the data module's collate makes it: uint8, channels last."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (BATCH, SIDE, SIDE, 3), dtype=torch.uint8, generator=generator)
    mask = torch.rand((BATCH, 1, SIDE, SIDE), generator=generator) > 0.8
    return {"image": image.permute(0, 3, 1, 2), "mask": mask.to(torch.uint8)}
