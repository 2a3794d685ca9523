"""What running an exported model imports, and what it refuses."""

import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from small_models import CleanModules, Exported
from small_videos import write_video
from torch import nn

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.benchmark.timers import serialise
from polyp_lightning.deploy.bundle import list_files, load_model, read_bundle, sidecar, write_sidecar
from polyp_lightning.deploy.formats import FORMATS

HEAVY = {"torch", "lightning", "wandb", "albumentations", "segmentation_models_pytorch", "timm", "openvino_telemetry"}


@pytest.mark.parametrize("kind", [kind.name for kind in FORMATS.values() if kind.backends[0] != "torch"])
def test_stream__needs_neither_torch_nor_lightning(
    exported: Exported, clean_modules: CleanModules, tmp_path: Path, kind: str
) -> None:
    source = write_video(tmp_path / "in.mp4", 2)
    arguments = ["stream", "--model", str(exported(kind)), "--source", str(source)]
    modules = clean_modules(f"from polyp_lightning.cli.verbs import main; assert main({arguments!r}) == 0")
    # The name is kept to keep the package out.
    assert modules & HEAVY <= {"openvino_telemetry"}


def test_benchmark__needs_neither_torch_nor_lightning(exported: Exported, clean_modules: CleanModules) -> None:
    arguments = ["benchmark", "--model", str(exported("onnx")), "--rounds", "1", "--frames", "1", "--no_memory"]
    modules = clean_modules(f"from polyp_lightning.cli.verbs import main; assert main({arguments!r}) == 0")
    assert modules & HEAVY <= {"openvino_telemetry"}


@pytest.mark.slow
def test_benchmark__of_a_pt2_needs_no_lightning(exported: Exported, clean_modules: CleanModules) -> None:
    arguments = ["benchmark", "--model", str(exported("pt2")), "--backend", "torch", "--rounds", "1", "--no_memory"]
    modules = clean_modules(f"from polyp_lightning.cli.verbs import main; assert main({arguments!r}) == 0")
    assert modules & HEAVY <= {"openvino_telemetry", "torch"}


def test_load__openvino_and_nncf_report_nothing(clean_modules: CleanModules) -> None:
    line = (
        "from polyp_lightning.deploy.extras import need; need('openvino'); need('nncf'); import sys; "
        "from openvino.tools.ovc.telemetry_utils import tm; assert tm.__name__.endswith('stub'), tm; "
        "assert sys.modules['openvino_telemetry'] is None"
    )
    clean_modules(line)


def test_openvino_request__leaves_signals_alone_whatever_goes_first(
    clean_modules: CleanModules, tmp_path: Path
) -> None:
    """Ctrl-C or the end of a child process would end the process otherwise, long after the models are gone."""
    model = tmp_path / "model.onnx"
    model.write_bytes(serialise(nn.Conv2d(3, 4, 3).eval(), (1, 3, 8, 6)))
    clean_modules(
        "import gc, os, signal; from polyp_lightning.deploy.runners.openvino_runner import "
        "open_openvino_request as open; "
        f"first = open({str(model)!r}, 1, 'f32'); second = open({str(model)!r}, 1, 'f32'); "
        "del first; gc.collect(); del second; gc.collect(); handled = []; "
        "signal.signal(signal.SIGUSR1, lambda *_: handled.append(1)); "
        "os.kill(os.getpid(), signal.SIGUSR1); assert handled"
    )


def damaged(model: Path, folder: Path, edit: Callable[[Path], object]) -> Path:
    """A copy whose sidecar agrees with it, so that the runtime has to find the fault."""
    facts = dict(read_bundle(model).facts)
    for path in list_files(model)[:-1]:
        shutil.copy(path, folder)
    copy = folder / model.name
    edit(copy)
    write_sidecar(copy, facts)
    assert sidecar(copy).is_file()
    return copy


def wrong_opset(path: Path) -> None:
    graph = onnx.load(path)
    graph.opset_import[0].version = 99
    path.write_bytes(graph.SerializeToString())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "edit", [lambda path: path.write_bytes(path.read_bytes()[:5000]), lambda path: path.write_bytes(b""), wrong_opset]
)
def test_load__says_what_can_not_be_loaded(
    exported: Exported, tmp_path: Path, backend: str, edit: Callable[[Path], object]
) -> None:
    if backend == "openvino" and edit is wrong_opset:
        pytest.skip("OpenVINO reads any operator set whose operators it knows")
    model = damaged(exported("onnx"), tmp_path, edit)
    with pytest.raises(ConfigError, match=rf"{backend} can't load .*onnx \(operator set 20\): .*Export again"):
        load_model(read_bundle(model), backend, 1)


@pytest.mark.parametrize("kind", [kind.name for kind in FORMATS.values() if kind.backends[0] == "torch"])
def test_load__says_what_torch_can_not_load(exported: Exported, tmp_path: Path, kind: str) -> None:
    model = damaged(exported(kind), tmp_path, lambda path: path.write_bytes(path.read_bytes()[:5000]))
    with pytest.raises(ConfigError, match=r"torch can't load .*Export again"):
        load_model(read_bundle(model), "torch", 1)


@pytest.mark.parametrize(
    ("backend", "threads", "message"),
    [
        ("torch", 1, r"backend torch does not run .*onnx \(onnx\); allowed: onnxruntime, openvino, openvino-bf16"),
        ("onnxruntime", 0, "threads 0 must be at least 1"),
    ],
)
def test_load__refuses(exported: Exported, backend: str, threads: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(read_bundle(exported("onnx")), backend, threads)


def test_load__cuda_needs_a_device(exported: Exported) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(ConfigError, match="--backend cuda needs a CUDA device"):
        load_model(read_bundle(exported("pt2")), "cuda", 1)


@pytest.mark.parametrize("package", ["onnxruntime", "openvino"])
def test_load__a_missing_extra_names_the_command(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ConfigError, match=rf"{package} is needed.*pip install 'polyp-lightning\[runtime\]'"):
        load_model(read_bundle(exported("onnx")), package, 1)
