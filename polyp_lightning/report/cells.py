"""A study's cells, the runs that differ in their seed alone, in the order of a report."""

from collections.abc import Iterable, Sequence

from polyp_lightning.study.replicates import DENSE, Replicates, Setting, group_seeds
from polyp_lightning.study.results import Result

SEED_METHOD = "taylor"
"""TaylorFO with gradient-normalised back-propagation, pruning while training: what the report asks about."""


def collect_cells(rows: Iterable[Result]) -> list[Replicates]:
    """Collects rows over seeds: by setting as they are read, by method, falling target and epochs."""
    made = group_seeds(rows)
    # A run's own test set is written before the others that its network is tested on.
    settings = list(dict.fromkeys(cell.setting for cell in made))

    def order(cell: Replicates) -> tuple[int, int, str, float, int]:
        return settings.index(cell.setting), _rank(cell.method), cell.method, -cell.target, cell.epochs

    return sorted(made, key=order)


def _rank(method: str) -> int:
    """Ranks methods: dense, what is asked about, its variants, the other criteria, training from scratch."""
    if method.startswith("scratch"):
        return 4
    return [DENSE, SEED_METHOD].index(method) if method in (DENSE, SEED_METHOD) else 3 - method.startswith(SEED_METHOD)


def group_by_setting(found: Sequence[Replicates]) -> dict[Setting, list[Replicates]]:
    """Groups the cells by setting; the settings with most runs first, else in order."""
    groups: dict[Setting, list[Replicates]] = {}
    for cell in found:
        groups.setdefault(cell.setting, []).append(cell)
    return dict(sorted(groups.items(), key=lambda item: -sum(len(cell.rows) for cell in item[1])))


def find_target(group: Sequence[Replicates], method: str, wanted: float) -> Replicates | None:
    """Finds the cell of a method whose target is nearest to ``wanted``; None where the method was not run.

    Of several with other numbers of epochs, the one with most seeds.
    """
    own = [cell for cell in group if cell.method == method]
    return min(own, key=lambda cell: (abs(cell.target - wanted), -len(cell.rows)), default=None)
