"""The plan of a study: its list of cells, one training run each, with a name that never changes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from polyp_lightning.common.errors import ConfigError, join_names
from polyp_lightning.study.config import Data, Net, StudyConfig, StudyCriterion, read_config
from polyp_lightning.study.results import Kind


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        id: its name, also that of its folder.
        criterion: None for dense.
        schedule: during, oneshot, outside (cut by other software), or empty.
        distill: whether the dense network of the same seed teaches.
        target: share of the dense MACs; 1 for dense.
        seed: of weights, order and augmentation.
        needs: the ids of cells whose checkpoints it starts from or is taught by; with a parent of its seed, that one
            but for the control ``scratch``.
    """

    id: str
    kind: Kind
    net: Net
    data: Data
    criterion: StudyCriterion | None
    schedule: str
    distill: bool
    target: float
    seed: int
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study(StudyConfig):
    """A configuration with its cells in the order in which they run, after what they need."""

    cells: list[Cell] = field(default_factory=list)

    def epochs_of(self, cell: Cell) -> int:
        """Returns the epochs of a run in all, those of the parent that it starts from included."""
        before = self.parent.epochs if self.parent else 0
        return before if cell.kind == "parent" else before + self.times.epochs

    def only(self, pattern: str | None) -> list[Cell]:
        """Returns the cells whose id matches a shell pattern, such as ``*taylor*``.

        Raises:
            ConfigError: none does.
        """
        found = [cell for cell in self.cells if pattern is None or fnmatchcase(cell.id, pattern)]
        if not found:
            ids = join_names([cell.id for cell in self.cells])
            msg = f"--only {pattern} matches none of the study's runs: {ids}; a part of a name needs stars around it"
            raise ConfigError(msg)
        return found


def read_study(path: Path, weights: Mapping[str, str] | None = None) -> Study:
    """Reads a study's configuration and plans its cells; see :func:`~polyp_lightning.study.config.read_config`."""
    config = read_config(path, weights)
    cells = [
        cell
        for net in config.nets
        for data in config.data
        for seed in config.seeds
        for cell in _cells(_Block(net, data, seed), config)
    ]
    return Study(**vars(config), cells=cells)


@dataclass(frozen=True)
class _Block:
    """What the runs of one seed share."""

    net: Net
    data: Data
    seed: int

    def cell(self, what: str, kind: Kind, criterion: StudyCriterion | None, target: float, **more: Any) -> Cell:
        schedule, distill = more.pop("schedule", ""), more.pop("distill", False)
        share = "" if criterion is None else f"_{target:g}"
        name = f"{self.net.key}_{self.data.key}_{what}{share}_s{self.seed}"
        return Cell(name, kind, self.net, self.data, criterion, schedule, distill, target, self.seed, **more)


def _cells(block: _Block, config: StudyConfig) -> Iterator[Cell]:
    """Yields the runs of one network, data set and seed."""
    parent = block.cell("parent", "parent", None, 1.0) if config.parent else None
    start: dict[str, Any] = {"needs": (parent.id,)} if parent else {}
    dense = block.cell("dense", "dense", None, 1.0, **start)
    yield from [parent, dense] if parent else [dense]
    own = [target for criterion in config.criteria.values() for target in criterion.targets or ()]
    for target in dict.fromkeys([*config.targets, *own]):
        criteria = {
            key: one
            for key, one in config.criteria.items()
            if target in (config.targets if one.targets is None else one.targets)
        }
        during = {
            key: block.cell(key, "pruned", one, target, schedule="outside" if one.outside else "during", **start)
            for key, one in criteria.items()
        }
        yield from during.values()
        controls = {name: [key for key in keys or () if key in criteria] for name, keys in config.controls.items()}
        for key in controls.get("scratch", ()):
            # A narrow network does not fit its encoder's published weights.
            bare = replace(block, net=replace(block.net, encoder_weights=None))
            yield bare.cell(f"scratch-{key}", "scratch", config.criteria[key], target, needs=(during[key].id,))
        for key in controls.get("oneshot", ()):
            yield block.cell(f"oneshot-{key}", "pruned", config.criteria[key], target, schedule="oneshot", **start)
        for key in controls.get("distill", ()):
            taught: dict[str, Any] = {"schedule": "during", "distill": True, "needs": ((parent or dense).id,)}
            yield block.cell(f"distill-{key}", "pruned", config.criteria[key], target, **taught)
