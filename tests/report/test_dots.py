import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from made_up import pruned, result, study

from polyp_lightning.report.cells import collect_cells
from polyp_lightning.report.dots import draw_dice_by_method, find_single_target
from polyp_lightning.report.inputs import Study, read_source


@pytest.fixture
def rows(tmp_path: Path) -> Study:
    source = read_source(study(tmp_path))
    assert isinstance(source, Study)
    return source


def words(data: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ET.fromstring(data).iter() if node.tag.endswith("}text")]  # noqa: S314


def test_one_target__none_where_there_are_several_or_no_pruned_network() -> None:
    dense, half, quarter = result("d"), pruned("h", "taylor", 0, 0.8, target=0.5), pruned("q", "random", 0, 0.7)
    assert find_single_target(collect_cells([dense, quarter])) == 0.25
    assert find_single_target(collect_cells([dense, quarter, half])) is None
    assert find_single_target(collect_cells([dense])) is None


def test_dice_by_method__rows_by_falling_mean_with_their_seeds(rows: Study) -> None:
    drawn = draw_dice_by_method(collect_cells(rows.rows), "name", "note")
    labels = [text for text in words(drawn.data) if "(n = " in text]
    assert labels == ["taylor (n = 3)", "scratch of taylor (n = 3)", "random (n = 3)", "dense (n = 3)"]
    assert drawn.alt == (
        "Test Dice by method, the best first: dense 0.870 ± 0.010; taylor 0.840 ± 0.010; "
        "scratch of taylor 0.840 ± 0.010; random 0.740 ± 0.010."
    )


def test_dice_by_method__circles_lie_at_the_seeds_values(rows: Study) -> None:
    text = draw_dice_by_method(collect_cells(rows.rows), "name", "note").data.decode()
    marks = re.findall(r'<use xlink:href="#(\w+)" x="([\d.]+)" y="([\d.]+)"', text)
    groups = {key: [(float(x), float(y)) for one, x, y in marks if one == key] for key, _, _ in marks}
    # Three methods with three seeds each; nothing else is drawn nine times.
    (circles,) = [np.array(places) for places in groups.values() if len(places) == 9]
    dice = [offset + 0.01 * seed for offset in (0.83, 0.83, 0.73) for seed in range(3)]
    slope, start = np.polyfit(dice, circles[:, 0], 1)
    assert slope > 0
    assert circles[:, 0] == pytest.approx(slope * np.array(dice) + start, abs=0.01)
    assert len({*circles[:3, 1]}) == len({*circles[3:6, 1]}) == 1
    assert circles[0, 1] < circles[3, 1] < circles[6, 1]


def test_dice_by_method__other_numbers_of_epochs_are_other_rows() -> None:
    found = [result("d"), pruned("a", "taylor", 0, 0.8), pruned("b", "taylor", 0, 0.82, epochs=24)]
    labels = [text for text in words(draw_dice_by_method(collect_cells(found), "name", "note").data) if "(n = " in text]
    assert labels == ["taylor, 24 epochs (n = 1)", "taylor, 12 epochs (n = 1)", "dense (n = 1)"]
