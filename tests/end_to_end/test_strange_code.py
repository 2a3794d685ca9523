"""A checkpoint that names a class of a stranger's: no door of the product imports it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from own_nets import Supervised
from small_models import save_checkpoint
from torch import nn

from polyp_lightning.callbacks import load_from_checkpoint
from polyp_lightning.checkpoints.record import read_record, restore_net, restore_widths
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main
from polyp_lightning.common.errors import UnnamedClassError
from polyp_lightning.networks.own import OwnNet
from polyp_lightning.training.module import PolypSegmenter

ARCH = "harmful_code.Net"
CODE = """
from pathlib import Path
Path({mark!r}).touch()
from own_nets import Supervised as Net
"""
EVALUATED = ("test", "validate", "predict")


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that exists as soon as the stranger's module has been imported."""
    path = tmp_path / "harm"
    (tmp_path / "harmful_code.py").write_text(CODE.format(mark=str(path)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "harmful_code", raising=False)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def ckpt(mark: Path) -> Path:
    path = mark.parent / "runs" / "a" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    return save_checkpoint(OwnNet(Supervised()), path, "", ARCH)


def changed(path: Path, **hyper_parameters: Any) -> Path:
    stored = torch.load(path, weights_only=True)
    stored["hyper_parameters"] |= hyper_parameters
    torch.save(stored, path)
    return path


@pytest.mark.parametrize(
    ("command", "named"),
    [
        *(([verb, "--ckpt_path", "{}"], "--model.arch") for verb in ("fit", *EVALUATED)),
        *(
            (["fit", f"--model.{name}", "{}"], "--model.arch")
            for name in ("init_from", "architecture_from", "distill_from")
        ),
        *(([verb, "--ckpt_path", "{}"], "--arch") for verb in ("prune", "export", "taylor-check")),
        (["benchmark", "--model", "{}"], "--arch"),
    ],
    ids=" ".join,
)
def test_verbs__say_the_command_that_names_the_class_and_import_nothing(
    command: list[str], named: str, ckpt: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part.format(ckpt) for part in command]
    assert main(given) == 2
    printed = capsys.readouterr().err
    assert f"made by {ARCH}" in printed
    assert f"python -m polyp_lightning {' '.join(given)} {named} {ARCH}" in printed
    assert not mark.exists()


def test_named__it_is_imported(ckpt: Path, mark: Path) -> None:
    """Without this, none of the tests here could fail."""
    load_net(ckpt, named=[ARCH])
    assert mark.exists()


@pytest.mark.parametrize("text", [f"model: {{arch: {ARCH}}}", f"{{data: {{name: phantom}}, model: {{arch: {ARCH}}}}}"])
def test_fit__a_configuration_beside_the_checkpoint_is_no_word_of_the_user(
    text: str, ckpt: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ckpt.parent.parent / "config.yaml").write_text(text)
    changed(ckpt, arch="Unet", encoder="resnet18")
    assert main(["fit", "--ckpt_path", str(ckpt)]) == 2
    assert f"--model.arch {ARCH}" in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize(
    "config",
    [{"model": "more.yaml"}, {"trainer": "more.yaml"}, {"config": "more.yaml"}, {"pruning": {"options": "more.yaml"}}],
    ids=str,
)
def test_fit__a_configuration_beside_the_checkpoint_reads_no_others(
    config: dict[str, Any], ckpt: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(ckpt, arch="Unet", encoder="resnet18")
    folder = ckpt.parent.parent
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "more.yaml").write_text(
        f"{{arch: {ARCH}, callbacks: [{{class_path: {ARCH}}}], trainer: {{callbacks: [{{class_path: {ARCH}}}]}}}}"
    )
    assert main(["fit", "--ckpt_path", str(ckpt)]) == 2
    assert "would read further files" in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize("arch", ["Unet", ARCH])
def test_arch_options__name_no_class_for_the_parser(
    arch: str, ckpt: Path, mark: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(ckpt, arch=arch, encoder="resnet18", arch_options={"width": [{"class_path": ARCH}]})
    for verb in EVALUATED:
        assert main([verb, "--ckpt_path", str(ckpt)]) == 2
        assert "--model.arch_options is damaged" in capsys.readouterr().err
    assert not mark.exists()


@pytest.mark.parametrize(
    "arch", ["os; touch harm .Net", "harmful_code.Net\n", "harmful_code..Net", "../harmful_code.Net"]
)
def test_arch__what_is_no_import_path_is_never_shown_as_a_command(
    arch: str, ckpt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "--ckpt_path", str(changed(ckpt, arch=arch))]) == 2
    printed = capsys.readouterr().err
    assert "is no import path" in printed
    assert "python -m polyp_lightning test" not in printed


def test_report__frames_are_left_out(ckpt: Path, mark: Path, tmp_path: Path) -> None:
    for stage in (0, 1):
        ckpt.with_name(f"stage{stage}-epoch0{stage}-dice0.5000.ckpt").write_bytes(ckpt.read_bytes())
    page = tmp_path / "page.html"
    assert main(["report", str(ckpt.parent.parent), "-o", str(page)]) == 0
    assert f"--arch {ARCH}" in page.read_text()
    assert not mark.exists()


def from_lightning(path: Path) -> object:
    return PolypSegmenter.load_from_checkpoint(path)


def from_callbacks(path: Path) -> object:
    return load_from_checkpoint(PolypSegmenter, path)


def by_trainer(path: Path) -> object:
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    return trainer.predict(PolypSegmenter(image_size=64), [], ckpt_path=path, weights_only=True)


def by_record(path: Path) -> object:
    return restore_net(read_record(path))


def widths_of_record(path: Path) -> object:
    return restore_widths(read_record(path), ["another.Net"])


def of_another_class(path: Path) -> object:
    return PolypSegmenter(arch="own_nets.Supervised", init_from=str(path), image_size=64)


def of_the_teacher(path: Path) -> object:
    return PolypSegmenter(distill_from=str(path), image_size=64)


@pytest.mark.parametrize(
    "load",
    [
        load_net, from_lightning, from_callbacks, by_trainer, by_record, widths_of_record, of_another_class,
        of_the_teacher,
    ],
)  # fmt: skip
def test_python__no_function_imports_it_either(load: Callable[[Path], object], ckpt: Path, mark: Path) -> None:
    with pytest.raises(UnnamedClassError):
        load(ckpt)
    assert not mark.exists()


def test_python__load_from_checkpoint_with_the_class(ckpt: Path, mark: Path) -> None:
    module = PolypSegmenter.load_from_checkpoint(ckpt, arch=ARCH)
    assert isinstance(module.net, nn.Module)
    assert module.arch == ARCH
    assert mark.exists()
