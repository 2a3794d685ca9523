"""The tables that the verb ``prune`` shows."""

from polyp_lightning.cli.preview_table import build_frozen_table
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
