"""The files of a run's folder, by name."""

import re
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

_BEST = re.compile(r"stage(\d+)-epoch\d+-dice(\d\.\d+)\.ckpt")


def read_config(folder: Path) -> dict[str, Any]:
    """Reads the options that `fit` saved in a run's folder; empty where the run was started from Python."""
    path = folder / "config.yaml"
    loaded = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return loaded if isinstance(loaded, dict) else {}


def best_checkpoints(folder: Path) -> dict[int, Path]:
    """Finds the best checkpoint of each stage by its file name, the highest stage first."""
    found = [(int(m[1]), float(m[2]), path) for path in folder.glob("*.ckpt") if (m := _BEST.fullmatch(path.name))]
    return {stage: path for stage, _, path in sorted(found, key=lambda item: (-item[0], item[1]))}
