from typing import Any

import pytest
from fakes import record

from polyp_lightning.callbacks.table import kept_filters, stage_table
from polyp_lightning.common.terminal import render, show


def _history() -> Any:
    return [record(0), record(1), record(2, score_end=None, score_best=None)]


@pytest.mark.parametrize("width", [80, 120])
def test_stage_table__every_number_stands_whole_in_a_pipe(width: int) -> None:
    text = render(stage_table(_history(), 352, "A title"), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "…" not in text
    assert "@352²" in text
    rows = [line.split() for line in text.splitlines() if "%" in line]
    assert rows[0] == ["0", "0", "4.000", "100.0%", "6.63", "M", "–", "–", "0.8800", "0.8900"]
    assert rows[1] == ["1", "2", "3.000", "75.0%", "4.97", "M", "0.9000", "0.6500", "0.8700", "0.8800"]
    assert rows[2] == ["2", "4", "2.000", "50.0%", "3.31", "M", "0.9000", "0.6000", "–", "–"]


def test_stage_table__says_what_the_dice_is_of() -> None:
    facts = {"name": "kvasir", "split": "official", "protocol": "880 / 120", "cache_key": "f00"}
    text = render(stage_table(_history(), 352, "A title", facts), 120)
    assert "network resolution" in text
    assert "name: kvasir · split: official · protocol: 880 / 120" in text
    assert "f00" not in text


def test_stage_table__nothing_yet() -> None:
    assert "A title" in render(stage_table([], 64, "A title"), 80)


def test_kept_filters__by_block() -> None:
    text = kept_filters(record(1), record(0)).replace("\u00a0", " ")
    assert text == "encoder.conv1 64, encoder.layer1 192/256, decoder.blocks.0 96/128"


def test_show__a_terminal_without_unicode_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import io
    import sys

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    show(stage_table(_history(), 352, "A title"))
    assert b"0.8800" in raw.getvalue()
