"""The command line: ``python -m polyp_lightning VERB``."""

import sys
from collections.abc import Callable, Sequence
from errno import EACCES, EDQUOT, EEXIST, EFBIG, ENOSPC, ENOTDIR, EPERM, EROFS
from importlib import import_module
from typing import NamedTuple

from polyp_lightning import __version__
from polyp_lightning.cli.named_nets import use_files
from polyp_lightning.cli.shipped_configs import use_shipped
from polyp_lightning.cli.short_help import ALL, read_page
from polyp_lightning.common.errors import ConfigError, PolypError, UnnamedClassError, hide_passwords, nearest
from polyp_lightning.common.extras import explain_missing, find_extra
from polyp_lightning.common.invocation import command
from polyp_lightning.common.log_lines import announce
from polyp_lightning.common.options import name_flags


class Verb(NamedTuple):
    """A verb: the file of this folder that runs it, what it does, and the options that it can't do without."""

    module: str
    text: str
    options: str


VERBS = {
    "fit": Verb("fit", "train, and prune while training", ""),
    "validate": Verb("fit", "Dice and IoU on validation images", "--ckpt_path FILE"),
    "test": Verb("fit", "all metrics on the test images", "--ckpt_path FILE"),
    "predict": Verb("predict", "write masks as PNG", "--ckpt_path FILE"),
    "prune": Verb("prune", "cut a trained network in one step", "--ckpt_path FILE --target 0.25"),
    "export": Verb("export", "a model that runs on its own", "--ckpt_path FILE --format onnx"),
    "benchmark": Verb("benchmark", "measure frames per second", "--model FILE"),
    "stream": Verb("stream", "segment a video, camera or stream", "--model FILE --source VIDEO"),
    "study": Verb("study", "run a list of trainings and tests", "--config FILE.yaml"),
    "report": Verb("report", "one page about runs or a study", "RUNS… -o report.html"),
    "taylor-check": Verb("taylor_check", "does importance predict removal?", "[--ckpt_path FILE]"),
    "dashboard": Verb("dashboard", "build a W&B workspace", "--entity E --project P"),
    "data": Verb("data", "fetch or verify a data set", "fetch kvasir | verify kvasir"),
}
"""Every verb, in the order in which they are listed."""

# What the verbs that Lightning does not run call the options of those that it does, which messages name.
_OWN_FLAGS = {
    "prune": {"--data.batch_size": "--batch_size", "--pruning.": "--"},
}
_HELP = ("-h", "--help")
# A disk that is full, read-only, over its quota, not ours, or a file where a folder should be.
_STORAGE = {ENOSPC, EROFS, EDQUOT, EFBIG, EACCES, EPERM, ENOTDIR, EEXIST}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one verb: the function ``main`` of its file, which gets the verb and its options.

    Returns:
        The exit status: 0, 1 where what was measured is not good enough, or 2 for a mistake, which is explained on
        standard error. A verb raises a :class:`PolypError` for it.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments or arguments[0] in _HELP:
        sys.stdout.write(usage())
        return 0
    if arguments[0] == "--version":
        sys.stdout.write(f"polyp-lightning {__version__}\n")
        return 0
    verb, options = arguments[0], arguments[1:]
    if verb in VERBS and len(options) == 1 and options[0] in _HELP and (page := read_page(verb)):
        sys.stdout.write(page)
        return 0
    try:
        with name_flags():
            return _run(verb, options)
    except ModuleNotFoundError as error:
        if find_extra(name := error.name or "") is None:
            raise
        sys.stderr.write(f"error: {explain_missing(error, name)}\n")
        return 2
    except UnnamedClassError as error:
        flag = "--model.arch" if VERBS[verb].module in ("fit", "predict") else "--arch"
        sys.stderr.write(f"error: {error}:\n  {command(*arguments, flag, error.path)}\n")
        return 2
    except PolypError as error:
        sys.stderr.write(f"error: {_name_own_flags(verb, hide_passwords(str(error)))}\n")
        return 2
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        sys.stderr.write(
            f"error: nothing can be written: {error}. Files written before are whole. Free some space, or name another "
            "folder with --trainer.default_root_dir (the run), --data.cache_dir (decoded frames) or --output (masks)\n"
        )
        return 2


def usage() -> str:
    """Returns the page that lists all verbs."""
    lines = [f"  {name:<13}{verb.text:<35}{verb.options}".rstrip() for name, verb in VERBS.items()]
    head = "usage: python -m polyp_lightning VERB [options]   (VERB --help, --version)"
    return "\n".join([head, "", *lines]) + "\n"


def _name_own_flags(verb: str, message: str) -> str:
    for flag, own in _OWN_FLAGS.get(verb, {}).items():
        message = message.replace(flag, own)
    return message


def _run(verb: str, options: Sequence[str]) -> int:
    """Runs a verb; what its options name is found before anything that takes time is imported."""
    if verb in VERBS:
        options = use_shipped(["--help" if option == ALL else option for option in options])
    return _find_runner(verb)([verb, *use_files(options)])


def _find_runner(name: str) -> Callable[[Sequence[str]], int]:
    """Imports what runs a verb; only here, because ``stream`` and ``benchmark`` need not wait for the trainer."""
    if name not in VERBS:
        msg = f"there is no verb {name!r}. {nearest(name, VERBS)} All verbs: {', '.join(VERBS)}"
        raise ConfigError(msg)
    if VERBS[name].module == "fit":
        announce(f"{name}: loading PyTorch and Lightning")
    runner: Callable[[Sequence[str]], int] = import_module(f"polyp_lightning.cli.{VERBS[name].module}").main
    return runner
