import math
from collections import Counter
from pathlib import Path

import card
import pytest
from marks import SetMark, SpeedMark, VideoMark
from packing import TABLE, Packed
from small_models import cut, lively_net, save_checkpoint

from polyp_lightning.checkpoints import named
from polyp_lightning.common.files import sha256
from polyp_lightning.common.tables import write_rows

NAN = math.nan


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Tables of one network."""
    made, validated = ("2026-11-28", 3, 8, 2, "s.ckpt", 352, 0.2, 1_100_000), (20, 0.9, 0.9001, 0.4, 17, 16, 3, 1)
    write_rows(tmp_path / TABLE, Packed, [Packed("fast", "abc", 2_340_000, *made, *validated)])
    polyps = SetMark("fast", "x", "kvasir-120", 120, 0.8765, 0.85, 0.9, 120, 114, 0.9, 0.98, 130, 117, 0, 0, NAN, NAN)
    clean = SetMark("fast", "x", "c4-32", 32, NAN, NAN, NAN, 0, 0, NAN, NAN, 0, 0, 32, 2, 0.017, 0.2)
    write_rows(tmp_path / card.SETS, SetMark, [polyps, clean])
    write_rows(tmp_path / card.SPEEDS, SpeedMark, [SpeedMark("fast", "x", 352, 8.0, 9.5, 125.0, "a slow core")])
    write_rows(
        tmp_path / card.VIDEOS, VideoMark, [VideoMark("fast", "clean", 96.0, 2400, 24, 7.5, 1.25, "5 of 8 frames")]
    )
    return tmp_path


def test_draw__says_what_the_tables_say(measured: Path) -> None:
    text = card.draw(measured)
    for line in (
        "| fast | 0.200 | 1.10 M | 2.34 | 3 | 8 | 2 runs | 2026-11-28 | `abc` |",
        "| fast | 0.9000 | 0.9001 | 0.40000 | 16 of 17 (94.1%) | 1 of 3 |",
        "| fast | x | kvasir-120 | 120 | 0.876 [0.850, 0.900] | 114 of 120 (95.0%) | 117 of 130 (90.0%) |",
        "| fast | x | c4-32 | 2 of 32 (6.2%) | 1.7% to 20.0% |",
        "| fast | x | 352² | 8.0 / 9.5 | 125 |",
        "One thread of: a slow core;",
        "| fast | clean | 96 | 24 of 2400 (1.0%) | 7.5 | 1.2 (5 of 8 frames) |",
    ):
        assert line in text
    assert "$" not in text
    for path in card.list_lists():
        assert f"| {path.name} | `{sha256(path)}` |" in text
    # Each of Kvasir-SEG and ClinicDB has two splits.
    assert Counter(path.name.split("-")[0] for path in card.list_lists()) == {"kvasir": 6, "clinicdb": 6, "polypgen": 4}


@pytest.mark.slow
def test_write__puts_tables_failures_and_card_beside_the_networks(
    measured: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = here / "nets"
    nets.mkdir()
    monkeypatch.setattr(named, "FOLDER", nets)
    save_checkpoint(cut(lively_net(), 0.1), nets / "fast.ckpt")
    (nets / TABLE).write_bytes((measured / TABLE).read_bytes())
    card.write(measured, nets)
    assert (nets / card.CARD).read_text(encoding="utf-8") == card.draw(nets)
    names = sorted(path.name for path in nets.iterdir())
    assert names == ["README.md", "failures.jpg", "fast.ckpt", TABLE, card.SETS, card.SPEEDS, card.VIDEOS]
    assert (nets / card.FAILURES).stat().st_size < 150_000
