"""Captures the graph that is deployed: raw frames in, probabilities out, batch norm folded."""

import warnings
from typing import Any

import torch
from torch import Tensor, fx, nn

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.rewriting.folding import fold_batch_norm
from polyp_lightning.deploy.rewriting.single_channel import speed_up_single_channels
from polyp_lightning.deploy.rewriting.upsampled import merge_upsampling
from polyp_lightning.deploy.signature import INPUT


class FrameLogits(nn.Module):
    """A segmentation network with its preprocessing.

    Takes frames as a decoder gives them, RGB uint8 (N, S, S, 3), so that scale, colour order and normalisation can't
    be got wrong by a caller; returns logits, float32 (N, 1, S, S).

    The network takes normalised floats (N, 3, S, S), by mean and standard deviation per RGB channel for values in [0,
    1], and returns logits (N, 1, S, S); it is put into evaluation mode.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, net: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, 3, 1, 1)), persistent=False)
        self.eval()

    def forward(self, frame: Tensor) -> Tensor:
        """Returns the logits of frames."""
        # Permuted, frames are channels_last already.
        image = frame.permute(0, 3, 1, 2).to(self.mean.dtype)
        logits: Tensor = self.net((image - self.mean) * self.scale)
        return logits


class Deployable(FrameLogits):
    """The same with the sigmoid; returns probabilities."""

    def forward(self, frame: Tensor) -> Tensor:
        """Returns the probabilities of frames."""
        return super().forward(frame).sigmoid()


def check_size(image_size: int) -> None:
    """Refuses a size that is not a multiple of 32, which the networks can't take."""
    if image_size < 32 or image_size % 32:
        msg = f"--image_size {image_size} must be a multiple of 32: encoders halve the frame five times"
        raise ConfigError(msg)


def rewrite(graph: nn.Module, *, merge: bool) -> fx.GraphModule:
    """Rewrites a graph for speed, in place: exports and timers both do, so a network's time is that of its export.

    ``merge`` applies :func:`merge_upsampling`: faster in OpenVINO, elsewhere not always.
    """
    folded = fold_batch_norm(graph)
    return speed_up_single_channels(merge_upsampling(folded) if merge else folded)


def capture(
    module: Deployable, image_size: int, dynamic_batch: bool = False, *, merge: bool = False
) -> torch.export.ExportedProgram:
    """Captures a module as an ``ExportedProgram``, rewritten for speed.

    ``merge`` is that of :func:`rewrite`. With ``dynamic_batch`` the graph takes any number of frames, else one.

    Raises:
        ConfigError: the network can't be exported so.
    """
    check_size(image_size)
    # A batch of one would be taken for a constant.
    frame = torch.zeros(2 if dynamic_batch else 1, image_size, image_size, 3, dtype=torch.uint8)
    shapes: Any = {INPUT: {0: torch.export.Dim("batch", min=1, max=1024)}} if dynamic_batch else None
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module, (frame,), dynamic_shapes=shapes)
            # `strict` runs Dynamo, which is slower and buys nothing for a graph that is one already.
            graph = rewrite(program.module(), merge=merge)
            return torch.export.export(graph, (frame,), dynamic_shapes=shapes)
    except Exception as error:
        # Whatever the network's own forward raises on a size or batch that it can't take.
        first = str(error).strip().split("\n", maxsplit=1)[0]
        hint = ", or leave --dynamic_batch out" if dynamic_batch else ""
        msg = f"the network can't be exported at {image_size}²: {first}. Choose another --image_size{hint}."
        raise ConfigError(msg) from error
