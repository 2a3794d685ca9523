import shlex
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeData, FakePruning, FakeSegmenter, trainer

from polyp_lightning.callbacks.summary import next_command, picture_caption, short_path
from polyp_lightning.tracking import ProgressBar, RunLogger, StageCheckpoint, StageSummary


def _fit(folder: Path, *callbacks: Any, **options: Any) -> Any:
    fit = trainer(folder, [*callbacks, StageSummary(), StageCheckpoint()], **options)
    fit.fit(FakeSegmenter(), FakeData())
    return fit


def test_stage_summary__a_table_at_each_cut_and_one_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _fit(tmp_path, FakePruning(), ProgressBar())
    out = capsys.readouterr().out
    first, second, last = (
        out.index("Cut 1, before epoch 2"),
        out.index("Cut 2, before epoch 4"),
        out.index("Validation"),
    )
    assert out.index("Epoch 1:") < first < out.index("Epoch 2:") < second < out.index("Epoch 5:") < last
    row = next(line.split() for line in out[first:second].splitlines() if "75.0%" in line)
    # Before the cut 0.9 as epoch 1 had it, 0.65 right after, no end yet.
    assert row[-4:] == ["0.9000", "0.6500", "–", "–"]
    assert "split: honest" in out[last:]
    assert "protocol: by sequence" in out[last:]


def test_stage_summary__names_files_that_exist_and_the_next_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "a run"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed_everything: 1")
    _fit(folder, FakePruning(), logger=RunLogger(str(folder)))
    lines = capsys.readouterr().out.splitlines()
    written = [line.strip().split("  ")[0] for line in lines[lines.index("Written:") + 1 : -6]]
    for path in written:
        assert Path(path).exists(), path
    names = [Path(path).name for path in written]
    assert names[:3] == ["pareto.png", "pareto.csv", "stage0-epoch01-dice0.9000.ckpt"]
    assert names[5:8] == ["pick.ckpt", "last.ckpt", "config.yaml"]
    assert names[8].startswith("offline-run-")
    page, dense, command = (shlex.split(lines[place]) for place in (-1, -3, -5))
    # Whole paths: they are right in any folder.
    assert page[-4:] == ["report", str(folder), "-o", f"{folder}/report.html"]
    assert dense[-4:] == ["--pruning.target", "1", "--trainer.default_root_dir", str(tmp_path / "a run-dense")]
    best = folder / "checkpoints" / "stage2-epoch04-dice0.4000.ckpt"
    assert command[1:] == ["-m", "polyp_lightning", "test", "--ckpt_path", str(best)]


@pytest.mark.parametrize("name", ["config.yaml", "pareto.csv"])
def test_stage_summary__a_damaged_run_beside_it_costs_only_its_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, beside = tmp_path / "run", tmp_path / "run-dense"
    for made in (folder, beside):
        made.mkdir()
        (made / "config.yaml").write_text("seed_everything: 0")
    (beside / name).write_bytes(b"\xff\xfe: [")
    with pytest.warns(UserWarning, match=f"beside this one is not drawn: .*{name}"):
        _fit(folder, FakePruning())
    assert (folder / "pareto.png").is_file()
    assert "Written:" in capsys.readouterr().out


def test_stage_summary__without_pruning_only_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fit(tmp_path)
    out = capsys.readouterr().out
    assert "GMACs" not in out
    assert "stage0-epoch01-dice0.9000.ckpt" in out
    assert not (tmp_path / "pareto.csv").exists()


def test_stage_summary__a_resumed_run_shows_no_old_cut_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _fit(tmp_path, FakePruning(), epochs=3)
    capsys.readouterr()
    fit = trainer(tmp_path, [FakePruning(), StageSummary(), StageCheckpoint()])
    fit.fit(FakeSegmenter(), FakeData(), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    out = capsys.readouterr().out
    assert "Cut 1" not in out
    assert "Cut 2" in out


@pytest.mark.parametrize(
    ("facts", "size", "expected"),
    [
        ({}, 64, "image size: 64"),
        ({"name": "x"}, 64, "name: x · image size: 64"),
        ({"image_size": 9}, 9, "image size: 9"),
    ],
)
def test_picture_caption__always_names_the_resolution(facts: dict[str, Any], size: int, expected: Any) -> None:
    assert picture_caption(facts, size) == expected


def test_next_command__is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_path(tmp_path / "a" / "b.ckpt") == "a/b.ckpt"
    assert short_path(tmp_path.parent / "b.ckpt") == str((tmp_path.parent / "b.ckpt").resolve())
    assert next_command(tmp_path / "it's.ckpt").endswith(f"""--ckpt_path '{tmp_path}/it'"'"'s.ckpt'""")
