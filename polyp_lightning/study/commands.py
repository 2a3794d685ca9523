"""The commands that make a run of a study: existing verbs with their options, nothing of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from inspect import signature
from pathlib import Path
from typing import Any

from polyp_lightning.checkpoints.run_folder import best_checkpoint
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.names import is_own
from polyp_lightning.pruning.criteria import CRITERIA
from polyp_lightning.study.config import Outside
from polyp_lightning.study.plan import Cell, Study

_QUIET = {"trainer.enable_progress_bar": False}


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        name: unique in its run.
        arguments: the verb and its options.
        folder: where a ``fit`` leaves its checkpoints, so that it can go on after an interruption; None for others.
    """

    name: str
    arguments: list[str]
    folder: Path | None = None


def training_steps(study: Study, cell: Cell, folder: Path, sources: Mapping[str, Path]) -> list[Step]:
    """Returns the steps that train a run; the last step leaves the network to be tested in ``folder``.

    Args:
        study: its epochs and further options.
        cell: the run.
        folder: of the run.
        sources: the checkpoints of the cells that it needs, by id.
    """
    options = _options(study, cell) | _start(study, cell, sources)
    times, dense = study.times, {"pruning.target": 1.0}
    if cell.kind in ("parent", "dense"):
        return [_fit("fit", folder, options | dense)]
    if cell.kind == "scratch":
        origin = {"model.architecture_from": sources[cell.needs[0]]}
        return [_fit("fit", folder, options | dense | origin)]
    own = dict(cell.criterion.fit) if cell.criterion else {}
    if cell.schedule == "during":
        taught = {"model.distill_from": sources[cell.needs[0]]} if cell.distill else {}
        cuts = {"pruning.target": cell.target, "pruning.start": times.start, "pruning.end": times.end}
        return [_fit("fit", folder, options | cuts | _criterion(cell, "pruning.") | taught | own)]
    options |= dense | own
    if cell.criterion and cell.criterion.outside:
        return _outside(cell.criterion.outside, cell.target, folder, options)
    if study.parent:
        return _oneshot(cell, folder, options, sources[cell.needs[0]])
    before = folder / "before"
    first = _fit("before", before, options | {"trainer.max_epochs": times.oneshot})
    tail = {"trainer.max_epochs": times.epochs - times.oneshot}
    return [first, *_oneshot(cell, folder, options | tail, best_checkpoint_or_pattern(before))]


def _oneshot(cell: Cell, folder: Path, options: Mapping[str, Any], start: Path) -> list[Step]:
    """Cuts a checkpoint in one step, and trains it on."""
    pruned = folder / "pruned.ckpt"
    return [
        Step("prune", ["prune", *_flags(_prune_options(cell, start, pruned))]),
        _fit("fit", folder, {**options, **_from(pruned)}),
    ]


def _outside(other: Outside, target: float, folder: Path, options: Mapping[str, Any]) -> list[Step]:
    """Lets other software cut in the first epochs, and trains on what it leaves.

    The first step has no folder to go on in: a checkpoint's configuration may not name a stranger's class.
    """
    cut = folder / "before"
    told = {k: v.replace("{target}", f"{target:g}") if isinstance(v, str) else v for k, v in other.fit.items()}
    first = _fit("before", cut, {**options, "trainer.max_epochs": other.epochs, **told})
    tail = {"trainer.max_epochs": int(options["trainer.max_epochs"]) - other.epochs}
    last = cut / "checkpoints" / "last.ckpt"
    return [replace(first, folder=None), _fit("fit", folder, {**options, **tail, **_from(last)})]


def _start(study: Study, cell: Cell, sources: Mapping[str, Path]) -> dict[str, Any]:
    """Returns what makes a parent, and what starts from it; a training from scratch gets the epochs of both."""
    if study.parent is None:
        return {}
    if cell.kind in ("parent", "scratch"):
        return {"trainer.max_epochs": study.epochs_of(cell), **study.parent.fit}
    return _from(sources[cell.needs[0]])


