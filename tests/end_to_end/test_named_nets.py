"""Every verb takes a network of the package by its name; here a small one of random weights, in a folder of its own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import SIZE, cut, lively_net, save_checkpoint
from small_videos import write_video

from polyp_lightning.checkpoints import named
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main
from polyp_lightning.deploy import first_use

QUIET = ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"]
SMALL = ["--data.phantom_frames", "28", "--data.num_workers", "0", "--data.batch_size", "4"]


@pytest.fixture
def net(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(named, "FOLDER", here / "nets")
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "cache"))
    (here / "nets").mkdir()
    return save_checkpoint(cut(lively_net(), 0.1), here / "nets" / "small.ckpt")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_test_and_predict__by_name(net: Path, here: Path) -> None:
    assert main(["test", "--ckpt_path", "small", *SMALL, *QUIET, "--trainer.default_root_dir", "run"]) == 0
    assert '"checkpoint": "small.ckpt"' in (here / "run/test_results.json").read_text()
    (here / "F/images").mkdir(parents=True)
    Image.fromarray(np.full((50, 60, 3), 90, np.uint8)).save(here / "F/images/a.png")
    data = ["--data.name", "folder", "--data.root", "F", "--data.num_workers", "0", "--masks.output", "out"]
    assert main(["predict", "--ckpt_path", "small", *data, *QUIET]) == 0
    assert files(here / "out") == ["a.png", "alarms.csv"]


def test_fit__from_a_name(net: Path, here: Path) -> None:
    options = ["--trainer.max_epochs", "1", "--pruning.target", "1", "--trainer.default_root_dir", "run"]
    sized = [*SMALL, "--data.image_size", str(SIZE), "--model.lr", "1e-9"]
    assert main(["fit", "--model.init_from", "small", *sized, *options, *QUIET]) == 0
    trained, given = (load_net(path).net.state_dict() for path in (here / "run/checkpoints/last.ckpt", net))
    torch.testing.assert_close(trained["encoder.conv1.weight"], given["encoder.conv1.weight"])


def test_fit__goes_on_with_no_network_of_the_package(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--ckpt_path", "small", *SMALL, *QUIET]) == 2
    assert "holds weights only" in capsys.readouterr().err


@pytest.mark.slow
def test_stream_and_benchmark__export_once(net: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(write_video(here / "in.mp4", 3))
    for count in (1, 0):
        assert main(["stream", "--model", "small", "--source", source, "--save", f"out{count}.mp4"]) == 0
        assert capsys.readouterr().out.count("is used for the first time") == count
    quick = ["--rounds", "1", "--frames", "1", "--no_memory"]
    assert main(["benchmark", "--model", "small", *quick]) == 0
    assert main(["benchmark", "--model", "small", *quick, "--backend", "onnxruntime", "--backend", "openvino"]) == 0
    assert main(["benchmark", "--model", "small", *quick, "--backend", "torch"]) == 0
    out = capsys.readouterr().out
    (here / "F").mkdir()
    Image.fromarray(np.full((50, 60, 3), 90, np.uint8)).save(here / "F/a.png")
    assert main(["predict", "--model", "small", "--source", "F", "--output", "out"]) == 0
    assert files(here / "out") == ["a.png", "alarms.csv"]
    assert "first time" not in capsys.readouterr().out
    # Once more as ONNX, and as what PyTorch runs.
    assert out.count("is used for the first time") == 2
    assert main(["benchmark", "--model", "small", *quick, "--backend", "none"]) == 2
    assert files(here / "nets") == ["small.ckpt"]
    # Other weights are another network.
    changed = torch.load(net, weights_only=True)
    changed["state_dict"]["net.segmentation_head.0.bias"] += 1
    torch.save(changed, net)
    assert main(["stream", "--model", "small", "--source", source, "--save", "out2.mp4"]) == 0
    assert capsys.readouterr().out.count("is used for the first time") == 1


@pytest.mark.parametrize("name", ["there.mp4", "film.xyz"])
def test_stream__looks_at_its_output_before_it_exports(
    net: Path, here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "there.mp4").write_bytes(b"x")
    source = str(write_video(here / "in.mp4", 3))
    assert main(["stream", "--model", "small", "--source", source, "--output", name]) == 2
    said = capsys.readouterr()
    assert f"--output {name}" in said.err
    assert "first time" not in said.out


def test_predict__looks_at_its_output_before_it_exports(
    net: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("F", "out"):
        (here / folder).mkdir()
        Image.fromarray(np.full((50, 60, 3), 90, np.uint8)).save(here / folder / "a.png")
    assert main(["predict", "--model", "small", "--source", "F", "--output", "out"]) == 2
    said = capsys.readouterr()
    assert "a.png exists already" in said.err
    assert "first time" not in said.out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--rounds", "0"], "at least 1"),
        (["--backend", "none"], "none: no format runs so"),
        (["--backend", "torch", "--backend", "openvino"], "torch, openvino: no format runs so"),
    ],
)
def test_benchmark__looks_at_its_options_before_it_exports(
    net: Path, here: Path, options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "--model", "small", *options]) == 2
    said = capsys.readouterr()
    assert why in said.err
    assert "first time" not in said.out


@pytest.mark.slow
def test_export__writes_into_the_working_folder(net: Path, here: Path) -> None:
    assert main(["export", "--ckpt_path", "small"]) == 0
    assert (here / f"small-{SIZE}.onnx").is_file()
    assert files(here / "nets") == ["small.ckpt"]


def test_export_once__a_damaged_export_is_made_again(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def export(options: object, say: object) -> object:
        made.append(options)
        return type("Bundle", (), {"path": options.output})  # type: ignore[attr-defined]

    monkeypatch.setattr("polyp_lightning.deploy.export.export", export)
    target = first_use.export_once(net, say=lambda _: None)
    target.parent.mkdir(parents=True)
    target.write_text("half")
    assert first_use.export_once(net, say=lambda _: None) == target
    assert len(made) == 2
    assert first_use.export_once(Path("other.ckpt")) == Path("other.ckpt")


@pytest.mark.parametrize("verb", [["test", "--ckpt_path"], ["stream", "--source", "x", "--model"]])
def test_verbs__a_wrong_name(net: Path, capsys: pytest.CaptureFixture[str], verb: list[str]) -> None:
    assert main([*verb, "smal"]) == 2
    assert "Did you mean small?" in capsys.readouterr().err


def test_prune__shows_a_cut_without_the_data(
    net: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = torch.load(net, weights_only=True)
    stored["polyp_lightning"]["data"] |= {"data": "kvasir", "split": "880-120"}
    torch.save(stored, net)
    monkeypatch.setenv("POLYP_DATA", str(here))
    quick = ["--target", "0.5", "--batches", "2", "--batch_size", "2"]
    assert main(["prune", "--ckpt_path", "small", *quick, "--dry_run", "true"]) == 0
    out = capsys.readouterr().out
    assert "Scored on 4 drawn phantoms in place of kvasir: " in out
    assert "Nothing was written" in out
    assert main(["prune", "--ckpt_path", "small", *quick]) == 2
    assert "is not there" in capsys.readouterr().err
    assert files(here / "nets") == ["small.ckpt"]
