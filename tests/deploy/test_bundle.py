"""Sidecars, and models that are not what their sidecar says."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_models import Exported

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import sha256
from polyp_lightning.deploy.bundle import list_files, load_model, read_bundle, sidecar, write_sidecar
from polyp_lightning.deploy.signature import THRESHOLD
from polyp_lightning.metrics import binarise


def copied(model: Path, folder: Path) -> Path:
    for path in list_files(model):
        shutil.copy(path, folder)
    return folder / model.name


def test_threshold__is_that_of_the_metrics() -> None:
    import torch

    around = torch.tensor([THRESHOLD - 1e-6, THRESHOLD, THRESHOLD + 1e-6])
    assert binarise(around).tolist() == (around > THRESHOLD).tolist()


def test_read_bundle__says_what_a_caller_needs(exported: Exported, checkpoint: Path) -> None:
    bundle = read_bundle(exported("onnx"))
    facts = bundle.facts
    assert (bundle.format.name, bundle.image_size, bundle.threshold, bundle.test_dice) == ("onnx", 64, 0.5, None)
    assert facts["input"] | {"values": "", "resize": ""} == {
        "name": "frame", "dtype": "uint8", "layout": "NHWC", "shape": [1, 64, 64, 3], "colours": "RGB",
        "values": "", "resize": "",
    }  # fmt: skip
    assert facts["output"]["name"] == "probability"
    assert facts["output"]["shape"] == [1, 1, 64, 64]
    assert facts["classes"] == ["polyp"]
    assert facts["source"] == {"checkpoint": "small.ckpt", "sha256": sha256(checkpoint)}
    assert {"torch", "onnx", "onnxruntime", "openvino"} <= facts["versions"].keys()
    assert facts["dice"] == {"test": None, "protocol": None, "validation": None}
    assert facts["params"] > 0
    assert facts["gmacs"] > 0


def truncate(model: Path) -> None:
    model.write_bytes(model.read_bytes()[:1000])


def no_json(model: Path) -> None:
    sidecar(model).write_text("{")


def other_schema(model: Path) -> None:
    sidecar(model).write_text(json.dumps({"schema": 99}))


def lacking(model: Path) -> None:
    facts = json.loads(sidecar(model).read_text())
    del facts["threshold"]
    facts["image_size"] = "64"
    sidecar(model).write_text(json.dumps(facts))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"not the file that onnx\.onnx\.json describes: truncated"),
        (lambda model: sidecar(model).unlink(), r"no sidecar .*onnx\.onnx\.json.*export again"),
        (no_json, "is no JSON"),
        (other_schema, "has schema 99; this version reads schema 1"),
        (lacking, "lacks threshold, image_size"),
        (lambda model: model.unlink(), "is not a file"),
    ],
)
def test_read_bundle__refuses(
    exported: Exported, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    model = copied(exported("onnx"), tmp_path)
    damage(model)
    with pytest.raises(ConfigError, match=message):
        read_bundle(model)


def test_read_bundle__says_what_a_renamed_model_was_called(exported: Exported, tmp_path: Path) -> None:
    model = copied(exported("onnx"), tmp_path)
    renamed = model.rename(tmp_path / "mine.onnx")
    sidecar(model).rename(sidecar(renamed))
    with pytest.raises(ConfigError, match=r"mine\.onnx was renamed: mine\.onnx\.json describes onnx\.onnx\. Give"):
        read_bundle(renamed)


def test_read_bundle__misses_the_weights_of_openvino(exported: Exported, tmp_path: Path) -> None:
    model = copied(exported("openvino"), tmp_path)
    model.with_suffix(".bin").unlink()
    with pytest.raises(ConfigError, match=r"openvino\.bin is missing: a model of this format is 2 files, .xml and"):
        read_bundle(model)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("last.ckpt", r"is a checkpoint.*export --ckpt_path last\.ckpt"),
        ("film.mp4", r"ends in '\.mp4'; known are .*\.onnx"),
    ],
)
def test_read_bundle__names_what_it_is_given_instead(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_bundle(Path(name))


def test_write_sidecar__is_what_read_bundle_wants(exported: Exported, tmp_path: Path) -> None:
    model = copied(exported("onnx"), tmp_path)
    model.write_bytes(model.read_bytes() + b"\0")
    write_sidecar(model, json.loads(sidecar(model).read_text()))
    assert read_bundle(model).path == model


@pytest.mark.parametrize("name", ["small.onnx", "small.xml", "small.pt2", "small.torchscript"])
def test_read_bundle__still_takes_an_export_of_version_0_1(name: str) -> None:
    """A drawn network's exports, written before formats had files of their own; the numbers are PyTorch's."""
    bundle = read_bundle(Path(__file__).parent / "exports_0_1" / name)
    frames = (np.arange(32 * 32 * 3).reshape(1, 32, 32, 3) % 256).astype(np.uint8)
    maps = load_model(bundle, bundle.format.backends[0], 1)(frames)
    assert (float(maps.mean()), float(maps[0, 0, 16, 16])) == pytest.approx((0.50360829, 0.53284961), abs=1e-6)
    assert bundle.test_dice == 0.75
