"""Exports of a pruned network, by the real runtimes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from small_models import SIZE, Exported, lively_net, save_checkpoint

from polyp_lightning.checkpoints.test_scores import CheckpointScores, add_scores
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.common.files import sha256
from polyp_lightning.data.cache import resize
from polyp_lightning.data.sets.phantom import draw_frame
from polyp_lightning.deploy import export as module
from polyp_lightning.deploy.bundle import load_model, read_bundle, sidecar
from polyp_lightning.deploy.export import ExportOptions, export
from polyp_lightning.deploy.formats import FORMATS
from polyp_lightning.deploy.parity import mean_dice
from polyp_lightning.deploy.runners.openvino_runner import share_openvino_core
from polyp_lightning.deploy.samples import Sample
from polyp_lightning.training.module import PolypSegmenter


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    return resize(draw_frame(0, 20)[0], SIZE)[None]


@pytest.fixture(scope="module")
def expected(checkpoint: Path, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the trained module itself says: the reference knows nothing of exports."""
    segmenter = PolypSegmenter.load_from_checkpoint(checkpoint, map_location="cpu", strict=False).eval()
    with torch.no_grad():
        return segmenter(torch.from_numpy(frame).permute(0, 3, 1, 2)).sigmoid().numpy()


# What runs on any machine, at full precision.
ANYWHERE = ("onnxruntime", "openvino", "torch")


@pytest.mark.parametrize(
    ("kind", "backend"), [(k.name, backend) for k in FORMATS.values() for backend in k.backends if backend in ANYWHERE]
)
def test_export__every_format_says_what_the_segmenter_says(
    exported: Exported,
    frame: NDArray[np.uint8],
    expected: NDArray[np.float32],
    kind: str,
    backend: str,
) -> None:
    runner = load_model(read_bundle(exported(kind)), backend, threads=1)
    found = runner(frame)
    assert found.shape == (1, 1, SIZE, SIZE)
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() < 1e-5
    # Twice the same: no state, and no buffer that is handed out twice.
    other = runner(255 - frame)
    assert np.array_equal(found, runner(frame))
    assert not np.array_equal(found, other)


@pytest.mark.parametrize("kind", [kind.name for kind in FORMATS.values() if kind.quantises])
def test_export__int8_stays_near_the_network(
    exported: Exported, frame: NDArray[np.uint8], expected: NDArray[np.float32], kind: str
) -> None:
    bundle = read_bundle(exported(kind, int8=True))
    found = load_model(bundle, FORMATS[kind].backends[0], threads=1)(frame)
    assert 1e-5 < np.abs(found - expected).max() < 0.2
    assert bundle.facts["precision"] == "int8"
    assert bundle.facts["calibration"] == "20 training frames of phantom"
    change = bundle.facts["int8"]
    assert change["frames"].startswith("4 validation frames")
    assert abs(change["dice_int8"] - change["dice_float"]) < 0.1


@pytest.mark.parametrize("kind", [kind.name for kind in FORMATS.values() if kind.quantises])
def test_export__int8_of_a_network_with_group_norm(tmp_path: Path, frame: NDArray[np.uint8], kind: str) -> None:
    path = save_checkpoint(lively_net("FPN"), tmp_path / "fpn.ckpt", arch="FPN")
    bundle = export(ExportOptions(path, kind, int8=True), lambda _: None)
    segmenter = PolypSegmenter.load_from_checkpoint(path, map_location="cpu", strict=False).eval()
    with torch.no_grad():
        wanted = segmenter(torch.from_numpy(frame).permute(0, 3, 1, 2)).sigmoid().numpy()
    found = load_model(bundle, FORMATS[kind].backends[0], threads=1)(frame)
    if kind == "openvino":
        ops = share_openvino_core().read_model(bundle.path).get_ordered_ops()
        products = [op for op in ops if op.get_type_name() == "MatMul"]
        read = {value.get_node().get_type_name() for op in products for value in op.input_values()}
        # The upsampling at the end stays in float.
        assert len(products) == 2
        assert "FakeQuantize" not in read
        assert any(op.get_type_name() == "FakeQuantize" for op in ops)
    assert wanted.std() > 0.05
    assert np.abs(found - wanted).mean() < 0.03


