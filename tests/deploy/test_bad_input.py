"""Every mistake a user can make with the three verbs ends in a message that says what to do, and leaves no file."""

import os
import subprocess
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from small_models import Exported
from small_videos import write_video

from polyp_lightning.cli import main
from polyp_lightning.deploy.bundle import sidecar

Make = Callable[[Path], Path]


def cut_index(folder: Path) -> Path:
    """A recording that was interrupted before its index was written."""
    path = write_video(folder / "in.mp4", 20)
    path.write_bytes(path.read_bytes()[:-600])
    return path


def no_frames(folder: Path) -> Path:
    path = folder / "in.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        container.start_encoding()
    return path


def text(folder: Path) -> Path:
    path = folder / "in.mp4"
    path.write_text("this is no video\n" * 100)
    return path


def empty(folder: Path) -> Path:
    path = folder / "in.mp4"
    path.write_bytes(b"")
    return path


def sound(folder: Path) -> Path:
    path = folder / "in.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    return path


def unknown_codec(folder: Path) -> Path:
    path = write_video(folder / "in.avi", 5, codec="mpeg4")
    data = path.read_bytes().replace(b"FMP4", b"ZZZZ")
    path.write_bytes(data)
    return path


def all_broken(folder: Path) -> Path:
    """Every frame's data are zeros."""
    path = write_video(folder / "in.avi", 6, codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    for start in [i for i in range(len(data) - 3) if data[i : i + 3] == b"\xff\xd8\xff"]:
        data[start : start + 600] = bytes(600)
    path.write_bytes(data)
    return path


def folder_of_text(folder: Path) -> Path:
    (folder / "images").mkdir()
    (folder / "images" / "a.txt").write_text("")
    return folder / "images"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (cut_index, "can't be opened: "),
        (no_frames, "can't be opened: End of file"),
        (text, "can't be opened: Invalid data"),
        (empty, "can't be opened"),
        (sound, "holds no video, only audio"),
        (unknown_codec, "knows no decoder for this video's codec; convert it to H.264"),
        (all_broken, "no frame of --source .* could be decoded (6 broken)"),
        # What was passed over is named too.
        pytest.param(folder_of_text, "holds no image (.bmp", marks=pytest.mark.filterwarnings("ignore:.*passed over")),
        (lambda _: Path("nowhere.mp4"), "nowhere.mp4 is neither a file nor a folder"),
        (lambda _: Path("camera:77"), "camera 77 (/dev/video77) can't be opened: No such file"),
        # Nobody listens there.
        (lambda _: "rtsp://127.0.0.1:9/x", "the stream rtsp://127.0.0.1:9/x can't be opened: Connection refused"),
    ],
)
def test_stream__refuses_a_source(
    exported: Exported,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: Make,
    message: str,
) -> None:
    if "video77" in message and not sys.platform.startswith("linux"):
        pytest.skip("cameras are named otherwise")
    source, target = str(make(tmp_path)), tmp_path / "out.mp4"
    before = sorted(tmp_path.iterdir())
    assert main(["stream", "--model", str(exported("onnx")), "--source", source, "--save", str(target)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert all(part in error for part in message.split(" .* ")), error
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stream", "--model", "{ckpt}", "--source", "x"], "is a checkpoint, and this needs an exported model"),
        (["stream", "--model", "none.onnx", "--source", "x"], "--model none.onnx is not a file"),
        (["stream", "--model", "{onnx}", "--source", "{video}", "--save", "film.xyz"], "ends in one of .mp4, .mkv"),
        (["stream", "--model", "{onnx}", "--source", "{video}", "--backend", "torch"], "allowed: onnxruntime"),
        (["stream", "--model", "{onnx}", "--source", "{video}", "--threads", "0"], "--threads 0 must be at least 1"),
        (["stream", "--model", "{onnx}", "--source", "{video}", "--smooth", "2"], "--smooth 2.0 is the weight"),
        (["export", "--ckpt_path", "{onnx}", "--format", "onnx"], "is an exported model already"),
        (["export", "--ckpt_path", "{video}", "--format", "onnx"], "is not a checkpoint: it does not begin like one"),
        (["export", "--ckpt_path", "{ckpt}", "--image_size", "100"], "--image_size 100 must be a multiple of 32"),
        (["export", "--ckpt_path", "{ckpt}", "--format", "pt2", "--int8"], "--int8 goes with --format onnx"),
        (["benchmark", "--model", "{video}"], "is no exported model: its name ends in '.mp4'"),
        (["benchmark", "--model", "{onnx}", "--image_size", "352"], "was exported for 64²: export it again"),
    ],
)  # fmt: skip
def test_verbs__refuse(
    exported: Exported, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    names = {"onnx": exported("onnx"), "ckpt": checkpoint, "video": write_video(tmp_path / "in.mp4", 2)}
    around = sorted(checkpoint.parent.iterdir())
    assert main([argument.format(**names) for argument in arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    assert sorted(checkpoint.parent.iterdir()) == around


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("onnxruntime", "runtime", ["stream", "--model", "{onnx}", "--source", "{video}"]),
        ("openvino", "runtime", ["stream", "--model", "{onnx}", "--source", "{video}", "--backend", "openvino"]),
        ("av", "runtime", ["stream", "--model", "{onnx}", "--source", "{video}"]),
        ("av", "runtime", ["benchmark", "--model", "{onnx}"]),
        ("onnxscript", "deploy", ["export", "--ckpt_path", "{ckpt}", "--format", "onnx"]),
        ("openvino", "runtime", ["export", "--ckpt_path", "{ckpt}", "--format", "openvino"]),
        ("nncf", "deploy", ["export", "--ckpt_path", "{ckpt}", "--format", "openvino", "--int8"]),
    ],
)
def test_verbs__a_missing_package_names_the_command(
    exported: Exported, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], package: str, extra: str, arguments: list[str],
) -> None:  # fmt: skip
    names = {"onnx": exported("onnx"), "ckpt": checkpoint, "video": write_video(tmp_path / "in.mp4", 2)}
    around = sorted(checkpoint.parent.iterdir())
    monkeypatch.setitem(sys.modules, package, None)
    assert main([argument.format(**names) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert f"error: {package} is needed for this" in error
    assert f"pip install 'polyp-lightning[{extra}]'" in error
    assert sorted(checkpoint.parent.iterdir()) == around


@pytest.mark.slow
def test_export__a_termination_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    """Killed while the model lies in its staging folder."""
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from polyp_lightning.cli.verbs import main\n"
        "from polyp_lightning.deploy import export\n"
        "def kill(*_): assert list(Path(sys.argv[2]).glob('.m-*/m.onnx')); os.kill(os.getpid(), signal.SIGTERM)\n"
        "export._evaluate = kill\n"
        "main(['export', '--ckpt_path', sys.argv[1], '--output', sys.argv[2] + '/m.onnx'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(checkpoint), str(tmp_path)], capture_output=True, text=True, check=False,
        env=os.environ,
    )  # fmt: skip
    assert done.returncode == 143, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_stream__a_model_without_sidecar(
    exported: Exported, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(exported("onnx").read_bytes())
    assert main(["stream", "--model", str(model), "--source", "x"]) == 2
    assert f"there is no sidecar {sidecar(model)}" in capsys.readouterr().err
