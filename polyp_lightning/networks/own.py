"""Networks of the user's own, by the import path of a class or function: ``--model.arch package.module.Class``.

Any module that maps images to one map of logits, or to a list, tuple or dict of them (deep supervision). The import
runs code, so it happens only for a path that the user has given, never for one that a file has: see
:func:`~polyp_lightning.networks.names.check_named`.
"""

import importlib
import warnings
from collections.abc import Collection, Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from polyp_lightning.common.errors import ConfigError, join_names
from polyp_lightning.common.options import option
from polyp_lightning.common.plain import is_plain
from polyp_lightning.networks.names import check_path

Maps = dict[str, Tensor]
"""The maps that a network returns, by their key or place."""


class OwnNet(nn.Module):
    """Makes any network with one or several maps one that returns its prediction.

    In training it returns all maps as the network makes them, for the loss; in evaluation, and so in what is traced,
    exported and measured, the prediction alone, at the size of the image.

    Args:
        body: the network: normalised floats (N, 3, H, W) to logits (N, 1, h, w), or a list, tuple or dict of them.
        prediction: key or place (from 0) of the map that is the prediction; None for the largest. Of several that are
            equally large it is the last one of a list, as in PraNet, and the first one of a dict, as in torchvision.
    """

    def __init__(self, body: nn.Module, prediction: str | int | None = None) -> None:
        super().__init__()
        self.body = body
        self.prediction = None if prediction is None else str(prediction)

    def forward(self, image: Tensor) -> Tensor | Maps:
        """Returns all maps in training, else the logits (N, 1, H, W) of the prediction.

        Raises:
            ConfigError: the network returns something else than maps of one channel.
        """
        maps = _collect_maps(self.body(image), image.shape[0])
        return maps if self.training else resize_logits(self.predict(maps), image.shape[-2:])

    def predict(self, maps: Maps) -> Tensor:
        """Chooses the prediction among the maps that the network has returned, at the size that it has.

        Raises:
            ConfigError: there is no such map.
        """
        if len(maps) == 1:
            # In evaluation some networks return the prediction alone.
            return next(iter(maps.values()))
        if self.prediction is None:
            return maps[_find_largest(maps)]
        if self.prediction not in maps:
            msg = f"{option('model.prediction', self.prediction)}: the network returns the maps {', '.join(maps)}"
            raise ConfigError(msg)
        return maps[self.prediction]


def build_own(arch: str, options: Mapping[str, Any], prediction: str | int | None) -> OwnNet:
    """Imports a class or function and calls it with the options.

    Raises:
        ConfigError: it can't be imported or called, does not make a module, or the options are not plain values.
    """
    if not is_plain(dict(options)):
        msg = (
            f"arch_options={dict(options)!r:.200}: a checkpoint holds them, so they have to be numbers, texts, truth "
            "values, and lists and tables of them; a function of yours can make more of them "
            f"({option('model.arch_options')})"
        )
        raise ConfigError(msg)
    make = _find(arch)
    try:
        body = make(**options)
    except Exception as error:
        # Whatever the user's code raises.
        given = f" with {dict(options)}" if options else ""
        msg = (
            f"arch={arch}{given} can't be built: {type(error).__name__}: {error} ({option('model.arch')}, "
            f"{option('model.arch_options')})"
        )
        raise ConfigError(msg) from error
    if not isinstance(body, nn.Module):
        msg = (
            f"arch={arch} makes a {type(body).__name__}, and a torch.nn.Module is needed: name a class of networks, or "
            f"a function that returns one ({option('model.arch')})"
        )
        raise ConfigError(msg)
    return OwnNet(body, prediction)


def resize_logits(logits: Tensor, size: Collection[int]) -> Tensor:
    """Resizes maps (N, 1, h, w) to (height, width), bilinearly; leaves them alone where they have that size."""
    return logits if logits.shape[-2:] == tuple(size) else F.interpolate(logits, tuple(size), mode="bilinear")


def _find(arch: str) -> Any:
    check_path(arch)
    module, _, name = arch.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        msg = (
            f"arch={arch}: {module} can't be imported: {type(error).__name__}: {error}. Start in the folder that holds "
            f"it, or add that to PYTHONPATH ({option('model.arch')})"
        )
        raise ConfigError(msg) from error
    if not callable(found):
        msg = f"arch={arch}: {module} has no class or function {name} ({option('model.arch')})"
        raise ConfigError(msg)
    return found


def _collect_maps(output: Any, batch: int) -> Maps:
    """Collects the maps of a network's output and checks their shapes."""
    if isinstance(output, Tensor) and output.ndim == 5:
        # MONAI stacks the maps of its deep supervision.
        output = list(output.unbind(1))
    if isinstance(output, Mapping):
        maps = {str(key): value for key, value in output.items()}
    else:
        several = output if isinstance(output, (list, tuple)) else [output]
        maps = {str(place): value for place, value in enumerate(several)}
    odd = [f"{key}: {_name(value)}" for key, value in maps.items() if not _is_map(value, batch)]
    if odd or not maps:
        what = join_names(odd) if maps else "nothing"
        msg = (
            "a network has to return logits of one channel (N, 1, H, W), or a list, tuple or dict of them, but it "
            f"returned {what}; let it have one output channel, or wrap it in a module that returns what is needed "
            f"({option('model.arch')}, {option('model.arch_options')})"
        )
        raise ConfigError(msg)
    return maps


def _is_map(value: Any, batch: int) -> bool:
    shaped = isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4
    return shaped and value.shape[:2] == (batch, 1)


def _name(value: Any) -> str:
    return f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _find_largest(maps: Maps) -> str:
    pixels = {key: value.shape[-2] * value.shape[-1] for key, value in maps.items()}
    best = [key for key, count in pixels.items() if count == max(pixels.values())]
    chosen = best[-1] if best[0].isdigit() else best[0]
    if len(best) > 1:
        warnings.warn(
            f"the maps {', '.join(best)} of the network are equally large; {chosen} is taken for the prediction, and "
            f"{option('model.prediction')} names another",
            stacklevel=2,
        )
    return chosen
