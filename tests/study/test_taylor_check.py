import csv
import logging
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from polyp_lightning.cli import main
from polyp_lightning.study import taylor_check


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    data = partial(taylor_check.PolypDataModule, phantom_frames=14)
    # The caches of decoded images lie there.
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(taylor_check, "PolypDataModule", data)
    monkeypatch.setattr(taylor_check, "_EPOCHS", 1)
    monkeypatch.setattr(taylor_check, "_SIDE", 32)
    monkeypatch.setattr(taylor_check, "SHARES", (0.1, 0.4))
    return ["--images", "2", "--components", "12", "--out", str(tmp_path / "out")]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_taylor_check__trains_then_takes_its_own_checkpoint(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    assert main(["taylor-check", *small]) == 0
    assert logger.level == level, "a later training in this process would say nothing"
    out = tmp_path / "out"
    names = list(taylor_check.VARIANTS)
    assert [row["criterion"] for row in rows(out / "correlations.csv")] == names
    components = rows(out / "components.csv")
    assert len(components) == 12
    assert set(names) < set(components[0])
    assert len(rows(out / "sets.csv")) == 2 * len(names)
    with Image.open(out / "taylor-check.png") as picture:
        assert picture.width > 1000
    assert "wrote" in capsys.readouterr().out

    first = (out / "components.csv").read_text()
    assert main(["taylor-check", *small, "--ckpt_path", str(out / "trained.ckpt")]) == 0
    assert (out / "components.csv").read_text() == first


def test_taylor_check__a_missing_checkpoint_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["taylor-check", "--ckpt_path", str(tmp_path / "none.ckpt")]) == 2
    assert "is not a file" in capsys.readouterr().err
