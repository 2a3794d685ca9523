"""Completes a command line with the settings of the checkpoint that it names.

- ``--model.encoder_weights imagenet|FILE``: a new run with a pretrained encoder.
- ``--model.init_from FILE``: a new run with the weights and widths of a checkpoint, and nothing else of it.
- ``--model.architecture_from FILE``: a new run with the widths of a checkpoint and random weights.
- ``--ckpt_path FILE|last``: goes on with a run: weights, widths, optimizer, schedules, scores, random numbers.
- ``--ckpt_path auto``: goes on with the run in ``--trainer.default_root_dir``, or begins it where it has no
  ``last.ckpt`` yet: one command for a job that is started again after a failure.
- ``--ckpt_path … --model.resume_optimizer false``: the same with the optimizer and its learning-rate schedule afresh.

Everything here works on the command line's text, before any of it is parsed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from polyp_lightning.checkpoints.record import read_record
from polyp_lightning.cli.moved_classes import use_new_names
from polyp_lightning.cli.parsing import find_option
from polyp_lightning.cli.trusted_config import read_trusted
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.names import check_named

CONFIG_FILE = "config.yaml"
LAST = "last"
AUTO = "auto"
_RUNS = Path("runs")
LAST_FILE = Path("checkpoints") / "last.ckpt"

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
    """A completed command line.

    Attributes:
        arguments: the whole command line, with a checkpoint's settings ahead of the user's own, which win.
        settings: the checkpoint's settings by option, such as ``data.image_size``; what to compare the result with.
    """

    arguments: list[str]
    settings: dict[str, Any] = field(default_factory=dict)


def complete_command(arguments: Sequence[str]) -> Start:
    """Completes a command line with the settings of the checkpoint that it names.

    Raises:
        ConfigError: there is no such checkpoint, it can't be trusted, or two starts are asked for at once.
    """
    arguments = [use_new_names(argument) for argument in arguments]
    if arguments[0] == "fit" and find_option(arguments, "--ckpt_path") == AUTO:
        arguments += _choose_start(find_option(arguments, "--trainer.default_root_dir"))
    checkpoint = find_option(arguments, "--ckpt_path")
    given = ((flag, find_option(arguments, flag)) for flag in _NEW_FROM)
    origins = {flag: path for flag, path in given if path not in (None, "null")}
    if checkpoint in (None, "null"):
        named = find_named(arguments)
        network = [text for flag, path in origins.items() for text in _network_flags(str(path), flag, named)]
        return Start([arguments[0], *network, *arguments[1:]])
    if origins:
        new = next(iter(origins))
        msg = f"--ckpt_path goes on with a run, {new} begins a new one from a checkpoint; give one of them"
        raise ConfigError(msg)
    if checkpoint == LAST:
        checkpoint = str(find_last_checkpoint(find_option(arguments, "--trainer.default_root_dir")))
        arguments += ["--ckpt_path", checkpoint]
    return _complete_from(Path(checkpoint), arguments)


def _choose_start(folder: str | None) -> list[str]:
    """Returns the options that ``--ckpt_path auto`` means: go on, or begin where there is no checkpoint yet."""
    if folder is None:
        msg = (
            "--ckpt_path auto goes on with a run where it has begun, and needs to know which: give its folder with "
            "--trainer.default_root_dir"
        )
        raise ConfigError(msg)
    last = Path(folder).expanduser() / LAST_FILE
    return (
        ["--ckpt_path", str(last), *(f"{flag}=null" for flag in _NEW_FROM)] if last.is_file() else ["--ckpt_path=null"]
    )


def _complete_from(checkpoint: Path, arguments: list[str]) -> Start:
    """Puts a checkpoint's settings, or those of the configuration beside it, ahead of the user's own."""
    record, named = read_record(checkpoint), find_named(arguments)
    check_named(record.arch, named)
    flags = record.flags()
    config = checkpoint.parent.parent / CONFIG_FILE
    if arguments[0] == "fit" and config.is_file() and find_option(arguments, "--config") is None:
        settings = flatten(read_trusted(config, named))
        # Going on needs all of them, schedule and optimizer too; the weights come from the checkpoint.
        inherited = ["--config", str(config), *(f"{flag}=null" for flag in ("--model.encoder_weights", *_NEW_FROM))]
        return Start([arguments[0], *inherited, *arguments[1:]], settings)
    if find_option(arguments, "--data.name") is not None:
        # Other data have other splits and masks.
        flags = [flag for flag in flags if not flag.startswith(("--data.split", "--data.mask_colours"))]
    pairs = (flag.removeprefix("--").partition("=") for flag in flags)
    return Start([arguments[0], *flags, *arguments[1:]], {name: value for name, _, value in pairs})


def find_named(arguments: Sequence[str]) -> list[str]:
    """Returns the networks that the user names, on the command line or in a configuration of the user's."""
    named = [find_option(arguments, "--model.arch")]
    given = find_option(arguments, "--config")
    if given is not None and Path(given).is_file():
        try:
            model = yaml.safe_load(Path(given).read_text(encoding="utf-8"))["model"]
            named.append(model["arch"])
        except (ValueError, KeyError, TypeError, yaml.YAMLError):
            # The parser will say what is wrong with it.
            pass
    return [name for name in named if isinstance(name, str)]


def find_last_checkpoint(folder: str | None) -> Path:
    """Finds the file that ``--ckpt_path last`` means.

    It is that of the run's folder (``--trainer.default_root_dir``); without one, that of the run below ``runs/`` that
    wrote its ``last.ckpt`` most recently.

    Raises:
        ConfigError: there is none yet.
    """
    if folder is not None:
        found = [Path(folder).expanduser() / LAST_FILE]
    else:
        found = [run / LAST_FILE for run in _RUNS.iterdir()] if _RUNS.is_dir() else []
    found = [path for path in found if path.is_file()]
    if not found:
        where = folder or f"any folder below {_RUNS}"
        msg = (
            f"--ckpt_path last: there is no {LAST_FILE} in {where}; a run writes its first one at the end of its "
            "first epoch, so start it without --ckpt_path, or name a checkpoint"
        )
        raise ConfigError(msg)
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Joins nested keys by a dot, as options are written.

    >>> flatten({"data": {"name": "kvasir"}, "seed_everything": 0})
    {'data.name': 'kvasir', 'seed_everything': 0}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def list_disagreements(settings: Mapping[str, Any], config: Mapping[str, Any], *, resumes: bool) -> list[str]:
    """Writes one line for each option on which a checkpoint's run and the command line differ, with which wins.

    If training goes on (``resumes``), so does the optimizer.
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


def _network_flags(path: str, flag: str, named: Sequence[str]) -> list[str]:
    record = read_record(Path(path).expanduser(), flag)
    check_named(record.arch, named)
    of_the_net = ("arch", "encoder", "arch_options", "prediction", "map_weights", "mean", "std")
    return [flag for flag in record.flags() if flag.startswith(tuple(f"--model.{name}=" for name in of_the_net))]
