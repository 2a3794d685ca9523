"""What this project adds to a Lightning checkpoint, and how it is read back without trusting the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import segmentation_models_pytorch as smp
import torch
from torch import nn

import polyp_lightning
from polyp_lightning.errors import ConfigError
from polyp_lightning.nets import Triple, build_net, normalisation
from polyp_lightning.pruning import describe, rebuild

KEY = "polyp_lightning"
SCHEMA = 1
# What a checkpoint says of the data it was trained on, as flags; folders belong to the machine and are not stored.
_DATA_FLAGS = {"data": "--data.name", "split": "--data.split", "image_size": "--data.image_size"}


def record(net: nn.Module, datamodule: Any, encoder_weights: str | None) -> dict[str, Any]:
    """What is stored under :data:`KEY`: plain values only, so that the file loads with ``weights_only=True``.

    Args:
        net: the network, pruned or not.
        datamodule: says what it was trained on with ``describe()``; None where there is none.
        encoder_weights: what the encoder started from.
    """
    return {
        "schema": SCHEMA,
        "plan": describe(net),
        "data": datamodule.describe() if hasattr(datamodule, "describe") else {},
        "versions": _versions(),
        "encoder_weights": encoder_weights,
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
    if found.get("schema") != SCHEMA:
        writer = found.get("versions", {}).get("polyp_lightning", "unknown")
        msg = (
            f"the checkpoint has layout {found.get('schema')!r} (written by polyp_lightning {writer}); "
            f"this is {polyp_lightning.__version__}, which reads layout {SCHEMA}"
        )
        raise ConfigError(msg)
    return found


def read(path: Path) -> dict[str, Any]:
    """A checkpoint file, read without running any code that it may hold.

    Raises:
        ConfigError: there is no such file, or it is no checkpoint.
    """
    if not path.is_file():
        msg = f"--ckpt_path {path} is not a file; give a checkpoint that `fit` has written (runs/*/checkpoints)"
        raise ConfigError(msg)
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        # A damaged or foreign file can fail in any way.
        msg = f"--ckpt_path {path} can't be read as a checkpoint: {error}"
        raise ConfigError(msg) from error
    if not isinstance(stored, dict):
        msg = f"--ckpt_path {path} holds a {type(stored).__name__}, not a checkpoint; give one that `fit` has written"
        raise ConfigError(msg)
    return stored


@dataclass(frozen=True)
class TrainedNet:
    """A network without its trainer, as a checkpoint holds it.

    Attributes:
        net: normalised float images (N, 3, S, S) to logits (N, 1, S, S); on the CPU, float32, in evaluation mode.
        arch: its architecture.
        encoder: its encoder.
        mean: per RGB channel what the network's input is normalised with, for values in [0, 1].
        std: likewise.
        image_size: side in pixels of the square images that it was trained on.
        data: what it was trained on, as :func:`record` stores it; empty where that is not known.
        val_dice: the epoch's Dice on the validation images at network resolution; None where it is not stored.
    """

    net: nn.Module
    arch: str
    encoder: str
    mean: Triple
    std: Triple
    image_size: int
    data: dict[str, Any]
    val_dice: float | None


def load_net(path: Path) -> TrainedNet:
    """The network of a checkpoint, pruned or not, rebuilt without Lightning's trainer or module.

    Raises:
        ConfigError: the file is no checkpoint of this project, or its parts don't fit together.
        PruningError: its plan belongs to another architecture.
    """
    stored = read(path)
    found, options = record_of(stored), stored.get("hyper_parameters", {})
    missing = [key for key in ("arch", "encoder", "image_size") if key not in options]
    if missing:
        msg = f"{path} does not say its {', '.join(missing)}; give a checkpoint that `fit` has written"
        raise ConfigError(msg)
    arch, encoder = str(options["arch"]), str(options["encoder"])
    net = rebuild(build_net(arch, encoder, None), found["plan"])
    state = {key.removeprefix("net."): value for key, value in stored["state_dict"].items() if key.startswith("net.")}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        msg = f"{path}: the weights don't fit {arch} with {encoder}: {str(error).splitlines()[-1].strip()}"
        raise ConfigError(msg) from error
    mean, std = normalisation(encoder)
    size = int(options["image_size"])
    return TrainedNet(net.float().eval(), arch, encoder, mean, std, size, dict(found["data"]), _val_dice(stored))


def _val_dice(stored: Mapping[str, Any]) -> float | None:
    """What the checkpoint callback saw when it wrote the file."""
    states = [state for name, state in stored.get("callbacks", {}).items() if name.startswith("StageCheckpoint")]
    score = states[0].get("current_score") if states else None
    return None if score is None else float(score)


def as_flags(stored: Mapping[str, Any]) -> list[str]:
    """The flags with which a checkpoint's run was made: the network's and the data's, as far as they are stored."""
    model = {k: v for k, v in stored.get("hyper_parameters", {}).items() if not k.startswith("_")}
    # The size is one flag for data and model, and weights come from the checkpoint itself.
    flags = {f"--model.{k}": v for k, v in model.items() if k not in ("image_size", "encoder_weights")}
    data = record_of(stored)["data"]
    flags |= {flag: data[key] for key, flag in _DATA_FLAGS.items() if key in data}
    return [f"{flag}={'null' if value is None else value}" for flag, value in flags.items()]


def _versions() -> dict[str, str]:
    """The versions that made a checkpoint, as plain strings: torch's own is a subclass, refused by weights_only."""
    versions = {
        "polyp_lightning": polyp_lightning.__version__,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "segmentation_models_pytorch": smp.__version__,
    }
    return {name: str(version) for name, version in versions.items()}
