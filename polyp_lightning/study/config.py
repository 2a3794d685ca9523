"""Reads and checks a study's configuration: networks, data sets, criteria, targets, seeds, controls and epochs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyp_lightning.common.errors import ConfigError, nearest
from polyp_lightning.data.sets import DATASETS, check_choice
from polyp_lightning.networks.build import check_names
from polyp_lightning.networks.names import is_own
from polyp_lightning.pruning.criteria import build_criterion

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Net:
    """A network by the name that it has in the study; ``options`` are further ones of the model.

    A network of the user's own, ``arch: package.module.Class``, has no encoder.
    """

    key: str
    arch: str
    encoder: str
    encoder_weights: str | None = None
    options: Values = field(default_factory=dict)


@dataclass(frozen=True)
class Data:
    """A data set: its name in the study, the datamodule's options, and others that its networks are also tested on."""

    key: str
    options: Values
    cross: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outside:
    """A cut that other software makes in the first ``epochs`` of a run's epochs, told by further options of ``fit``.

    Such as a callback's; ``{target}`` in a value stands for the share of the MACs to keep.
    """

    epochs: int
    fit: Values


@dataclass(frozen=True)
class StudyCriterion:
    """A criterion with its options: by its name in the study, and in ``--pruning.criterion``.

    Attributes:
        fit: further options of its runs' ``fit``, such as ``pruning.allocation``.
        targets: its own; None for those of the study.
        outside: other software that cuts in place of this project's callback; None for a criterion of its own.
    """

    key: str
    name: str
    options: Values = field(default_factory=dict)
    fit: Values = field(default_factory=dict)
    targets: tuple[float, ...] | None = None
    outside: Outside | None = None


@dataclass(frozen=True)
class Parent:
    """The dense network of a seed from which its other runs start: its epochs, and further options of its ``fit``."""

    epochs: int
    fit: Values = field(default_factory=dict)


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
class StudyConfig:
    """What a configuration lists; the plan makes a run of each combination.

    ``targets`` are shares of the dense MACs, ``controls`` the names of criteria that get further runs, by the kind of
    control. ``fit`` holds further options of every ``fit``. With a ``parent``, a run is what happens to that network in
    ``times``; without one, each trains from the start. The backend with its threads measures milliseconds.
    """

    nets: list[Net]
    data: list[Data]
    criteria: Mapping[str, StudyCriterion]
    targets: list[float]
    seeds: list[int]
    controls: Values
    times: Times
    fit: Values
    backend: str
    threads: int
    parent: Parent | None = None


_KEYS = ("nets", "data", "criteria", "targets", "seeds", "controls", "parent", "epochs", "fit", "time")
_CONTROLS = ("scratch", "oneshot", "distill")


def read_config(path: Path, weights: Mapping[str, str] | None = None) -> StudyConfig:
    """Reads a study's configuration; ``weights`` (encoder → file) take the place of published ``imagenet`` weights.

    Raises:
        ConfigError: the file can't be read, or one of its names or values is not allowed.
    """
    values = _read_values(path)
    criteria = {
        key: _criterion(key, _table(f"criteria.{key}", one, ("criterion", "options", "fit", "targets", "outside")))
        for key, one in values["criteria"].items()
    }
    controls = _table("controls", values.get("controls"), _CONTROLS)
    for control, keys in controls.items():
        for key in keys or ():
            _known(f"controls.{control}", str(key), criteria)
    time = _table("time", values.get("time"), ("backend", "threads"))
    times = _times(_table("epochs", values["epochs"], _fields(Times)))
    _check_outside(criteria, times, controls)
    return StudyConfig(
        nets=[
            _net(key, _table(f"nets.{key}", one, _fields(Net)), weights or {}) for key, one in values["nets"].items()
        ],
        data=[_data(key, one) for key, one in values["data"].items()],
        criteria=criteria,
        targets=_targets("targets", values["targets"]),
        seeds=[int(_number("seeds", seed, lambda s: s >= 0 and s == int(s), "0, 1, 2 …")) for seed in values["seeds"]],
        controls=controls,
        times=times,
        fit=dict(values.get("fit") or {}),
        backend=time.get("backend", "torch"),
        threads=time.get("threads", 1),
        parent=_parent(values["parent"]) if values.get("parent") else None,
    )


def _read_values(path: Path) -> dict[str, Any]:
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
    return values


def _net(key: str, values: Values, weights: Mapping[str, str]) -> Net:
    encoder = "" if is_own(str(values.get("arch", ""))) else "resnet18"
    net = Net(**{"arch": "Unet", "encoder": encoder, **values, "key": _key("nets", key)})
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


def _criterion(key: str, values: Values) -> StudyCriterion:
    where, fit = f"criteria.{key}", dict(values.get("fit") or {})
    own = tuple(_targets(f"{where}.targets", values["targets"])) if values.get("targets") else None
    if values.get("outside"):
        given = _table(f"{where}.outside", values["outside"], _fields(Outside))
        outside = Outside(_epochs(f"{where}.outside", given), dict(given.get("fit") or {}))
        return StudyCriterion(_key("criteria", key), key, {}, fit, own, outside)
    options = dict(values.get("options") or {})
    criterion = StudyCriterion(_key("criteria", key), values.get("criterion", key), options, fit, own)
    build_criterion(criterion.name, **criterion.options)
    return criterion


def _check_outside(criteria: Mapping[str, StudyCriterion], times: Times, controls: Values) -> None:
    """Other software needs epochs in which to cut, and has no other way to cut than its own."""
    for key, criterion in criteria.items():
        if criterion.outside and not criterion.outside.epochs < times.epochs:
            msg = f"criteria.{key}.outside: of {times.epochs} epochs, {criterion.outside.epochs} leave none to train on"
            raise ConfigError(msg)
        odd = [control for control, keys in controls.items() if criterion.outside and key in (keys or ())]
        if odd:
            msg = f"controls.{odd[0]}: {key} is cut by other software, for which there are no controls; leave it out"
            raise ConfigError(msg)


def _parent(values: Any) -> Parent:
    given = _table("parent", values, _fields(Parent))
    return Parent(_epochs("parent", given), dict(given.get("fit") or {}))


def _epochs(where: str, values: Values) -> int:
    return int(_number(f"{where}.epochs", values.get("epochs"), lambda n: n >= 1 and n == int(n), "1, 2, 3 …"))


def _targets(where: str, values: Any) -> list[float]:
    return [_number(where, target, lambda t: 0 < t < 1, "above 0 and below 1") for target in values]


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
    """Checks a name that becomes part of a folder's name."""
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