def test_export__int8_onnx_holds_int8_weights(exported: Exported) -> None:
    graph = onnx.load(exported("onnx", int8=True)).graph
    kinds = [value.data_type for value in graph.initializer if int(np.prod(value.dims)) > 3 and len(value.dims) == 4]
    assert kinds
    assert set(kinds) == {onnx.TensorProto.INT8}


def test_export__onnx_is_valid_and_has_no_batch_norm(exported: Exported) -> None:
    model = onnx.load(exported("onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    bundle = read_bundle(exported("onnx"))
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["frame", "probability"]
    assert model.opset_import[0].version == bundle.facts["opset"]
    stored = sum(int(np.prod(value.dims)) for value in model.graph.initializer)
    assert stored < 1.05 * bundle.facts["params"]


@pytest.mark.parametrize(("kind", "doublings"), [("onnx", 0), ("openvino", 5)])
def test_export__doublings_are_merged_for_openvino(exported: Exported, kind: str, doublings: int) -> None:
    ops = [op.get_type_name() for op in share_openvino_core().read_model(exported(kind)).get_ops()]
    assert ops.count("ConvolutionBackpropData") == doublings
    assert ("Interpolate" in ops) == (not doublings)


def test_export__onnx_refuses_what_is_not_uint8(exported: Exported) -> None:
    runner = load_model(read_bundle(exported("onnx")), "onnxruntime", 1)
    with pytest.raises(Exception, match="uint8"):
        runner(np.zeros((1, SIZE, SIZE, 3), np.float32))  # type: ignore[arg-type]


def test_export__dynamic_batch_takes_several(checkpoint: Path, tmp_path: Path, frame: NDArray[np.uint8]) -> None:
    options = ExportOptions(checkpoint, "onnx", dynamic_batch=True, output=tmp_path / "any.onnx")
    bundle = export(options, lambda _: None)
    assert bundle.facts["input"]["shape"] == ["batch", SIZE, SIZE, 3]
    dims = onnx.load(bundle.path).graph.input[0].type.tensor_type.shape.dim
    assert dims[0].dim_param == "batch"
    for backend in ("onnxruntime", "openvino"):
        runner = load_model(bundle, backend, 1)
        three = np.concatenate([frame, 255 - frame, frame // 2])
        alone = np.concatenate([runner(one[None]) for one in three])
        assert np.abs(runner(three) - alone).max() < 1e-5


def test_export__score_is_the_dice_of_the_segmenters_own_masks(checkpoint: Path, tmp_path: Path) -> None:
    options = ExportOptions(checkpoint, "onnx", output=tmp_path / "scored.onnx", score=True)
    bundle = export(options, lambda _: None)
    segmenter = PolypSegmenter.load_from_checkpoint(checkpoint, map_location="cpu", strict=False).eval()
    scores = []
    for index in range(24, 28):
        image, mask = draw_frame(0, index)
        batch = {"image": torch.from_numpy(resize(image, SIZE)).permute(2, 0, 1)[None], "size": [mask.shape]}
        found = segmenter.predict_masks(batch)[0].numpy() > 0
        both = found.sum() + mask.sum()
        scores.append(2 * (found & (mask > 0)).sum() / both if both else 1.0)
    assert bundle.test_dice == pytest.approx(np.mean(scores), abs=1e-4)
    assert bundle.facts["dice"]["backends"].keys() == {"onnxruntime", "openvino", "openvino-bf16"}
    for backend in ("onnxruntime", "openvino", "openvino-bf16"):
        runner, pairs = load_model(bundle, backend, threads=1), [draw_frame(0, index) for index in range(24, 28)]
        exact = mean_dice(runner, [Sample(resize(image, SIZE), mask) for image, mask in pairs])
        assert bundle.test_dice_in(backend) == pytest.approx(exact, abs=1e-9)
    assert bundle.facts["dice"]["protocol"].startswith("4 test images of drawn frames; mean over images of the Dice")


def test_export__takes_the_score_that_test_has_left_of_this_very_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "run" / "checkpoints" / "a.ckpt"
    path.parent.mkdir(parents=True)
    shutil.copy(checkpoint, path)
    data = load_net(path).data
    for digest, dice, size in ((sha256(path), 0.75, SIZE), ("another", 0.5, SIZE)):
        sets = {"phantom-4": {"images": 4.0, "dice": dice}}
        add_scores(tmp_path / "run", CheckpointScores("a.ckpt", digest, {**data, "image_size": size}, sets, ""))
    bundle = export(ExportOptions(path, "onnx"), lambda _: None)
    assert bundle.test_dice == bundle.test_dice_in("openvino") == 0.75
    assert bundle.test_dice_in("openvino-bf16") is None
    assert "4 test images of drawn frames" in bundle.facts["dice"]["protocol"]
    assert "the checkpoint in torch" in bundle.facts["dice"]["protocol"]
    # At another size, it is another network's score.
    larger = export(ExportOptions(path, "onnx", image_size=96, output=tmp_path / "larger.onnx"), lambda _: None)
    assert larger.test_dice is None


def test_export__parity_that_fails_leaves_nothing(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.load_model
    monkeypatch.setattr(module, "load_model", lambda *args: lambda frames: real(*args)(frames) + 2e-4)
    with pytest.raises(ConfigError, match=r"onnx model differs.*2\.0e-04.*nothing was written"):
        export(ExportOptions(checkpoint, "onnx", output=tmp_path / "bad.onnx"), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_export__refuses_to_overwrite_and_a_failure_keeps_the_old(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.onnx"
    target.write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"m\.onnx exists already; .*--overwrite"):
        export(ExportOptions(checkpoint, "onnx", output=target), lambda _: None)
    monkeypatch.setattr(module, "_evaluate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        export(ExportOptions(checkpoint, "onnx", output=target, overwrite=True), lambda _: None)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_export__goes_beside_the_runs_checkpoints(checkpoint: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    ckpt = run / "checkpoints" / "last.ckpt"
    ckpt.write_bytes(checkpoint.read_bytes())
    bundle = export(ExportOptions(ckpt, "torchscript", image_size=32), lambda _: None)
    assert bundle.path == run / "export" / "last-32.torchscript"
    assert json.loads(sidecar(bundle.path).read_text())["image_size"] == 32


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"format": "tflite"}, ConfigError, f"--format tflite is unknown; allowed: {', '.join(FORMATS)}"),
        ({"format": "pt2", "int8": True}, ConfigError, "--int8 goes with --format .*onnx or openvino.*, not with pt2"),
        ({"image_size": 100}, ConfigError, "--image_size 100 must be a multiple of 32"),
        ({"output": Path("m.xml")}, ConfigError, r"--output m\.xml has to end in \.onnx"),
        ({"ckpt_path": Path("m.onnx")}, ConfigError, "is an exported model already"),
        ({"ckpt_path": Path("none.ckpt")}, ConfigError, r"none\.ckpt is not a file"),
    ],
)
def test_export__refuses(checkpoint: Path, change: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        export(ExportOptions(**{"ckpt_path": checkpoint, "format": "onnx", **change}), lambda _: None)


def test_export__int8_needs_the_training_images(checkpoint: Path, tmp_path: Path) -> None:
    stored = torch.load(checkpoint, weights_only=True)
    stored["polyp_lightning"]["data"] = {"data": "kvasir", "split": "880-120"}
    torch.save(stored, tmp_path / "k.ckpt")
    options = ExportOptions(tmp_path / "k.ckpt", "onnx", int8=True, data_root=tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere"):
        export(options, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["k.ckpt"]


def test_load_net__gives_back_the_pruned_network(checkpoint: Path, tmp_path: Path) -> None:
    trained = load_net(checkpoint)
    assert (trained.arch, trained.encoder, trained.image_size, trained.val_dice) == ("Unet", "resnet18", SIZE, None)
    assert not trained.net.training
    assert trained.data["data"] == "phantom"
    again = load_net(save_checkpoint(trained.net, tmp_path / "again.ckpt"))
    image = torch.rand(1, 3, SIZE, SIZE)
    assert torch.equal(trained.net(image), again.net(image))
