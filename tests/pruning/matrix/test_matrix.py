"""Every cell of the matrix, as ``make matrix`` runs it."""

import dataclasses
import os
from pathlib import Path

import pytest
from cells import ARCHITECTURES, CELLS
from checks import Result, check
from run import main, measure, summary, table

# What cannot be built or run before any pruning, by the reason that smp or timm give.
REASONS = (
    *("Only Timm encoders are supported for DPT", "do not support dilated mode", "does not support dilated mode"),
    "dilation not supported",
    *("unexpected keyword argument 'output_stride'", "is not supported for Linknet", "is not support encoder_name"),
)
# One of each family of encoders; `make matrix` runs them all, which takes several times as long.
FAMILIES = (
    *("resnet18", "timm-tf_efficientnet_lite0", "densenet121", "timm-skresnet18", "mit_b0", "tu-convnext_tiny"),
    *("tu-hgnetv2_b0", "tu-vit_tiny_patch16_224"),
)
# Fewer still are enough for the exporter, which takes most of the time.
EXPORTED = ("resnet18", "timm-tf_efficientnet_lite0", "timm-skresnet18", "mit_b0", "tu-vit_tiny_patch16_224")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_matrix__every_cell_that_runs_is_pruned_exactly(arch: str) -> None:
    cells = [cell for cell in CELLS if cell[0] == arch and cell[1] in FAMILIES]
    results = list(measure(cells, os.cpu_count() or 1, exported=EXPORTED))
    assert [(r.encoder, r.reason) for r in results if r.status == "failed"] == []
    refused = [r.reason for r in results if r.status == "refused"]
    assert [reason for reason in refused if not any(known in reason for known in REASONS)] == []
    assert [(r.encoder, r.not_understood) for r in results if r.not_understood] == []
    assert len(refused) < len(cells)


def test_matrix__one_cell_through_the_command(tmp_path: Path) -> None:
    file = tmp_path / "matrix.csv"
    cells = ["--arch", "Linknet", "--encoder", "resnet18", "mit_b0"]
    assert main([*cells, "--workers", "1", "--no-onnx", "--csv", str(file)]) == 0
    header, *rows = file.read_text().splitlines()
    assert header.split(",") == [field.name for field in dataclasses.fields(Result)]
    assert [row.split(",")[:3] for row in rows] == [["Linknet", "resnet18", "exact"], ["Linknet", "mit_b0", "refused"]]


def test_check__a_wrong_removal_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "checks.pruning.mask", lambda net, graph, removed: net.decoder.blocks[0].conv1[0].weight.data.zero_()
    )
    result = check(("Unet", "resnet18"), onnx=False)
    assert result.status == "failed"
    assert "masked and pruned differ" in result.reason


def test_table__shows_what_failed_and_what_was_refused() -> None:
    results = [Result("Unet", "a", "failed", "they differ"), Result("PAN", "b", "refused", "no dilation")]
    shown = table(results)
    assert shown.row_count == 1
    assert "they differ" in str(list(shown.columns[2].cells))
    assert "PAN b: no dilation" in summary(results, 1.0, 2)
    assert "0 of 1 exact, 1 refused" in summary(results, 1.0, 2)


def test_cells__cover_every_architecture_of_smp() -> None:
    assert {arch for arch, _ in CELLS} == set(ARCHITECTURES)
    assert len(set(CELLS)) == len(CELLS) == 12 * 25 + 1
