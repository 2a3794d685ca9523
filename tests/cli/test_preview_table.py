"""The tables that the verb ``prune`` shows."""

from io import StringIO

import pytest
from rich.console import Console

from polyp_lightning.cli.preview_table import build_frozen_table, build_preview_table
from polyp_lightning.pruning.budget.preview import Preview, PreviewRow
from polyp_lightning.pruning.graph import FrozenLayer
from polyp_lightning.pruning.labels import Cause


def test_build_frozen_table__one_row_for_each_cause_those_of_most_filters_first() -> None:
    norm, expand = Cause("native_layer_norm", "norm", "net.py:3"), Cause("expand", "", "net.py:7")
    table = build_frozen_table(
        [FrozenLayer("a", 4, 8, norm), FrozenLayer("b", 3, 3, expand), FrozenLayer("c", 3, 3, expand)]
    )
    assert [list(column.cells) for column in table.columns] == [
        ["6", "4"],
        ["b and 1 more", "a"],
        ["expand (net.py:7)", "native_layer_norm in norm (net.py:3)"],
    ]


@pytest.mark.parametrize(
    ("name", "width", "bar"),
    [
        ("encoder.layer1.0.conv1", 80, "███···"),
        ("encoder.layer1.0.conv1", 120, "██████······"),
        ("encoder.model.blocks.5.2.pwl", 80, ""),
    ],
)
def test_build_preview_table__names_stay_whole(name: str, width: int, bar: str) -> None:
    row = PreviewRow(name, 2560, 1280, 0.0479, (12.4e6, 123.4e3))
    preview = Preview((row,), ("MACs", "parameters"), (337e6, 14.3e6), (169e6, 1.6e6))
    out = StringIO()
    Console(file=out, width=width).print(build_preview_table(preview, width))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    (line,) = (line for line in lines if name in line)
    assert line.split() == [name, *([bar] if bar else []), "2560", "→", "1280", "0.0479", "12.4", "M", "123", "k"]
    assert any(
        line.split() == ["total", "2560", "→", "1280", "0.0479", "of", "337", "M", "of", "14.3", "M"] for line in lines
    )
