"""The files of a run's folder, by name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyp_lightning.common.errors import ConfigError

_BEST = re.compile(r"stage(\d+)-epoch\d+-dice(\d\.\d+)\.ckpt")


def read_config(folder: Path) -> dict[str, Any]:
    """Reads the options that `fit` saved in a run's folder; empty where the run was started from Python.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / "config.yaml"
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        msg = f"{path} can't be read ({' '.join(str(error).split())}); remove it, or name another run"
        raise ConfigError(msg) from error
    return loaded if isinstance(loaded, dict) else {}


def training_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Picks, of all options of `fit`, those that decide a training on given data, but for pruning."""
    trainer, data = config.get("trainer") or {}, config.get("data") or {}
    found = {key: trainer.get(key) for key in ("max_epochs", "max_steps", "precision", "callbacks")}
    found |= {key: data.get(key) for key in ("batch_size", "augmentation")}
    return found | {"model": config.get("model"), "seed": config.get("seed_everything")}


def best_checkpoints(folder: Path) -> dict[int, Path]:
    """Finds the best checkpoint of each stage by its file name, the highest stage first."""
    found = [(int(m[1]), float(m[2]), path) for path in folder.glob("*.ckpt") if (m := _BEST.fullmatch(path.name))]
    return {stage: path for stage, _, path in sorted(found, key=lambda item: (-item[0], item[1]))}


def best_checkpoint(folder: Path) -> Path:
    """Finds the checkpoint with the best validation Dice among those of the smallest network: one per stage is kept.

    Raises:
        ConfigError: there is none.
    """
    best = next(iter(best_checkpoints(folder / "checkpoints").values()), None)
    if best is None:
        msg = f"{folder} holds no checkpoint of a stage: its training did not get to the end of an epoch"
        raise ConfigError(msg)
    return best
