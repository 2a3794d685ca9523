"""The curve in the report, as files, drawn again from its table, and in W&B."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import SET, pruned, result
from pages import read
from PIL import Image

from polyp_lightning.cli import main
from polyp_lightning.report.budget_curve import answer_curve, group_curves, tell_apart
from polyp_lightning.study.curve import read_curve
from polyp_lightning.study.results import IMAGES, RUNS, ImageScore, append_result, write_images
from polyp_lightning.tracking import curve_chart
from polyp_lightning.tracking.curve_chart import collect_lines, log_curve

FALL = {0.7: 0.001, 0.35: -0.004, 0.1: -0.06}


def study(folder: Path) -> Path:
    """Two seeds of dense, of taylor at three budgets, and of other software at one."""
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 0.05, 40)
    for seed in range(2):
        rows = [(result(f"dense-{seed}", seed=seed), 0.0)]
        for target, fall in FALL.items():
            costs = {"target": target, "gmacs": 4 * target, "params": int(14e6 * target**2)}
            rows.append((pruned(f"taylor-{target}-{seed}", "taylor", seed, 0.0, **costs), fall))
        other = {"target": 0.35, "gmacs": 1.4, "schedule": "outside"}
        rows.append((pruned(f"tp-{seed}", "tp_taylor", seed, 0.0, **other), -0.03))
        for row, fall in rows:
            dice = 0.86 + fall + hard + rng.normal(0, 0.003, 40)
            append_result(folder / "results.csv", row)
            scores = [ImageScore(SET, f"i{n}", float(d), 0.0, 100 * (1 - d)) for n, d in enumerate(dice)]
            write_images(folder / RUNS / row.run / IMAGES, scores)
    return folder


def test_curve__answer_drawing_table_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stem, page = tmp_path / "a" / "curve", tmp_path / "page.html"
    assert main(["report", str(study(tmp_path / "s")), "-o", str(page), "--curve", str(stem)]) == 0
    text = read(page.read_text(encoding="utf-8")).text
    assert "To what share of the MACs does pruning hold?" in text
    assert "taylor is down to 35 % of the MACs not worse by 0.01 of Dice (12.2 % of the parameters, −0.00" in text
    assert "Triangles: other software." in text
    points = read_curve(stem.with_suffix(".csv"))
    assert {(one.method, one.target) for one in points} == {
        ("dense", 1.0), ("tp_taylor", 0.35), *(("taylor", target) for target in FALL),
    }  # fmt: skip
    # Blue is the curve of taylor, orange that of the other software.
    colours = {c for _, c in Image.open(stem.with_suffix(".png")).convert("RGB").getcolors(2**24) or []}
    assert {(0, 0x72, 0xB2), (0xD5, 0x5E, 0), (255, 255, 255)} <= colours


def test_curve__drawn_again_from_its_table(tmp_path: Path) -> None:
    first, second = tmp_path / "curve", tmp_path / "again"
    assert main(["report", str(study(tmp_path / "s")), "-o", str(tmp_path / "x.html"), "--curve", str(first)]) == 0
    page = tmp_path / "y.html"
    assert main(["report", str(first.with_suffix(".csv")), "-o", str(page), "--curve", str(second)]) == 0
    for suffix in (".csv", ".png"):
        assert second.with_suffix(suffix).read_bytes() == first.with_suffix(suffix).read_bytes()
    (own,) = group_curves(read_curve(second.with_suffix(".csv")))
    assert answer_curve(own)[0] in read(page.read_text(encoding="utf-8")).text


def test_tell_apart__only_other_software_has_triangles(tmp_path: Path) -> None:
    stem = tmp_path / "curve"
    assert main(["report", str(study(tmp_path / "s")), "-o", str(tmp_path / "x.html"), "--curve", str(stem)]) == 0
    (point, *_) = (one for one in read_curve(stem.with_suffix(".csv")) if one.method == "taylor")
    ours = [f"own{number}" for number in range(5)]
    schedules = {"rival": "outside"} | dict.fromkeys(ours, "during") | {"other": "outside", "taylor": "during"}
    found = tell_apart([replace(point, method=name, schedule=how) for name, how in schedules.items()])
    assert list(found) == ["taylor", *ours, "rival", "other"]
    assert [look.marker in "^v<>" for look in found.values()] == [False] * 6 + [True] * 2
    assert len({look.colour for look in found.values()}) == 8


def test_curve__too_few_budgets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_result(tmp_path / "s" / "results.csv", result("dense-0"))
    assert main(["report", str(tmp_path / "s"), "-o", str(tmp_path / "x.html"), "--curve", str(tmp_path / "c")]) == 2
    assert "at 3 budgets or more" in capsys.readouterr().err


def test_chart__lines_of_all_seeds_with_the_ends_of_their_intervals() -> None:
    row = {"seed": "all", "metric": "dice", "method": "taylor", "difference": "-0.02", "low": "-0.05", "high": "0.01"}
    rows = [row | {"share": "0.5", "value": "0.8"}, row | {"share": "0.25", "value": "0.7"}]
    rows.append(row | {"share": "0.5", "value": "0.1", "seed": "0"})
    found = collect_lines(rows, "dice")
    assert found["taylor"] == [(0.25, 0.7), (0.5, 0.8)]
    assert found["taylor, low end"] == [pytest.approx((0.25, 0.67)), pytest.approx((0.5, 0.77))]
    assert found["taylor, high end"] == [pytest.approx((0.25, 0.73)), pytest.approx((0.5, 0.83))]
    assert collect_lines(rows, "hd95") == {}


def test_chart__goes_into_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What W&B is given; its own file formats are tested with the runs."""
    logged: dict[str, object] = {}

    class Run:
        def __enter__(self) -> "Run":
            return self

        def __exit__(self, *_: object) -> None: ...

        def log(self, values: dict[str, object]) -> None:
            logged.update(values)

    modes = []
    monkeypatch.setattr(curve_chart, "choose_mode", lambda _: "offline")
    monkeypatch.setattr("wandb.init", lambda **options: modes.append(options["mode"]) or Run())
    stem = tmp_path / "curve"
    assert main(["report", str(study(tmp_path / "s")), "-o", str(tmp_path / "x.html"), "--curve", str(stem)]) == 0
    log_curve(stem.with_suffix(".csv"), "p")
    assert modes == ["offline"]
    assert set(logged) == {"curve", f"curve_dice/{SET}", f"curve_hd95/{SET}"}
    table = logged["curve"]
    points = read_curve(stem.with_suffix(".csv"))
    assert len(table.data) == len(points)  # type: ignore[attr-defined]
    assert table.data[0][table.columns.index("value")] == points[0].value  # type: ignore[attr-defined]
    assert math.isfinite(points[0].value)
