"""Exact removal of filters from segmentation networks, usable without Lightning.

trace → choose → remove (or mask) → rebuild from a checkpoint's architecture:

>>> import torch, segmentation_models_pytorch as smp
>>> from polyp_lightning import pruning
>>> net = smp.Unet("resnet18", encoder_weights=None)
>>> graph = pruning.trace(net, (2, 3, 64, 64))
>>> importance = torch.rand(graph.size)
>>> removed = pruning.select(graph, importance, target=0.5)
>>> _ = pruning.remove(net, graph, removed)
>>> bool(abs(graph.total_macs(removed) / graph.total_macs() - 0.5) < 0.01)
True
>>> again = pruning.rebuild(smp.Unet("resnet18", encoder_weights=None), pruning.describe(net))
>>> _ = again.load_state_dict(net.state_dict())

How an importance becomes a cut, file by file: ``criteria/taylor_hooks`` (changes of the loss, by image) →
``criteria/taylor`` (to one number per component) → ``criteria/base`` (mean over images and processes) →
``callbacks/pruning`` (when) → ``budget/recipe`` → ``budget/selection`` (the target as a question) →
``budget/allocation`` (the widths) → ``surgery`` (the cut).
"""

from polyp_lightning.pruning.architecture import describe, rebuild
from polyp_lightning.pruning.budget import Dense, Limits, Target, select
from polyp_lightning.pruning.exactness import assert_exact, removal_error
from polyp_lightning.pruning.example import Example
from polyp_lightning.pruning.graph import ChannelGraph
from polyp_lightning.pruning.optimizer_state import cut_optimizer_state
from polyp_lightning.pruning.surgery import drop_dead, mask, remove
from polyp_lightning.pruning.tracing.trace import trace

__all__ = [
    "ChannelGraph",
    "Dense",
    "Example",
    "Limits",
    "Target",
    "assert_exact",
    "cut_optimizer_state",
    "describe",
    "drop_dead",
    "mask",
    "rebuild",
    "removal_error",
    "remove",
    "select",
    "trace",
]
