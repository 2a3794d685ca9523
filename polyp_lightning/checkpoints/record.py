"""What this project adds to a Lightning checkpoint, and the network that it describes.

:func:`make_record` is what goes in; :class:`Record` is what comes out, validated once, where a file is read.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from polyp_lightning.checkpoints.file import read
from polyp_lightning.checkpoints.key import KEY, SCHEMA
from polyp_lightning.common.errors import ANOTHER_CHECKPOINT, ConfigError, join_names
from polyp_lightning.common.frame_rule import ALARM_THRESHOLD
from polyp_lightning.common.plain import is_plain
from polyp_lightning.common.version import VERSION
from polyp_lightning.networks.build import ArchOptions, build_net
from polyp_lightning.networks.names import check_named, check_path, is_own
from polyp_lightning.pruning import describe, rebuild
from polyp_lightning.pruning.from_scratch import narrow

__all__ = ["KEY", "SCHEMA"]

_SETTINGS = "hyper_parameters"
ALARM = "alarm_threshold"
"""Where a network's alarm threshold lies in the project's own entry."""
_Kind = type | tuple[type, ...]
# The settings by flag. Folders belong to the machine and are not stored. Nothing else is taken from the file: a flag of
# its choosing could name a class to be imported and called; the one that does, arch, is checked: see check_named.
_NONE = type(None)
_MODEL_FLAGS: dict[str, tuple[str, _Kind]] = {
    "arch": ("--model.arch", str),
    "encoder": ("--model.encoder", str),
    "arch_options": ("--model.arch_options", (dict, _NONE)),
    "prediction": ("--model.prediction", (str, int, _NONE)),
    "map_weights": ("--model.map_weights", (list, _NONE)),
    "mean": ("--model.mean", (list, _NONE)),
    "std": ("--model.std", (list, _NONE)),
    "loss": ("--model.loss", str),
    "lr": ("--model.lr", (int, float)),
}
_DATA_FLAGS: dict[str, tuple[str, _Kind]] = {
    "data": ("--data.name", str),
    "split": ("--data.split", str),
    "image_size": ("--data.image_size", int),
    "mask_colours": ("--data.mask_colours", str),
}


@dataclass(frozen=True)
class Record:
    """What a checkpoint says of its network and its run. The settings have been checked, the rest is as in the file.

    Attributes:
        encoder: empty for a network of the user's own.
        arch_options: the architecture's widths and depth where they are not smp's defaults, or the arguments of a
            network of the user's own.
        image_size: side in pixels of the square images that the network was trained on.
        settings: these and others, by the names of ``PolypSegmenter``'s arguments.
        data: what it was trained on, as ``PolypDataModule.describe()`` says; empty where that is not known.
        plan: the shapes of the network.
        weights: its state dict, with the module's prefix ``net.``.
        versions: of what wrote the checkpoint.
        optimizers: the names of their classes; older checkpoints hold none.
        rng: the state of the random numbers.
        callbacks: the states of the callbacks by name.
        alarm_threshold: the frame's score above which it gives an alarm; 0.5 where none was chosen.
    """

    arch: str
    encoder: str
    arch_options: ArchOptions
    image_size: int
    settings: dict[str, Any]
    data: dict[str, Any]
    plan: Any
    weights: Any
    versions: dict[str, str]
    optimizers: Any
    rng: Any
    callbacks: dict[str, dict[str, Any]]
    alarm_threshold: float

    @property
    def val_dice(self) -> float | None:
        """Validation Dice at network resolution when the file was written; None where it is not stored."""
        states = [state for name, state in self.callbacks.items() if name.startswith("StageCheckpoint")]
        score = states[0].get("current_score") if states else None
        single = isinstance(score, float) or (
            isinstance(score, Tensor) and score.numel() == 1 and not score.is_complex()
        )
        return float(score) if single else None  # type: ignore[arg-type]

    def flags(self) -> list[str]:
        """The flags with which the run was made: the network's and the data's, as far as they are stored."""
        return [
            f"{flag}={json.dumps(values[key]) if isinstance(values[key], (dict, list)) else values[key]}"
            for values, known in ((self.settings, _MODEL_FLAGS), (self.data, _DATA_FLAGS))
            for key, (flag, _) in known.items()
            if values.get(key) not in (None, "")
        ]


def make_record(
    net: nn.Module, datamodule: Any, start: Mapping[str, str | None], optimizers: list[torch.optim.Optimizer]
) -> dict[str, Any]:
    """Makes what is stored under :data:`KEY`: plain values only, which load with ``weights_only=True``.

    What the run started from, such as ``encoder_weights``, is stored too; of a path only the file's name.
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


def read_record(path: Path, flag: str = "--ckpt_path") -> Record:
    """Reads a checkpoint file and validates what it says; see :func:`~polyp_lightning.checkpoints.file.read`."""
    return parse_record(read(path, flag))


