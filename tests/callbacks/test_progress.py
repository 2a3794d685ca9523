import re
import sys
from pathlib import Path

import pytest
from fakes import FakeData, FakePruning, FakeSegmenter, trainer

from polyp_lightning.tracking import ProgressBar


def test_progress_bar__one_plain_line_per_epoch_in_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(tmp_path, [FakePruning(), ProgressBar()], epochs=3).fit(FakeSegmenter(), FakeData())
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("Epoch")]
    assert "\r" not in out
    assert len(lines) == 3
    assert re.search(r", left=\d+ s$", lines[1])
    assert "Training begins with epoch 0 of 3, 2 steps each" in out
    assert re.fullmatch(r"Epoch 2: loss=\d\.\d{3}, dice=0\.6000, GMACs=3\.000, stage=1", lines[2])


def test_progress_bar__a_long_first_epoch_says_how_far_it_has_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("polyp_lightning.callbacks.progress.EVERY", 0.0)
    trainer(tmp_path, [ProgressBar()], epochs=2).fit(FakeSegmenter(), FakeData())
    out = capsys.readouterr().out
    # Once in the first of two steps; the second epoch is over before its first line is due.
    assert re.findall(r"Epoch \d, step: .*", out) == ["Epoch 0, step: 1 of 2, 0 s left"]
    assert out.index("step: 1 of 2") < out.index("Epoch 0: loss")


def test_progress_bar__a_terminal_shows_the_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    trainer(tmp_path, [FakePruning(), ProgressBar(refresh_rate=1)], epochs=3).fit(FakeSegmenter(), FakeData())
    out = capsys.readouterr().out
    assert re.search(r"Epoch 2: +\d+%.*loss=0\.\d+, dice=0\.9000, GMACs=3\.000, stage=1", out)
    assert "v_num" not in out


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_bar__refresh_rate_0_is_silent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    trainer(tmp_path, [ProgressBar(refresh_rate=0)], epochs=2).fit(FakeSegmenter(), FakeData())
    assert "dice" not in capsys.readouterr().out


def test_progress_bar__leaves_out_what_is_not_known_yet(tmp_path: Path) -> None:
    fit = trainer(tmp_path, [])
    assert ProgressBar().get_metrics(fit, FakeSegmenter()) == {}
