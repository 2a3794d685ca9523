"""An exported model and its sidecar: the JSON file that says how to feed it and what it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import sha256, write_beside
from polyp_lightning.common.options import option
from polyp_lightning.deploy.export_format import ExportFormat
from polyp_lightning.deploy.formats import FORMATS
from polyp_lightning.deploy.runners.arrays import Runner

SCHEMA = 1

_KEYS = {
    "format": str, "precision": str, "files": dict, "input": dict, "output": dict, "threshold": float,
    "image_size": int, "gmacs": float, "params": int, "dice": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """An exported model that is whole and described: the model's file, and its sidecar's contents."""

    path: Path
    facts: Mapping[str, Any]

    @property
    def format(self) -> ExportFormat:
        """How it is written and loaded."""
        return FORMATS[self.facts["format"]]

    @property
    def image_size(self) -> int:
        """Side in pixels of the square frames that the model takes."""
        return int(self.facts["image_size"])

    @property
    def threshold(self) -> float:
        """Probability above which a pixel is polyp."""
        return float(self.facts["threshold"])

    def with_threshold(self, threshold: float) -> "Bundle":
        """Returns the same model with another threshold, in (0, 1).

        Raises:
            ConfigError: it is not.
        """
        check_threshold(threshold)
        # A frame shows a polyp by the same number, where the file stores another one for that.
        stored = {key: threshold for key in ("threshold", "alarm_threshold") if key in self.facts}
        return replace(self, facts={**self.facts, **stored})

    @property
    def alarm_threshold(self) -> float:
        """The frame's score above which it gives an alarm; older sidecars hold none."""
        return float(self.facts.get("alarm_threshold", self.threshold))

    @property
    def test_dice(self) -> float | None:
        """Mean Dice per test image at the original resolution, or None where it is not known.

        Of this very file, or of the checkpoint that a file of equal outputs was made of: its ``protocol`` says which.
        """
        value = self.facts["dice"].get("test")
        return None if value is None else float(value)

    def test_dice_in(self, backend: str) -> float | None:
        """Returns the same for one backend: its own where the file was scored; None for bf16 where it was not."""
        scored = self.facts["dice"].get("backends", {})
        if backend in scored:
            return float(scored[backend])
        return None if backend.endswith("bf16") else self.test_dice


def check_threshold(threshold: float) -> None:
    """Refuses a threshold that is no probability."""
    if not 0 < threshold < 1:
        msg = f"{option('threshold')} {threshold} is no probability: give one above 0 and below 1"
        raise ConfigError(msg)


def format_of(model: Path) -> ExportFormat | None:
    """Returns the format that a file's suffix says; None for no exported model."""
    return next((kind for kind in FORMATS.values() if kind.suffix == model.suffix), None)


def sidecar(model: Path) -> Path:
    """Returns where the sidecar of a model lies.

    >>> sidecar(Path("polyp.onnx")).name
    'polyp.onnx.json'
    """
    return model.with_name(f"{model.name}.json")


def list_files(model: Path) -> list[Path]:
    """Lists the files of an exported model: its own first, its sidecar last."""
    kind = format_of(model)
    return [*(kind.list_files(model) if kind else [model]), sidecar(model)]


def write_sidecar(model: Path, facts: Mapping[str, Any]) -> None:
    """Writes the sidecar of a model that lies in place, with the SHA-256 of its files."""
    whole = {"schema": SCHEMA, **facts, "files": {path.name: sha256(path) for path in list_files(model)[:-1]}}
    with write_beside(sidecar(model)) as path:
        path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_bundle(model: Path) -> Bundle:
    """Opens an exported model's sidecar and checks the model's files against it.

    Raises:
        ConfigError: the path is no exported model, has no sidecar, or is not the file that the sidecar describes.
    """
    _check_is_model(model)
    facts = _read_facts(sidecar(model))
    for path in (files := list_files(model)[:-1]):
        if not path.is_file():
            parts = " and ".join(file.suffix for file in files)
            msg = f"{path} is missing: a model of this format is {len(files)} files, {parts}; copy all, or export again"
            raise ConfigError(msg)
        if path.name not in facts["files"]:
            named = " and ".join(facts["files"])
            msg = f"{path} was renamed: {sidecar(model).name} describes {named}. Give the files these names back."
            raise ConfigError(msg)
        if (expected := facts["files"][path.name]) != sha256(path):
            msg = (
                f"{path} is not the file that {sidecar(model).name} describes: truncated or changed "
                f"(SHA-256 differs from {str(expected)[:12]}…). Copy it again with its sidecar, or export again."
            )
            raise ConfigError(msg)
    return Bundle(model, facts)


def _check_is_model(model: Path) -> None:
    known = ", ".join(kind.suffix for kind in FORMATS.values())
    if model.suffix == ".ckpt":
        msg = (
            f"{option('model')} {model} is a checkpoint, and this needs an exported model ({known}): "
            f"python -m polyp_lightning export --ckpt_path {model} --format onnx"
        )
        raise ConfigError(msg)
    if format_of(model) is None:
        msg = f"{option('model')} {model} is no exported model: its name ends in {model.suffix!r}; known are {known}"
        raise ConfigError(msg)
    if not model.is_file():
        msg = f"{option('model')} {model} is not a file; give a model that `export` has written"
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
    if facts["format"] not in FORMATS:
        msg = f"the sidecar {path} says format {facts['format']!r}; this version knows {', '.join(FORMATS)}"
        raise ConfigError(msg)
    return dict(facts)


def load_model(bundle: Bundle, backend: str, threads: int) -> Runner:
    """Loads an exported model into a backend of its format; ``threads`` are the network's, at least 1.

    Raises:
        ConfigError: the backend does not run this format or is not installed, or the model can't be loaded.
    """
    check_backend(backend, bundle.format.backends, bundle.path, bundle.format.name)
    if threads < 1:
        msg = f"{option('threads')} {threads} must be at least 1"
        raise ConfigError(msg)
    try:
        return bundle.format.load(bundle.path, backend, threads)
    except ConfigError:
        raise
    except Exception as error:
        # The runtimes' own errors: an operator set they don't know, a damaged file, a missing device.
        first = str(error).strip().split("\n", maxsplit=1)[0][:300]
        opset = f" (operator set {bundle.facts['opset']})" if "opset" in bundle.facts else ""
        msg = f"{backend} can't load {bundle.path}{opset}: {first}. Export again with the versions installed here."
        raise ConfigError(msg) from error


def check_backend(backend: str, allowed: Sequence[str], path: Path, kind: str) -> None:
    """Checks that a backend runs a file.

    Raises:
        ConfigError: naming those that do.
    """
    if backend not in allowed:
        msg = f"{option('backend')} {backend} does not run {path} ({kind}); allowed: {', '.join(allowed)}"
        raise ConfigError(msg)
