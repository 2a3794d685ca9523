"""Every cell of the matrix, as ``make matrix`` runs it."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from cells import ARCHITECTURES, CELLS, build
from checks import Result, Vacuous, check, randomise, settle
from run import frozen_shares, main, measure, record_frozen, summary, table
from torch import Tensor, nn

from polyp_lightning.pruning.graph import ChannelGraph, Removed

# What cannot be built or run before any pruning, by the reason that smp or timm give.
REASONS = (
    *("Only Timm encoders are supported for DPT", "do not support dilated mode", "does not support dilated mode"),
    "dilation not supported",
    *("unexpected keyword argument 'output_stride'", "is not supported for Linknet", "is not support encoder_name"),
)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_matrix__every_cell_that_runs_is_pruned_exactly(arch: str) -> None:
    # The cores that other tests leave to this one: each process more loads all libraries first.
    tests_at_a_time = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    workers = max(1, (os.cpu_count() or 1) // tests_at_a_time)
    results = list(measure([cell for cell in CELLS if cell[0] == arch], workers))
    assert [(r.encoder, r.reason) for r in results if r.status == "failed"] == []
    refused = [r.reason for r in results if r.status == "refused"]
    assert [reason for reason in refused if not any(known in reason for known in REASONS)] == []
    assert [(r.encoder, r.not_understood) for r in results if r.not_understood] == []
    shares = {cell: share for cell, share in frozen_shares().items() if cell[0] == arch}
    assert {(r.arch, r.encoder) for r in results if r.status == "exact"} == set(shares)
    assert [(r.encoder, r.frozen) for r in results if r.status == "exact" and r.frozen > shares[arch, r.encoder]] == []


def test_matrix__one_cell_through_the_command(tmp_path: Path) -> None:
    file = tmp_path / "matrix.csv"
    cells = ["--arch", "Linknet", "--encoder", "resnet18", "mit_b0"]
    assert main([*cells, "--workers", "1", "--no-onnx", "--csv", str(file)]) == 0
    header, *rows = file.read_text().splitlines()
    assert header.split(",") == [field.name for field in dataclasses.fields(Result)]
    assert [row.split(",")[:3] for row in rows] == [["Linknet", "resnet18", "exact"], ["Linknet", "mit_b0", "refused"]]


def test_record__keeps_what_was_not_run_and_rounds_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("run.FROZEN_SHARES", tmp_path / "frozen.csv")
    record_frozen([Result("Unet", "xception", "exact", frozen=0.0), Result("Unet", "resnet18", "exact", frozen=0.5)])
    record_frozen([Result("Unet", "resnet18", "exact", frozen=0.1234561), Result("PAN", "dpn68", frozen=0.3)])
    assert frozen_shares() == {("Unet", "resnet18"): 0.12346, ("Unet", "xception"): 0.0}


@pytest.mark.parametrize(
    ("telling", "expected", "sides"),
    [(128, ("exact", "", 128, 4), [64, 64, 64, 128]), (256, ("failed", "Vacuous: dead", 128, 6), [64] * 3 + [128] * 3)],
)
def test_check__other_draws_and_larger_images_where_nothing_would_be_felt(
    monkeypatch: pytest.MonkeyPatch, telling: int, expected: tuple[str, str, int, int], sides: list[int]
) -> None:
    seen = []

    def vacuous_below(net: nn.Module, images: Tensor, result: Result, *, onnx: bool) -> None:
        seen.append(images.shape[-1])
        if images.shape[-1] < telling:
            raise Vacuous("dead")

    monkeypatch.setattr("checks._check", vacuous_below)
    result = check(("Unet", "resnet18"))
    assert (result.status, result.reason, result.side, result.draws) == expected
    assert seen == sides


def test_settle__the_output_depends_on_the_image_again() -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    net = settle(randomise(build("DeepLabV3", "mobilenet_v2").eval()), images)
    assert not net.training
    assert {m.momentum for m in net.modules() if isinstance(m, nn.BatchNorm2d)} <= {0.1, 0.01}
    with torch.no_grad():
        out = net.double()(images.double())
    assert float((out[0] - out[1]).abs().max() / out.abs().max()) > 1e-4


def test_check__an_unread_component_that_is_felt_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_but_the_frozen(graph: ChannelGraph) -> Removed:
        return np.arange(graph.size) > 0

    monkeypatch.setattr(ChannelGraph, "unread", all_but_the_frozen)
    result = check(("Linknet", "resnet18"), onnx=False)
    assert result.status == "failed"
    assert "is felt" in result.reason


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


def test_cells__cover_every_architecture() -> None:
    assert {arch for arch, _ in CELLS} == set(ARCHITECTURES)
    assert len(set(CELLS)) == len(CELLS) == 12 * 25 + 1 + 5
