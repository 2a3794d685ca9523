"""A small study's configuration and results."""

from pathlib import Path
from typing import Any

import yaml

SMALL: dict[str, Any] = {
    "nets": {"u": {"encoder": "resnet18", "encoder_weights": "imagenet"}},
    "data": {"phantom": {"image_size": 64}},
    "criteria": {"taylor": {}, "plain": {"criterion": "taylor", "options": {"normalise": False}}, "random": {}},
    "targets": [0.25],
    "seeds": [0, 7],
    "controls": {"scratch": ["taylor"], "oneshot": ["random"], "distill": ["taylor"]},
    "epochs": {"epochs": 6, "start": 1, "end": 2, "oneshot": 4},
    "fit": {"trainer.logger": False},
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes, sort_keys=False))
    return path
