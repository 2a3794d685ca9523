"""How a run starts, by name: from ImageNet weights, from a checkpoint, or by going on with an interrupted run.

- ``--model.encoder_weights imagenet|FILE``: a new run with a pretrained encoder.
- ``--model.init_from FILE``: a new run with the weights and widths of a checkpoint, and nothing else of it.
- ``--model.architecture_from FILE``: a new run with the widths of a checkpoint and random weights.
- ``--ckpt_path FILE|last``: goes on with a run: weights, widths, optimizer, schedules, scores, random numbers.
- ``--ckpt_path … --model.resume_optimizer false``: the same with the optimizer and its learning-rate schedule afresh.

Everything here works on the command line as text, before any of it is parsed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyp_lightning.checkpoints.record import read_record
from polyp_lightning.common.errors import ConfigError, listed

CONFIG_FILE = "config.yaml"
LAST = "last"
_RUNS = Path("runs")
_LAST_FILE = Path("checkpoints") / "last.ckpt"

# Options that name a class to be imported and called, and whose classes a configuration may name on its own.
_IMPORTING = {
    "class_path",
    "optimizer",
    "lr_scheduler",
    "accelerator",
    "strategy",
    "logger",
    "callbacks",
    "profiler",
    "plugins",
}
_KNOWN = re.compile(
    r"(polyp_lightning(\.[a-z_]+){0,2}|torch\.optim(\.[a-z_]+)?|lightning\.pytorch\.(callbacks|loggers)(\.[a-z_]+)?)\.[A-Z]\w*"
)
# These call any function that they are given the name of.
_CALLERS = ("Lambda", "Multiplicative", "ModelPruning", "Finetuning", "WeightAveraging", "StochasticWeight")

# Options that begin a new run from a checkpoint.
_NEW_FROM = ("--model.init_from", "--model.architecture_from")
# What only the checkpoint decides when a run goes on with its optimizer, and how to decide otherwise.
_OF_THE_OPTIMIZER = ("model.lr", "model.optimizer", "model.lr_scheduler")
# Differences that mean nothing: how a run starts, and where it runs.
_OF_THE_START = (
    "model.encoder_weights",
    "model.init_from",
    "model.architecture_from",
    "model.resume_optimizer",
    "ckpt_path",
    "weights_only",
    "config",
)


@dataclass(frozen=True)
class Start:
    """What the command line is to be completed with.

    Attributes:
        arguments: the whole command line, with a checkpoint's settings ahead of the user's own, which win.
        settings: the checkpoint's settings by option, such as ``data.image_size``; what to compare the result with.
    """

    arguments: list[str]
    settings: dict[str, Any] = field(default_factory=dict)


def started(arguments: Sequence[str]) -> Start:
    """Completes a command line with the settings of the checkpoint that it names.

    Args:
        arguments: the verb and its options.

    Raises:
        ConfigError: there is no such checkpoint, it can't be trusted, or two starts are asked for at once.
    """
    arguments = list(arguments)
    checkpoint = option(arguments, "--ckpt_path")
    given = ((flag, option(arguments, flag)) for flag in _NEW_FROM)
    origins = {flag: path for flag, path in given if path not in (None, "null")}
    if checkpoint is None:
        network = [text for flag, path in origins.items() for text in _network_flags(str(path), flag)]
        return Start([arguments[0], *network, *arguments[1:]])
    if origins:
        new = next(iter(origins))
        msg = f"--ckpt_path goes on with a run, {new} begins a new one from a checkpoint; give one of them"
        raise ConfigError(msg)
    path = last_checkpoint(option(arguments, "--trainer.default_root_dir")) if checkpoint == LAST else Path(checkpoint)
    flags = read_record(path).flags()
    arguments += ["--ckpt_path", str(path)] if checkpoint == LAST else []
    config = path.parent.parent / CONFIG_FILE
    if arguments[0] == "fit" and config.is_file() and option(arguments, "--config") is None:
        settings = flat(trusted(config))
        # Going on needs all of them, schedule and optimizer too; the weights come from the checkpoint.
        inherited = ["--config", str(config), *(f"{flag}=null" for flag in ("--model.encoder_weights", *_NEW_FROM))]
        return Start([arguments[0], *inherited, *arguments[1:]], settings)
    if option(arguments, "--data.name") is not None:
        # Other data have other splits.
        flags = [flag for flag in flags if not flag.startswith("--data.split")]
    named = (flag.removeprefix("--").partition("=") for flag in flags)
    return Start([arguments[0], *flags, *arguments[1:]], {name: value for name, _, value in named})


def option(arguments: Sequence[str], flag: str) -> str | None:
    """The value of a flag on a command line, the last one given; None where it is not given.

    >>> option(["fit", "--ckpt_path=a.ckpt"], "--ckpt_path")
    'a.ckpt'
    """
    found = None
    for here, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if here == flag or here.startswith(f"{flag}="):
            found = following if here == flag else here.partition("=")[2]
    return found


def last_checkpoint(folder: str | None) -> Path:
    """What ``--ckpt_path last`` means.

    Args:
        folder: the run's folder (``--trainer.default_root_dir``); None for the run below ``runs/`` that wrote its
            ``last.ckpt`` most recently.

    Raises:
        ConfigError: there is none yet.
    """
    if folder is not None:
        found = [Path(folder).expanduser() / _LAST_FILE]
    else:
        found = [run / _LAST_FILE for run in _RUNS.iterdir()] if _RUNS.is_dir() else []
    found = [path for path in found if path.is_file()]
    if not found:
        where = folder or f"any folder below {_RUNS}"
        msg = (
            f"--ckpt_path last: there is no {_LAST_FILE} in {where}; a run writes its first one at the end of its "
            "first epoch, so start it without --ckpt_path, or name a checkpoint"
        )
        raise ConfigError(msg)
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def trusted(config: Path) -> dict[str, Any]:
    """A configuration that lies beside a checkpoint, if using it can't run a stranger's code.

    Raises:
        ConfigError: it is no configuration, or it names a class other than this project's, torch's optimizers or
            Lightning's callbacks and loggers.
    """
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        msg = f"{config} can't be read: {error}; give the run's options yourself with --config"
        raise ConfigError(msg) from error
    if not isinstance(content, dict):
        msg = f"{config} is not a configuration; give the run's options yourself with --config"
        raise ConfigError(msg)
    strange = sorted({name for name in _classes(content) if not _is_known(name)})
    if strange:
        msg = (
            f"{config} lies beside the checkpoint and would import {listed(strange)}, which is neither of this project "
            f"nor of torch.optim; if you trust it, say so with --config {config}"
        )
        raise ConfigError(msg)
    return content


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by a dot, as options are written.

    >>> flat({"data": {"name": "kvasir"}, "seed_everything": 0})
    {'data.name': 'kvasir', 'seed_everything': 0}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def disagreements(settings: Mapping[str, Any], config: Mapping[str, Any], *, resumes: bool) -> list[str]:
    """One line for each option on which a checkpoint's run and the command line differ, saying which wins.

    Args:
        settings: what the checkpoint's run had, by option.
        config: what the command line came to, by option.
        resumes: whether training goes on, and with it the optimizer.
    """
    keeps = resumes and config.get("model.resume_optimizer", True)
    lines = []
    for name, stored in settings.items():
        given = config.get(name)
        if name.startswith(_OF_THE_START) or str(given) == str(stored) or (given is None and name not in config):
            continue
        if keeps and name.startswith(_OF_THE_OPTIMIZER):
            winner = "the checkpoint wins, its optimizer goes on (--model.resume_optimizer false starts it afresh)"
        else:
            winner = "the flag wins"
        lines.append(f"--{name}: {stored} in the checkpoint, {given} on the command line; {winner}")
    return lines


def _network_flags(path: str, flag: str) -> list[str]:
    flags = read_record(Path(path).expanduser(), flag).flags()
    return [flag for flag in flags if flag.startswith(("--model.arch=", "--model.encoder=", "--model.arch_options="))]


def _classes(content: Any, key: str = "") -> Iterator[str]:
    """Every string of a configuration that could be imported."""
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _classes(value, str(name))
    elif isinstance(content, list):
        for value in content:
            yield from _classes(value, key)
    elif isinstance(content, str) and key in _IMPORTING and "." in content:
        yield content


def _is_known(name: str) -> bool:
    return _KNOWN.fullmatch(name) is not None and not any(caller in name for caller in _CALLERS)
