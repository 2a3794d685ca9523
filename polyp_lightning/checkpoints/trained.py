"""A trained network without its trainer, for what comes after training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from polyp_lightning.checkpoints.record import as_flags, read, record_of, with_weights
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.build import ArchOptions, Triple, build_net, normalisation


@dataclass(frozen=True)
class TrainedNet:
    """A network without its trainer, as a checkpoint holds it.

    Attributes:
        net: normalised float images (N, 3, S, S) to logits (N, 1, S, S); on the CPU, float32, in evaluation mode.
        arch: its architecture.
        encoder: its encoder.
        arch_options: its widths and depth where they are not smp's defaults.
        mean: per RGB channel what the network's input is normalised with, for values in [0, 1].
        std: likewise.
        image_size: side in pixels of the square images that it was trained on.
        data: what it was trained on, as :func:`record` stores it; empty where that is not known.
        versions: of what wrote the checkpoint.
        val_dice: the epoch's Dice on the validation images at network resolution; None where it is not stored.
    """

    net: nn.Module
    arch: str
    encoder: str
    arch_options: ArchOptions
    mean: Triple
    std: Triple
    image_size: int
    data: dict[str, Any]
    versions: dict[str, str]
    val_dice: float | None


def load_net(path: Path, flag: str = "--ckpt_path") -> TrainedNet:
    """The network of a checkpoint, pruned or not, rebuilt without Lightning's trainer or module.

    Args:
        path: the file.
        flag: what the user gave it with, for the messages.

    Raises:
        ConfigError: the file is no checkpoint of this project, or its parts don't fit together.
        PruningError: its plan belongs to another architecture.
    """
    stored = read(path, flag)
    # Says what is damaged in the settings.
    as_flags(stored)
    found, options = record_of(stored), stored.get("hyper_parameters", {})
    missing = [key for key in ("arch", "encoder", "image_size") if key not in options]
    if missing:
        msg = f"{path} does not say its {', '.join(missing)}; give a checkpoint that `fit` has written"
        raise ConfigError(msg)
    arch, encoder = str(options["arch"]), str(options["encoder"])
    chosen = dict(options.get("arch_options") or {})
    net = with_weights(build_net(arch, encoder, None, chosen), stored)
    mean, std = normalisation(encoder)
    size, facts, versions = options["image_size"], found.get("data"), found.get("versions", {})
    if type(size) is not int or size < 1 or not isinstance(facts, dict) or not isinstance(versions, dict):
        msg = f"{path} holds settings that are damaged (image size, data or versions); take another one"
        raise ConfigError(msg)
    dice = _val_dice(stored)
    return TrainedNet(net.float().eval(), arch, encoder, chosen, mean, std, size, dict(facts), dict(versions), dice)


def _val_dice(stored: Mapping[str, Any]) -> float | None:
    """What the checkpoint callback saw when it wrote the file."""
    callbacks = stored.get("callbacks")
    found = callbacks.items() if isinstance(callbacks, dict) else []
    states = [state for name, state in found if str(name).startswith("StageCheckpoint") and isinstance(state, dict)]
    score = states[0].get("current_score") if states else None
    single = isinstance(score, float) or (isinstance(score, Tensor) and score.numel() == 1 and not score.is_complex())
    return float(score) if single else None  # type: ignore[arg-type]
