"""A training step of ours against a bare torch loop of the same net, loss, optimizer and batch."""

import copy
from collections.abc import Callable, Iterator

import torch
from measuring import Effort, Row
from torch import Tensor
from training import BATCH, ENCODERS, SIDE, Batch, Turns, fit, random_batch, segmenter

from polyp_lightning.training.module import PolypSegmenter

LIMIT = 1.05


def measure(effort: Effort) -> list[Row]:
    """One row for each encoder."""
    return [_measure(encoder, name, effort) for encoder, name in ENCODERS.items()]


def _measure(encoder: str, name: str, effort: Effort) -> Row:
    module, batch = segmenter(encoder), random_batch()
    step = bare_step(module, batch)

    def ours() -> Iterator[Batch]:
        yield batch

    def reference() -> Iterator[Batch]:
        step()
        yield from ()

    pairs = fit(module, Turns(ours, reference, effort))
    return pairs.row(f"training step, {name}, {SIDE}², batch {BATCH}: Lightning against bare torch", LIMIT)


def bare_step(module: PolypSegmenter, batch: Batch) -> Callable[[], Tensor]:
    """What one would write without Lightning: a net with the same weights, from the same uint8 batch.

    The one-cycle schedule and the logged loss are left out: they count as ours.
    """
    net = copy.deepcopy(module.net).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=module.lr)
    shift, scale = 255 * module.mean, 255 * module.std

    def step() -> Tensor:
        image = batch["image"].to(dtype=torch.float32, memory_format=torch.channels_last)
        loss = module.loss(net((image - shift) / scale), batch["mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
