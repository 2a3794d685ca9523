"""What this project adds to a Lightning checkpoint, and how it is read back without trusting the file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

import polyp_lightning
from polyp_lightning.checkpoints.file import read
from polyp_lightning.common.errors import ANOTHER_CHECKPOINT, ConfigError, join_names
from polyp_lightning.pruning import describe, rebuild
from polyp_lightning.pruning.from_scratch import narrow

__all__ = [
    "KEY",
    "SCHEMA",
    "as_flags",
    "read",
    "record",
    "record_of",
    "restore_rng",
    "with_weights",
    "with_widths",
]

KEY = "polyp_lightning"
SCHEMA = 1
# What a checkpoint says of the data it was trained on, as flags; folders belong to the machine and are not stored.
_DATA_FLAGS = {"data": ("--data.name", str), "split": ("--data.split", str), "image_size": ("--data.image_size", int)}
# The size is one flag for data and model, weights come from the checkpoint itself, and nothing else is taken from the
# file: a flag of its choosing could name a class to be imported and called.
_MODEL_FLAGS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "arch": ("--model.arch", str),
    "encoder": ("--model.encoder", str),
    "arch_options": ("--model.arch_options", (dict, type(None))),
    "loss": ("--model.loss", str),
    "lr": ("--model.lr", (int, float)),
}


def record(
    net: nn.Module, datamodule: Any, start: Mapping[str, str | None], optimizers: list[torch.optim.Optimizer]
) -> dict[str, Any]:
    """What is stored under :data:`KEY`: plain values only, so that the file loads with ``weights_only=True``.

    Args:
        net: the network, pruned or not.
        datamodule: says what it was trained on with ``describe()``; None where there is none.
        start: what the run started from, such as ``encoder_weights``; of a path only the file's name is stored.
        optimizers: those that train the network.
    """
    return {
        "schema": SCHEMA,
        "plan": describe(net),
        "data": datamodule.describe() if hasattr(datamodule, "describe") else {},
        "versions": _versions(),
        **{key: None if value is None else Path(value).name for key, value in start.items()},
        "optimizers": [type(optimizer).__name__ for optimizer in optimizers],
        "rng": _rng(),
    }


def record_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse: what :func:`record` put into a checkpoint.

    Raises:
        ConfigError: the checkpoint is of another program or of another version's layout.
    """
    found = checkpoint.get(KEY)
    if not isinstance(found, dict) or "plan" not in found:
        msg = "the checkpoint was not written by polyp_lightning: it has no description of the network's shapes"
        raise ConfigError(msg)
    # By type first: a damaged file may hold a tensor there.
    if type(found.get("schema")) is not int or found["schema"] != SCHEMA:
        versions = found.get("versions")
        writer = versions.get("polyp_lightning") if isinstance(versions, dict) else None
        msg = (
            f"the checkpoint has layout {found.get('schema')!r} (written by polyp_lightning {writer or 'unknown'}); "
            f"this is {polyp_lightning.__version__}, which reads layout {SCHEMA}"
        )
        raise ConfigError(msg)
    return found


def with_weights(fresh: nn.Module, checkpoint: Mapping[str, Any]) -> nn.Module:
    """A network of the checkpoint's architecture with the checkpoint's shapes and weights.

    Args:
        fresh: the dense network as its factory makes it; changed in place.
        checkpoint: what :func:`read` returned.

    Raises:
        ConfigError: the plan and the weights do not fit each other, or one of them is missing.
        PruningError: the plan belongs to another architecture.
    """
    net = rebuild(fresh, record_of(checkpoint)["plan"])
    weights = checkpoint.get("state_dict")
    if not isinstance(weights, dict):
        msg = "the checkpoint holds no weights (state_dict); take one that `fit` has written"
        raise ConfigError(msg)
    own = {str(k).removeprefix("net."): v for k, v in weights.items()}
    wanted = net.state_dict()
    odd = sorted(own.keys() ^ wanted.keys()) + [k for k in own.keys() & wanted if not _fits(own[k], wanted[k])]
    if odd:
        msg = f"the checkpoint's plan does not fit its weights: they disagree about {join_names(odd)}; take another one"
        raise ConfigError(msg)
    net.load_state_dict(own)
    return net


def with_widths(fresh: nn.Module, checkpoint: Mapping[str, Any]) -> nn.Module:
    """A network of the checkpoint's architecture with the checkpoint's shapes and random weights of its own.

    Args:
        fresh: the dense network as its factory makes it, without pretrained weights; changed in place.
        checkpoint: what :func:`read` returned.

    Raises:
        ConfigError: the checkpoint is of another program or version.
        PruningError: the plan belongs to another architecture.
    """
    return narrow(fresh, record_of(checkpoint)["plan"])


def restore_rng(found: Mapping[str, Any]) -> None:
    """PyTorch's random numbers go on where they were when the checkpoint was written (dropout draws from them).

    Order and augmentation of the frames depend on seed and epoch alone and need no state.

    Raises:
        ConfigError: what is stored is no state of random numbers.
    """
    states = found.get("rng", {})
    try:
        if "cpu" in states:
            torch.set_rng_state(states["cpu"])
        if torch.cuda.is_available() and len(states.get("cuda", [])) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states["cuda"])
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        msg = (
            f"the checkpoint's random numbers are damaged ({type(error).__name__}), so that its run can't be resumed; "
            f"{ANOTHER_CHECKPOINT}"
        )
        raise ConfigError(msg) from error


def as_flags(stored: Mapping[str, Any]) -> list[str]:
    """The flags with which a checkpoint's run was made: the network's and the data's, as far as they are stored.

    Raises:
        ConfigError: the checkpoint is of another program or version, or one of the values is none that a flag takes.
    """
    data, model = record_of(stored).get("data"), stored.get("hyper_parameters", {})
    flags = []
    for values, known in ((model, _MODEL_FLAGS), (data, _DATA_FLAGS)):
        for key, (flag, kind) in known.items():
            if not isinstance(values, dict) or isinstance(values.get(key, kind), bool):
                msg = "the checkpoint's settings of model and data are damaged; take another one"
                raise ConfigError(msg)
            if key in values and not isinstance(values[key], kind):
                msg = f"the checkpoint's value for {flag} is a {type(values[key]).__name__}; take another one"
                raise ConfigError(msg)
            flags += [f"{flag}={_as_text(values[key], flag)}"] if values.get(key) is not None else []
    return flags


def _as_text(value: Any, flag: str) -> str:
    if not isinstance(value, dict):
        return str(value)
    try:
        return json.dumps(value)
    except TypeError as error:
        msg = f"the checkpoint's value for {flag} is damaged; take another one"
        raise ConfigError(msg) from error


def _fits(value: Any, wanted: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == wanted.shape and value.layout == wanted.layout


def _rng() -> dict[str, Any]:
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _versions() -> dict[str, str]:
    """The versions that made a checkpoint, as plain strings: torch's own is a subclass, refused by weights_only."""
    versions = {
        "polyp_lightning": polyp_lightning.__version__,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "segmentation_models_pytorch": smp.__version__,
    }
    return {name: str(version) for name, version in versions.items()}
