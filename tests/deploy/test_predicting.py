"""Masks by an exported model: against the network in PyTorch, and against PyTorch's own resizing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from extras import ROOT, modules_without
from odd_files import by_pillow, exif
from PIL import Image
from small_models import SIZE, Exported

from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main
from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.cache import resize
from polyp_lightning.data.sets.phantom import draw_frame
from polyp_lightning.deploy import predictor
from polyp_lightning.deploy.bundle import Bundle, load_model, read_bundle
from polyp_lightning.deploy.predicting import PredictOptions, find_images, name_masks, predict


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Three phantoms of different sizes."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, size in enumerate([(384, 288), (120, 90), (50, 70)]):
        Image.fromarray(draw_frame(0, index)[0]).resize(size).save(folder / f"{index}.png")
    return folder


def middle(model: Path, frames: Path) -> float:
    """A threshold that a network with drawn weights exceeds on some pixels: the median of a frame's probabilities."""
    frame = resize(np.asarray(Image.open(frames / "0.png")), SIZE)
    return float(np.median(load_model(read_bundle(model), "onnxruntime", 1)(frame[None])))


def test_predict__writes_the_masks_of_the_checkpoint(exported: Exported, checkpoint: Path, frames: Path) -> None:
    model, out = exported("onnx"), frames.parent / "out"
    threshold = middle(model, frames)
    written = predict(PredictOptions(model, [str(frames)], out, overlay=True, threshold=threshold), lambda _: None)
    assert [mask.relative_to(out).as_posix() for mask in written] == ["0.png", "1.png", "2.png"]
    trained = load_net(checkpoint)
    trained.net.eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (trained.mean, trained.std))
    for path in written:
        pixels = np.asarray(Image.open(frames / path.name))
        image = torch.from_numpy(resize(pixels, SIZE)).permute(2, 0, 1)[None] / 255
        with torch.no_grad():
            logit = F.interpolate(trained.net((image - mean) / std), pixels.shape[:2], mode="bilinear")[0, 0]
        expected = (logit.sigmoid() > threshold).numpy()
        mask = np.asarray(Image.open(path))
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 255}
        assert (mask == 255 * expected).mean() > 0.999
        assert Image.open(out / "overlays" / f"{path.stem}.jpg").size == pixels.shape[1::-1]


