"""An exported model and its sidecar: the JSON file that says how to feed it and what it is."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import sha256, write_beside

SCHEMA = 1
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2", "torchscript": ".torchscript"}
"""Format → the suffix of its file; OpenVINO's weights lie in a ``.bin`` beside."""

INPUT, OUTPUT = "frame", "probability"
THRESHOLD = 0.5
"""A pixel is polyp where its probability exceeds this, as in :func:`polyp_lightning.metrics.binarise`."""

_KEYS = {
    "format": str, "precision": str, "files": dict, "input": dict, "output": dict, "threshold": float,
    "image_size": int, "gmacs": float, "params": int, "dice": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """An exported model that is whole and described.

    Attributes:
        path: the model's file.
        facts: the sidecar's contents.
    """

    path: Path
    facts: Mapping[str, Any]

    @property
    def format(self) -> str:
        """One of the keys of :data:`SUFFIXES`."""
        return str(self.facts["format"])

    @property
    def image_size(self) -> int:
        """Side in pixels of the square frames that the model takes."""
        return int(self.facts["image_size"])

    @property
    def threshold(self) -> float:
        """Probability above which a pixel is polyp."""
        return float(self.facts["threshold"])

    @property
    def test_dice(self) -> float | None:
        """Mean Dice per test image at the original resolution, or None where it is not known.

        Of this very file, or of the checkpoint that a file of equal outputs was made of: its ``protocol`` says which.
        """
        value = self.facts["dice"].get("test")
        return None if value is None else float(value)

    def test_dice_in(self, backend: str) -> float | None:
        """The same for one backend: its own where the file was scored; none for bf16 where it was not."""
        scored = self.facts["dice"].get("backends", {})
        if backend in scored:
            return float(scored[backend])
        return None if backend.endswith("bf16") else self.test_dice


def facts_of_graph(image_size: int, dynamic_batch: bool) -> dict[str, Any]:
    """What every exported graph takes and returns, whatever its format."""
    batch: int | str = "batch" if dynamic_batch else 1
    return {
        "input": {
            "name": INPUT,
            "dtype": "uint8",
            "layout": "NHWC",
            "shape": [batch, image_size, image_size, 3],
            "colours": "RGB",
            "values": "0 to 255 as decoded; scale, mean and standard deviation are applied inside",
            "resize": "by the caller, to the square: area averaging where the frame shrinks, bilinear where it grows",
        },
        "output": {
            "name": OUTPUT,
            "dtype": "float32",
            "layout": "NCHW",
            "shape": [batch, 1, image_size, image_size],
            "values": "probability of polyp, 0 to 1; the sigmoid is applied inside",
        },
        "threshold": THRESHOLD,
        "classes": ["polyp"],
        "image_size": image_size,
        "dynamic_batch": dynamic_batch,
    }


def sidecar(model: Path) -> Path:
    """Where the sidecar of a model lies.

    >>> sidecar(Path("polyp.onnx")).name
    'polyp.onnx.json'
    """
    return model.with_name(f"{model.name}.json")


def model_files(model: Path) -> list[Path]:
    """The files that make a model, its own first."""
    return [model, model.with_suffix(".bin")] if model.suffix == SUFFIXES["openvino"] else [model]


def write_sidecar(model: Path, facts: Mapping[str, Any]) -> None:
    """Writes the sidecar of a model that lies in place, with the SHA-256 of its files."""
    whole = {"schema": SCHEMA, **facts, "files": {path.name: sha256(path) for path in model_files(model)}}
    with write_beside(sidecar(model)) as path:
        path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_bundle(model: Path) -> Bundle:
    """Opens an exported model's sidecar and checks the model's files against it.

    Raises:
        ConfigError: the path is no exported model, has no sidecar, or is not the file that the sidecar describes.
    """
    _check_is_model(model)
    facts = _read_facts(sidecar(model))
    for path in model_files(model):
        expected = facts["files"].get(path.name)
        if not path.is_file():
            msg = f"{path} is missing: an OpenVINO model is two files, .xml and .bin; copy both, or export again"
            raise ConfigError(msg)
        if expected != sha256(path):
            msg = (
                f"{path} is not the file that {sidecar(model).name} describes: truncated, changed or renamed "
                f"(SHA-256 differs from {str(expected)[:12]}…). Copy it again with its sidecar, or export again."
            )
            raise ConfigError(msg)
    return Bundle(model, facts)


def _check_is_model(model: Path) -> None:
    known = ", ".join(SUFFIXES.values())
    if model.suffix == ".ckpt":
        msg = (
            f"--model {model} is a checkpoint, and this needs an exported model ({known}): "
            f"python -m polyp_lightning export --ckpt_path {model} --format onnx"
        )
        raise ConfigError(msg)
    if model.suffix not in SUFFIXES.values():
        msg = f"--model {model} is no exported model: its name ends in {model.suffix!r}; known are {known}"
        raise ConfigError(msg)
    if not model.is_file():
        msg = f"--model {model} is not a file; give a model that `export` has written"
        raise ConfigError(msg)


def _read_facts(path: Path) -> dict[str, Any]:
    if not path.is_file():
        msg = (
            f"there is no sidecar {path}: it says how the model is fed and where a polyp begins. "
            "Copy it to its model, or export again."
        )
        raise ConfigError(msg)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        msg = f"the sidecar {path} is no JSON ({error}); export again"
        raise ConfigError(msg) from error
    schema = facts.get("schema") if isinstance(facts, dict) else None
    if schema != SCHEMA:
        msg = f"the sidecar {path} has schema {schema!r}; this version reads schema {SCHEMA}. Export again."
        raise ConfigError(msg)
    wrong = [
        key for key, kind in _KEYS.items() if not isinstance(facts.get(key), (kind, int) if kind is float else kind)
    ]
    if wrong:
        msg = f"the sidecar {path} lacks {', '.join(wrong)}, or holds another kind of value there; export again"
        raise ConfigError(msg)
    return dict(facts)