def _from(checkpoint: Path) -> dict[str, Any]:
    return {"model.init_from": checkpoint, "model.encoder_weights": None}


def test_steps(cell: Cell, folder: Path) -> list[tuple[Step, Path]]:
    """Returns the steps that test a run and their scores' folders: on its own data set, then on others."""
    checkpoint = best_checkpoint(folder)
    workers = {key: cell.data.options[key] for key in ("num_workers", "batch_size") if key in cell.data.options}
    common = {"ckpt_path": checkpoint, **_naming(cell, "model.arch"), "trainer.logger": False, **_QUIET}
    cross = [({"name": name, **workers}, folder / "cross" / name) for name in cell.data.cross]
    return [
        (
            Step(
                f"test-{data['name']}",
                ["test", *_flags(common | _prefixed("data.", data) | {"trainer.default_root_dir": where})],
            ),
            where,
        )
        for data, where in [(cell.data.options, folder), *cross]
    ]


def resume_step(step: Step) -> Step:
    """Returns the step that resumes an interrupted one; the step itself where no checkpoint was written."""
    last = step.folder / "checkpoints" / "last.ckpt" if step.folder else None
    if last is None or not last.is_file():
        return step
    named = [flag for flag in step.arguments if flag.startswith("--model.arch=") and is_own(flag.partition("=")[2])]
    flags = _flags({"ckpt_path": last, "trainer.default_root_dir": step.folder})
    return Step(step.name, ["fit", *flags, *named], step.folder)


def _options(study: Study, cell: Cell) -> dict[str, Any]:
    """Returns the options of every ``fit`` of a cell; those of the configuration win."""
    net = cell.net
    return {
        "seed_everything": cell.seed,
        **_prefixed("data.", {"seed": cell.seed, **cell.data.options}),
        **{"model.arch": net.arch, **({"model.encoder": net.encoder} if net.encoder else {})},
        "model.encoder_weights": net.encoder_weights,
        **_prefixed("model.", net.options),
        "trainer.max_epochs": study.times.epochs,
        **_QUIET,
        **study.fit,
    }


def _criterion(cell: Cell, prefix: str) -> dict[str, Any]:
    """Returns the options of the criterion; one that draws random numbers draws others for each seed."""
    if cell.criterion is None:
        return {}
    options = dict(cell.criterion.options)
    if "seed" in signature(CRITERIA[cell.criterion.name]).parameters:
        options = {"seed": cell.seed} | options
    return {f"{prefix}criterion": cell.criterion.name, **({f"{prefix}options": options} if options else {})}


def _prune_options(cell: Cell, start: Path, output: Path) -> dict[str, Any]:
    data = cell.data.options
    found = {"ckpt_path": start, "target": cell.target, **_criterion(cell, "")}
    found |= {"data_root": data["root"]} if "root" in data else {}
    found |= _naming(cell, "arch")
    # Written again where a run was cut off after it.
    return {**found, "batch_size": data.get("batch_size", 8), "output": output, "overwrite": True}


def _naming(cell: Cell, option: str) -> dict[str, str]:
    """Names a network of the user's own, which a checkpoint does not import by itself."""
    return {option: cell.net.arch} if is_own(cell.net.arch) else {}


def best_checkpoint_or_pattern(folder: Path) -> Path:
    """The checkpoint of a training that is over, or how one still to come will be called."""
    try:
        return best_checkpoint(folder)
    except ConfigError:
        return folder / "checkpoints" / "stage….ckpt"


def _fit(name: str, folder: Path, options: Mapping[str, Any]) -> Step:
    return Step(name, ["fit", *_flags({**options, "trainer.default_root_dir": folder})], folder)


def _prefixed(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{key}": value for key, value in values.items()}


def _flags(options: Mapping[str, Any]) -> list[str]:
    """Writes options as the verbs take them: ``--name=value``, and ``--name.key=value`` for each of a table."""
    flags = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            flags += _flags({f"{name}.{key}": one for key, one in value.items()})
        else:
            flags.append(f"--{name}={_text(value)}")
    return flags


def _text(value: Any) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
