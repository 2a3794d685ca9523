import io
import sys

import pytest

from polyp_lightning.common import log_lines
from polyp_lightning.common.log_lines import Pace, announce
from polyp_lightning.common.terminal import show_text


def test_pace__one_line_per_interval_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(log_lines.time, "monotonic", lambda: now)
    lines: list[str] = []
    pace = Pace("reading", 100, lines.append, every=20)
    for count, now in ((1, 101.0), (10, 119.9), (20, 120.0), (21, 121.0), (80, 180.0), (100, 220.0)):  # noqa: B007
        pace.reach(count)
    # 20 s for 20 of 100, then 80 s for 80; none for the last.
    assert lines == ["reading: 20 of 100, 1 min 20 s left", "reading: 80 of 100, 20 s left"]


@pytest.mark.parametrize(("name", "value", "written"), [("RANK", "1", ""), ("LOCAL_RANK", "0", "text\n")])
def test_announce__one_process_speaks(
    name: str, value: str, written: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, value)
    announce("text")
    assert capsys.readouterr() == ("", written)


def test_show_text__leaves_nothing_in_the_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8"))  # type: ignore[arg-type]
    show_text("an epoch")
    assert file.getvalue() == b"an epoch\n"
