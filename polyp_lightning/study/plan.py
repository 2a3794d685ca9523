"""From a study's configuration to its cells: one training run each, with a name that never changes."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyp_lightning.common.errors import ConfigError, join_names, nearest
from polyp_lightning.data.sets import DATASETS, check_choice
from polyp_lightning.networks.build import check_names
from polyp_lightning.pruning.criteria import build_criterion
from polyp_lightning.study.results import Kind

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Net:
    """A network by the name that it has in the study."""

    key: str
    arch: str
    encoder: str
    encoder_weights: str | None = None


@dataclass(frozen=True)
class Data:
    """A data set by the name that it has in the study.

    Attributes:
        key: that name.
        options: of the datamodule, ``name`` among them.
        cross: other data sets that its networks are also tested on.
    """

    key: str
    options: Values
    cross: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judge:
    """A criterion with its options by the name that it has in the study."""

    key: str
    criterion: str
    options: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Times:
    """How long runs train: ``epochs`` in all, cuts from the start of epoch ``start`` to that of ``end``.

    ``oneshot`` is the number of epochs before the cut of a one-shot run; the rest of ``epochs`` fine-tune.
    """

    epochs: int
    start: int
    end: int
    oneshot: int


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        id: its name, also that of its folder.
        kind: dense, pruned or scratch.
        net: the network.
        data: trained on.
        judge: criterion; None for dense.
        schedule: during, oneshot, or empty.
        distill: whether the dense network of the same seed teaches.
        target: share of the dense MACs; 1 for dense.
        seed: of weights, order and augmentation.
        needs: the ids of cells whose checkpoints it starts from or is taught by.
    """

    id: str
    kind: Kind
    net: Net
    data: Data
    judge: Judge | None
    schedule: str
    distill: bool
    target: float
    seed: int
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A study as its configuration describes it.

    Attributes:
        cells: in the order in which they run; what a cell needs comes before it.
        times: epochs.
        fit: further options of every ``fit``, by name.
        backend: what measures milliseconds.
        threads: of that backend.
    """

    cells: list[Cell]
    times: Times
    fit: Values
    backend: str
    threads: int

    def only(self, pattern: str | None) -> list[Cell]:
        """The cells whose id matches a shell pattern, such as ``*taylor*``.

        Raises:
            ConfigError: none does.
        """
        found = [cell for cell in self.cells if pattern is None or fnmatchcase(cell.id, pattern)]
        if not found:
            ids = join_names([cell.id for cell in self.cells])
            msg = f"--only {pattern} matches none of the study's runs: {ids}; a part of a name needs stars around it"
            raise ConfigError(msg)
        return found


_KEYS = ("nets", "data", "criteria", "targets", "seeds", "controls", "epochs", "fit", "time")
_CONTROLS = ("scratch", "oneshot", "distill")


def read_study(path: Path, weights: Mapping[str, str] | None = None) -> Study:
    """A study's configuration.

    Args:
        path: the YAML file.
        weights: encoder → file, in place of published ``imagenet`` weights.

    Raises:
        ConfigError: the file can't be read, or one of its names or values is none.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"--config {path} can't be read: {error}"
        raise ConfigError(msg) from error
    values = _table("the configuration", content, _KEYS)
    missing = [key for key in ("nets", "data", "criteria", "targets", "seeds", "epochs") if not values.get(key)]
    if missing:
        msg = f"--config {path} has no {', '.join(missing)}"
        raise ConfigError(msg)
    nets = [_net(key, _table(f"nets.{key}", one, _fields(Net)), weights or {}) for key, one in values["nets"].items()]
    data = [_data(key, one) for key, one in values["data"].items()]
    judges = {
        key: _judge(key, _table(f"criteria.{key}", one, _fields(Judge))) for key, one in values["criteria"].items()
    }
    controls = _table("controls", values.get("controls"), _CONTROLS)
    for control, keys in controls.items():
        for key in keys or ():
            _known(f"controls.{control}", str(key), judges)
    targets = [_number("targets", target, lambda t: 0 < t < 1, "above 0 and below 1") for target in values["targets"]]
    seeds = [int(_number("seeds", seed, lambda s: s >= 0 and s == int(s), "0, 1, 2 …")) for seed in values["seeds"]]
    cells = [
        cell
        for net in nets
        for one in data
        for seed in seeds
        for cell in _cells(_Block(net, one, seed), judges, targets, controls)
    ]
    time = _table("time", values.get("time"), ("backend", "threads"))
    times = _times(_table("epochs", values["epochs"], _fields(Times)))
    return Study(cells, times, dict(values.get("fit") or {}), time.get("backend", "torch"), time.get("threads", 1))