def test_predict__says_which_images_give_an_alarm(
    exported: Exported, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, out = exported("onnx"), frames.parent / "out"
    whole = read_bundle(model)
    runner = load_model(whole, "onnxruntime", 1)
    pixels = (np.asarray(Image.open(frames / f"{index}.png")) for index in range(3))
    # The fourth highest of 64² pixels.
    scores = [float(np.sort(runner(resize(one, SIZE)[None]).ravel())[-4]) for one in pixels]
    middle_one = sorted(scores)[1]
    monkeypatch.setattr(
        predictor, "read_bundle", lambda _: Bundle(model, {**whole.facts, "alarm_threshold": middle_one})
    )
    predict(PredictOptions(model, [str(frames)], out), lambda _: None)
    header, *rows = (line.split(",") for line in (out / "alarms.csv").read_text().splitlines())
    assert header == ["mask", "frame_score", "alarm"]
    assert [row[0] for row in rows] == ["0.png", "1.png", "2.png"]
    assert [float(row[1]) for row in rows] == pytest.approx(scores, abs=1e-6)
    assert [row[2] == "1" for row in rows] == [score > middle_one for score in scores]


def test_find_images__files_folders_and_patterns(tmp_path: Path) -> None:
    names = ["a.png", "b.JPG", "c.txt", ".d.png", "e[1].png", "set/images/f.tif", "set/masks/f.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def found(*sources: str) -> list[str]:
        images = find_images([str(tmp_path / source) for source in sources])
        return [image.relative_to(tmp_path).as_posix() for image in images]

    with pytest.warns(UserWarning, match=r"passed over \.d\.png, c\.txt, set/\."):
        assert found("") == ["a.png", "b.JPG", "e[1].png"]
    assert found("set") == ["set/images/f.tif"]
    assert found("b.JPG", "a.png", "b.JPG") == ["b.JPG", "a.png"]
    assert found("e[1].png") == ["e[1].png"]
    assert found("*.png", "**/masks/*") == ["a.png", "e[1].png", "set/masks/f.png"]


@pytest.mark.parametrize("source", ["", "*.png"])
def test_find_images__natural_order(tmp_path: Path, source: str) -> None:
    for number in range(1, 13):
        (tmp_path / f"{number}.png").touch()
    assert [path.stem for path in find_images([str(tmp_path / source)])] == [str(n) for n in range(1, 13)]


def test_predict__turned_images_are_written_upright(exported: Exported, frames: Path) -> None:
    model, out = exported("onnx"), frames.parent / "out"
    stored, threshold = Image.open(frames / "0.png"), middle(exported("onnx"), frames)
    turned = stored.transpose(Image.Transpose.ROTATE_90)  # stored so that tag 6 stands it upright again
    by_pillow(frames / "0 turned.png", turned, exif=exif(6))
    predict(PredictOptions(model, [str(frames)], out, overlay=True, threshold=threshold), lambda _: None)
    for kind, suffix in (("", "png"), ("overlays", "jpg")):
        found, wanted = (Image.open(out / kind / f"{name}.{suffix}") for name in ("0 turned", "0"))
        assert np.array_equal(np.asarray(found), np.asarray(wanted))


@pytest.mark.parametrize("source", ["nowhere", "c.txt", "*.bmp", "empty"])
def test_find_images__none(source: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "c.txt").touch()
    with pytest.raises(DataError, match=r"is neither an image \(\.bmp"):
        find_images([str(tmp_path / source)])


def test_name_masks__two_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would both be written to"):
        name_masks([tmp_path / "a" / "1.png", tmp_path / "b" / "1.jpg"], tmp_path)


def test_name_masks__never_over_an_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="would replace it; name another folder with --output"):
        name_masks([tmp_path / "1.jpg", tmp_path / "2.png"], tmp_path / "x" / "..")


def test_predict__older_masks_are_kept(exported: Exported, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = frames.parent / "out"
    call = ["predict", "--model", str(exported("onnx")), "--source", str(frames), "--output", str(out)]
    assert main(call) == 0
    (out / "1.png").write_text("mine")
    (out / "0.png").unlink()
    assert main(call) == 2
    assert "1.png exists already; name another folder with --output" in capsys.readouterr().err
    assert not (out / "0.png").exists()
    assert main([*call, "--overwrite"]) == 0
    assert Image.open(out / "1.png").size == (120, 90)


@pytest.mark.parametrize("threshold", [0.0, 1.0, float("nan")])
def test_predict__impossible_threshold(threshold: float, exported: Exported, frames: Path) -> None:
    with pytest.raises(ConfigError, match=r"^threshold .* is no probability"):
        predict(PredictOptions(exported("onnx"), [str(frames)], frames / "out", threshold=threshold))


def test_predict__threshold_of_a_data_set(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--ckpt_path", str(checkpoint), "--threshold", "0.3"]) == 2
    assert "--threshold is for images named by --source" in capsys.readouterr().err


def test_predict__unknown_option_of_an_exported_model(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", f"--model={exported('onnx')}", "--source", "x", "--threshhold", "0.4"]) == 2
    assert "--threshhold is no option. Did you mean --threshold" in capsys.readouterr().err


def test_runtime__needs_no_package_of_another_extra(exported: Exported, frames: Path, tmp_path: Path) -> None:
    refused = ",".join(modules_without("runtime"))
    assert {"torch", "lightning", "wandb", "monai", "albumentations", "segmentation_models_pytorch"} < set(
        refused.split(",")
    )
    program = [sys.executable, ROOT / "tests" / "support" / "runtime_verbs.py"]
    done = subprocess.run(
        [*program, exported("onnx"), frames, tmp_path, refused], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "error: torch is needed for this and can't be imported" in done.stderr
    assert done.stderr.count("pip install 'polyp-lightning[train]'") == 2
    assert not set(done.stdout.rpartition("MODULES")[2].split()) & set(refused.split(","))
    assert {path.name for path in tmp_path.iterdir()} >= {"masks", "video.mp4", "table.csv"}