def parse_record(checkpoint: Mapping[str, Any]) -> Record:
    """Validates what the content of a checkpoint says.

    Raises:
        ConfigError: it is of another program or of another version's layout, or its settings are damaged.
    """
    own = checkpoint.get(KEY)
    if not isinstance(own, dict) or "plan" not in own:
        msg = "the checkpoint was not written by polyp_lightning: it has no description of the network's shapes"
        raise ConfigError(msg)
    _check_schema(own)
    data: Any = own.get("data")
    settings, versions = checkpoint.get(_SETTINGS, {}), own.get("versions", {})
    _check_settings(settings, _MODEL_FLAGS)
    _check_settings(data, _DATA_FLAGS)
    if is_own(settings.get("arch", "")):
        check_path(settings["arch"], "the checkpoint's arch")
    missing = [key for key in ("arch", "encoder", "image_size") if key not in settings]
    if missing:
        msg = f"the checkpoint does not say its {', '.join(missing)}; give one that `fit` has written"
        raise ConfigError(msg)
    size = settings["image_size"]
    if type(size) is not int or size < 1 or not isinstance(versions, dict):
        msg = "the checkpoint's image size or versions are damaged; take another one"
        raise ConfigError(msg)
    callbacks = checkpoint.get("callbacks")
    states = callbacks.items() if isinstance(callbacks, dict) else ()
    return Record(
        arch=settings["arch"],
        encoder=settings["encoder"],
        arch_options=dict(settings.get("arch_options") or {}),
        image_size=size,
        settings=dict(settings),
        data=dict(data),
        plan=own["plan"],
        weights=checkpoint.get("state_dict"),
        versions=dict(versions),
        optimizers=own.get("optimizers"),
        rng=own.get("rng", {}),
        callbacks={str(name): state for name, state in states if isinstance(state, dict)},
        alarm_threshold=_alarm_threshold(own),
    )


def restore_net(record: Record, named: Collection[str] = ()) -> nn.Module:
    """Builds a checkpoint's network with its shapes and weights.

    Args:
        record: what the checkpoint says.
        named: classes and functions of the user's own that may be imported, since the user has named them.

    Raises:
        UnnamedClassError: it is none of these.
        ConfigError: it can't be built, the plan and the weights do not fit each other, or one of them is missing.
        PruningError: the plan belongs to another architecture.
    """
    net = rebuild(build_dense(record, named), record.plan)
    if not isinstance(record.weights, dict):
        msg = "the checkpoint holds no weights (state_dict); take one that `fit` has written"
        raise ConfigError(msg)
    own = {str(k).removeprefix("net."): v for k, v in record.weights.items()}
    wanted = net.state_dict()
    odd = sorted(own.keys() ^ wanted.keys()) + [k for k in own.keys() & wanted if not _fits(own[k], wanted[k])]
    if odd:
        msg = f"the checkpoint's plan does not fit its weights: they disagree about {join_names(odd)}; take another one"
        raise ConfigError(msg)
    net.load_state_dict(own)
    return net


def restore_widths(record: Record, named: Collection[str] = ()) -> nn.Module:
    """Builds a network of a checkpoint's shapes with random weights; ``named`` as for :func:`restore_net`."""
    return narrow(build_dense(record, named), record.plan)


def build_dense(record: Record, named: Collection[str] = ()) -> nn.Module:
    """Builds a checkpoint's network as it was before any cut, with random weights; ``named`` likewise."""
    check_named(record.arch, named)
    return build_net(record.arch, record.encoder, None, record.arch_options, record.settings.get("prediction"))


def restore_rng(states: Any) -> None:
    """Sets PyTorch's random numbers, from which dropout draws, to where they were when a checkpoint was written.

    Order and augmentation of the frames depend on seed and epoch alone and need no state.

    Raises:
        ConfigError: what is stored is no state of random numbers.
    """
    try:
        if "cpu" in states:
            torch.set_rng_state(states["cpu"])
        if torch.cuda.is_available() and len(states.get("cuda", [])) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(states["cuda"])
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        msg = (
            f"the checkpoint's random numbers are damaged ({type(error).__name__}), so its run can't be resumed; "
            f"{ANOTHER_CHECKPOINT}"
        )
        raise ConfigError(msg) from error


def _check_schema(own: Mapping[str, Any]) -> None:
    # By type first: a damaged file may hold a tensor there.
    if type(own.get("schema")) is int and own["schema"] == SCHEMA:
        return
    versions = own.get("versions")
    writer = versions.get("polyp_lightning") if isinstance(versions, dict) else None
    msg = (
        f"the checkpoint has layout {own.get('schema')!r} (written by polyp_lightning {writer or 'unknown'}); "
        f"this is {VERSION}, which reads layout {SCHEMA}"
    )
    raise ConfigError(msg)


def _check_settings(values: Any, known: Mapping[str, tuple[str, _Kind]]) -> None:
    for key, (flag, kind) in known.items():
        if not isinstance(values, dict) or isinstance(values.get(key), bool):
            msg = "the checkpoint's settings of model and data are damaged; take another one"
            raise ConfigError(msg)
        if key in values and not isinstance(values[key], kind):
            msg = f"the checkpoint's value for {flag} is a {type(values[key]).__name__}; take another one"
            raise ConfigError(msg)
        value = values.get(key)
        plain = _are_harmless(value) if isinstance(value, dict) else _are_numbers(value)
        if isinstance(value, (dict, list)) and not plain:
            msg = f"the checkpoint's value for {flag} is damaged; take another one"
            raise ConfigError(msg)


def _are_harmless(values: dict[Any, Any]) -> bool:
    """Whether arguments are plain, and none would have the parser import a class."""
    return is_plain(values) and "class_path" not in json.dumps(values)


def _alarm_threshold(own: Mapping[str, Any]) -> float:
    threshold = own.get(ALARM, ALARM_THRESHOLD)
    if type(threshold) is not float or not 0 <= threshold < 1:
        msg = f"the checkpoint's alarm threshold is damaged ({threshold!r:.40}); take another one"
        raise ConfigError(msg)
    return threshold


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(one) in (int, float) for one in values)


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
        "polyp_lightning": VERSION,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "segmentation_models_pytorch": smp.__version__,
    }
    return {name: str(version) for name, version in versions.items()}
