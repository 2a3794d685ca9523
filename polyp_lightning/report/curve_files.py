"""Writes a study's curve as files of its own: a table that can be committed and drawn again, and a picture."""

from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.report.budget_curve import LEAST, group_curves, write_curve_png
from polyp_lightning.report.cells import SEED_METHOD
from polyp_lightning.report.comparing import read_scored_cells
from polyp_lightning.report.inputs import Curve, Study, read_source
from polyp_lightning.study.curve import build_curve, write_curve


def write_curve_files(paths: Sequence[Path], stem: Path) -> None:
    """Writes ``stem.csv`` and ``stem.png`` of the curves in folders of studies and in files of curves.

    Raises:
        ConfigError: there is no curve in them.
    """
    sources = [read_source(path) for path in paths]
    points = build_curve(*read_scored_cells([source for source in sources if isinstance(source, Study)]))
    points += [point for source in sources if isinstance(source, Curve) for point in source.points]
    if not group_curves(points):
        msg = (
            f"--curve {stem}: a curve needs the dense network and {SEED_METHOD} at {LEAST} budgets or more, of equal "
            "epochs and with the values of single images; name the folder of such a study"
        )
        raise ConfigError(msg)
    table, picture = stem.with_suffix(".csv"), stem.with_suffix(".png")
    write_curve(table, points)
    write_curve_png(points, picture)
    print(f"wrote {table} and {picture}")
