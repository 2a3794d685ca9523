"""`polyp_lightning.load`: against PyTorch's own resizing, the module that tests score, and the verb `predict`."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from small_models import SIZE, CleanModules, Exported

import polyp_lightning
from polyp_lightning.checkpoints import named
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main
from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.cache import resize
from polyp_lightning.data.sets.phantom import draw_frame
from polyp_lightning.deploy.bundle import sidecar
from polyp_lightning.deploy.predictor import Predictor, to_logits
from polyp_lightning.training.module import PolypSegmenter

SIZES = [(96, 128), (150, 61), (33, 40)]


def frame(index: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(draw_frame(0, index)[0]).resize((width, height)))


def expected_logits(checkpoint: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """By PyTorch alone, at the image's size."""
    trained = load_net(checkpoint)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (trained.mean, trained.std))
    image = torch.from_numpy(resize(pixels, SIZE)).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        logits: Any = F.interpolate(trained.net((image - mean) / std), pixels.shape[:2], mode="bilinear")[0, 0]
    found: NDArray[np.float32] = logits.numpy()
    return found


@pytest.mark.parametrize("kind", ["checkpoint", "onnx", "openvino"])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_predict__is_the_networks_logits_resized(
    kind: str, height: int, width: int, checkpoint: Path, exported: Exported
) -> None:
    pixels = frame(1, height, width)
    logits = expected_logits(checkpoint, pixels)
    middle = float(1 / (1 + np.exp(-np.median(logits))))
    path = checkpoint if kind == "checkpoint" else exported(kind)
    found = polyp_lightning.load(path, threshold=middle).predict(pixels)
    assert found.mask.shape == found.probability.shape == (height, width)
    assert (found.mask.dtype, found.probability.dtype) == (np.bool_, np.float32)
    np.testing.assert_allclose(found.probability, 1 / (1 + np.exp(-logits)), atol=2e-5)
    assert 0.3 < found.mask.mean() < 0.7
    assert (found.mask == (logits > np.median(logits))).mean() > 0.999


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.93])
@pytest.mark.parametrize("size", [(100, 140), (32, 32), (20, 45)])
def test_predict__resizes_logits_as_torch_does(threshold: float, size: tuple[int, int]) -> None:
    logit = torch.from_numpy(np.random.default_rng(0).normal(0, 4, (1, 1, 32, 32)).astype(np.float32))
    expected = (F.interpolate(logit, size, mode="bilinear").sigmoid() > threshold)[0, 0].numpy()
    # From probabilities, as an exported model gives them.
    predictor = Predictor(lambda _: to_logits(logit.sigmoid().numpy()), 32, threshold)
    found = predictor.predict(np.zeros((*size, 3), np.uint8)).mask
    assert (found == expected).mean() > 0.999
    assert 0 < expected.mean() < 1


def test_to_logits__certain_probabilities_are_finite() -> None:
    assert to_logits(np.array([0.0, 0.5, 1.0], np.float32)).tolist() == [-30, 0, 30]


def test_predict__agrees_with_what_the_module_is_scored_by(checkpoint: Path) -> None:
    module, predictor = PolypSegmenter.load_from_checkpoint(checkpoint), polyp_lightning.load(checkpoint)
    for index, size in enumerate(SIZES):
        pixels = frame(index, *size)
        batch = {"image": torch.from_numpy(resize(pixels, SIZE)).permute(2, 0, 1)[None], "size": [size]}
        (mask,) = module.predict_masks(batch)
        np.testing.assert_array_equal(predictor.predict(pixels).mask, mask.numpy() > 0)


@pytest.mark.parametrize("kind", ["checkpoint", "onnx"])
def test_predict__verb_writes_the_same_masks(kind: str, checkpoint: Path, exported: Exported, tmp_path: Path) -> None:
    model = checkpoint if kind == "checkpoint" else exported(kind)
    source = tmp_path / "frame.png"
    Image.fromarray(frame(0, 90, 110)).save(source)
    middle = float(np.median(polyp_lightning.load(model).predict(source).probability))
    call = ["predict", "--model", str(model), "--source", str(source), "--output", str(tmp_path / "out")]
    assert main([*call, "--threshold", str(middle)]) == 0
    written = np.asarray(Image.open(tmp_path / "out" / "frame.png")) > 0
    found = polyp_lightning.load(model, threshold=middle).predict(source)
    np.testing.assert_array_equal(written, found.mask)
    assert 0.3 < written.mean() < 0.7
    assert repr(found) == f"Prediction(110×90 pixels, {found.mask.mean():.1%} polyp)"


