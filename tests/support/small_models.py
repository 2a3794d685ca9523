"""Checkpoints with random weights: deployment needs no training to be tested."""

from collections.abc import Callable
from pathlib import Path

import lightning
import numpy as np
import torch
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.checkpoints.record import KEY, make_record
from polyp_lightning.networks.build import build_net

Exported = Callable[..., Path]
"""Makes each kind of export once: ``exported("onnx", int8=True)`` is the model's file."""

CleanModules = Callable[[str], set[str]]
"""Runs lines of Python in a process of its own and returns the packages that it imported."""

SIZE = 64
ENCODER = "resnet18"


class PhantomFacts:
    """Says what a datamodule of 28 phantoms says: 20 train, 4 validate, 4 test."""

    def describe(self) -> dict[str, str | int]:
        return {
            "data": "phantom", "split": "by-number", "protocol": "drawn frames",
            "train": 20, "val": 4, "test": 4, "image_size": SIZE,
        }  # fmt: skip


def lively_net(arch: str = "Unet", encoder: str = ENCODER) -> nn.Module:
    """A dense network whose batch norms do something, so that folding them wrongly is seen."""
    torch.manual_seed(0)
    net = build_net(arch, encoder, None)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return net.eval()


def cut(net: nn.Module, share: float) -> nn.Module:
    """A network with filters removed at random."""
    graph = pruning.trace(net, (2, 3, SIZE, SIZE))
    removed = pruning.select(graph, np.random.default_rng(0).random(graph.size), target=share)
    pruning.remove(net, graph, removed)
    return net


def save_checkpoint(net: nn.Module, path: Path, encoder: str = ENCODER, arch: str = "Unet") -> Path:
    """What the segmentation module's checkpoint holds, as far as a network's loading needs it."""
    torch.save(
        {
            "state_dict": {f"net.{name}": value for name, value in net.state_dict().items()},
            "hyper_parameters": {"arch": arch, "encoder": encoder, "image_size": SIZE, "encoder_weights": None},
            KEY: make_record(net, PhantomFacts(), {}, []),
            # What Lightning itself asks for.
            "pytorch-lightning_version": lightning.__version__,
        },
        path,
    )
    return path