@dataclass(frozen=True)
class _Block:
    """What the runs of one seed share."""

    net: Net
    data: Data
    seed: int

    def cell(self, what: str, kind: Kind, judge: Judge | None, target: float, **more: Any) -> Cell:
        schedule, distill = more.pop("schedule", ""), more.pop("distill", False)
        share = "" if kind == "dense" else f"_{target:g}"
        name = f"{self.net.key}_{self.data.key}_{what}{share}_s{self.seed}"
        return Cell(name, kind, self.net, self.data, judge, schedule, distill, target, self.seed, **more)


def _cells(block: _Block, judges: Mapping[str, Judge], targets: Sequence[float], controls: Values) -> Iterator[Cell]:
    """The runs of one network, data set and seed."""
    dense = block.cell("dense", "dense", None, 1.0)
    yield dense
    for target in targets:
        during = {key: block.cell(key, "pruned", judge, target, schedule="during") for key, judge in judges.items()}
        yield from during.values()
        for key in controls.get("scratch") or ():
            # A narrow network does not fit its encoder's published weights.
            bare = replace(block, net=replace(block.net, encoder_weights=None))
            yield bare.cell(f"scratch-{key}", "scratch", judges[key], target, needs=(during[key].id,))
        for key in controls.get("oneshot") or ():
            yield block.cell(f"oneshot-{key}", "pruned", judges[key], target, schedule="oneshot")
        for key in controls.get("distill") or ():
            taught: dict[str, Any] = {"schedule": "during", "distill": True, "needs": (dense.id,)}
            yield block.cell(f"distill-{key}", "pruned", judges[key], target, **taught)


def _net(key: str, values: Values, weights: Mapping[str, str]) -> Net:
    net = Net(**{"arch": "Unet", "encoder": "resnet18", **values, "key": _key("nets", key)})
    check_names(net.arch, net.encoder)
    if net.encoder_weights != "imagenet" or net.encoder not in weights:
        return net
    return replace(net, encoder_weights=weights[net.encoder])


def _data(key: str, values: Any) -> Data:
    where = f"data.{key}"
    options = dict(values) if isinstance(values, Mapping) else {}
    name = options.setdefault("name", key)
    cross = tuple(options.pop("cross", None) or ())
    for one in (name, *cross):
        _known(where, str(one), DATASETS)
    check_choice(name, options.get("split"))
    return Data(_key("data", key), options, cross)


def _judge(key: str, values: Values) -> Judge:
    judge = Judge(_key("criteria", key), values.get("criterion", key), dict(values.get("options") or {}))
    build_criterion(judge.criterion, **judge.options)
    return judge


def _times(values: Values) -> Times:
    lacking = [name for name in ("epochs", "start", "end") if name not in values]
    if lacking:
        msg = f"epochs has no {', '.join(lacking)}; it needs epochs: {{epochs: 12, start: 3, end: 6}}"
        raise ConfigError(msg)
    times = Times(**{"oneshot": values["end"], **values})
    if not 0 < times.start <= times.end < times.epochs or not 0 < times.oneshot < times.epochs:
        cuts = f"start {times.start}, end {times.end}, oneshot {times.oneshot}"
        msg = f"epochs: {times.epochs}, {cuts}: the cuts must lie inside, start before end"
        raise ConfigError(msg)
    return times


def _table(where: str, values: Any, known: Collection[str]) -> dict[str, Any]:
    if values is not None and not isinstance(values, Mapping):
        msg = f"{where} must be a table of {', '.join(known)}, got {values!r}"
        raise ConfigError(msg)
    for key in values or ():
        _known(where, str(key), known)
    return dict(values or {})


def _known(where: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        msg = f"{where}: {name!r} is unknown. {nearest(name, known)}"
        raise ConfigError(msg)


def _key(where: str, key: Any) -> str:
    """A name that can be part of a folder's."""
    if not str(key).replace("-", "").replace("_", "").replace(".", "").isalnum():
        msg = f"{where}: the name {key!r} must consist of letters, digits, '-', '_' and '.'"
        raise ConfigError(msg)
    return str(key)


def _number(where: str, value: Any, holds: Callable[[float], bool], allowed: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not holds(value):
        msg = f"{where}: {value!r} must be {allowed}"
        raise ConfigError(msg)
    return float(value)


def _fields(kind: type[Any]) -> list[str]:
    return [name for name in kind.__dataclass_fields__ if name != "key"]