def test_predict__takes_arrays_pictures_paths_and_lists(checkpoint: Path, tmp_path: Path) -> None:
    predictor = polyp_lightning.load(str(checkpoint))
    pixels = frame(0, 50, 70)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    given = [pixels, Image.fromarray(pixels), Image.fromarray(pixels).convert("RGBA"), tmp_path / "frame.png"]
    reference = predictor.predict(pixels).probability
    for one in predictor.predict([*given, str(tmp_path / "frame.png")]):
        np.testing.assert_array_equal(one.probability, reference)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 70, 3), np.float32),
        np.zeros((50, 70), np.uint8),
        np.zeros((3, 50, 70), np.uint8),
        np.zeros((0, 70, 3), np.uint8),
        torch.zeros(1, 3, 50, 70, dtype=torch.uint8),
        Image.new("I;16", (70, 50)),
        None,
    ],
    ids=["floats", "2-D", "channels first", "empty", "a batch", "16 bits", "None"],
)
def test_predict__refuses_what_is_no_image_with_a_sentence(image: Any) -> None:
    predictor = Predictor(lambda _: np.zeros((1, 1, 32, 32), np.float32), 32, 0.5)
    with pytest.raises(DataError, match=r"an image is RGB, uint8 \(height, width, 3\).*; got .* of a "):
        predictor.predict(image)


def test_load__takes_the_threshold_of_the_sidecar(exported: Exported, tmp_path: Path) -> None:
    assert polyp_lightning.load(exported("onnx")).threshold == 0.5
    model = tmp_path / "model.onnx"
    model.write_bytes(exported("onnx").read_bytes())
    text = sidecar(exported("onnx")).read_text().replace('"onnx.onnx"', '"model.onnx"')
    sidecar(model).write_text(text.replace('"threshold": 0.5', '"threshold": 0.3'))
    assert polyp_lightning.load(model).threshold == 0.3
    assert polyp_lightning.load(model, threshold=0.2).threshold == 0.2


def test_load__network_is_in_evaluation_mode(checkpoint: Path) -> None:
    predictor = polyp_lightning.load(checkpoint)
    first, second = (predictor.predict(frame(0, 64, 64)).probability for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.0}, "^threshold 1.0 is no probability"),
        ({"backend": "openvino"}, "^backend openvino does not run .* allowed: torch, "),
    ],
)
def test_load__mistakes(options: dict[str, Any], message: str, checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        polyp_lightning.load(checkpoint, **options)


@pytest.mark.parametrize(
    ("name", "message"), [("no.ckpt", "model no.ckpt is not"), ("no.onnx", "model no.onnx is not")]
)
def test_load__no_such_file(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        polyp_lightning.load(name)


def test_load__by_a_networks_name_and_not_by_a_path_that_ends_in_it(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(checkpoint, tmp_path / "small.ckpt")
    monkeypatch.setattr(named, "FOLDER", tmp_path)
    assert polyp_lightning.load("small").image_size == polyp_lightning.load(checkpoint).image_size
    with pytest.raises(ConfigError, match="runs/small is not"):
        polyp_lightning.load("runs/small")


def test_load__import_is_light_and_exports_need_no_torch(clean_modules: CleanModules, exported: Exported) -> None:
    assert not clean_modules("import polyp_lightning") & {"torch", "lightning", "numpy", "cv2"}
    load = f"import numpy, polyp_lightning; network = polyp_lightning.load({str(exported('onnx'))!r})"
    predict = "assert network.predict(numpy.zeros((9, 9, 3), 'u1')).mask.shape == (9, 9)"
    assert not clean_modules(f"{load}; {predict}") & {"torch", "lightning", "wandb", "monai"}


def test_load__without_torch_a_checkpoint_says_what_to_install(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(ConfigError, match=r"torch is needed .* pip install 'polyp-lightning\[train\]'"):
        polyp_lightning.load(checkpoint)
