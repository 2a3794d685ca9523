"""Draws the short help of the verbs that have hundreds of options, from their parsers.

``python -m polyp_lightning.cli.help_pages`` writes the pages anew; a test compares them with the parsers.
"""

import re
import textwrap
from argparse import Action, ArgumentParser
from typing import Any, Literal, get_args, get_origin

from lightning.pytorch.cli import LightningArgumentParser

from polyp_lightning.cli import fit, prune
from polyp_lightning.cli.lightning_cli import PolypCLI
from polyp_lightning.cli.parsing import use_own_words
from polyp_lightning.cli.short_help import ALL, PAGES
from polyp_lightning.cli.verbs import VERBS
from polyp_lightning.data.sets import DATASETS, MIX

_WIDTH, _HEIGHT, _COLUMN = 80, 40, 29
_LINES_OF_A_TEXT = 2

_DATA = ("--data.name", "--data.split", "--data_root", "--data.batch_size", "--data.num_workers")
_TRAINER = ("--trainer.accelerator", "--trainer.precision", "--trainer.default_root_dir")
SHOWN = {
    "fit": (
        *("--config", "--ckpt_path", "--seed_everything", *_DATA, "--data.image_size"),
        *("--model.arch", "--model.encoder", "--model.encoder_weights", "--model.init_from", "--model.loss"),
        *("--model.lr", "--pruning.target", "--pruning.start", "--pruning.end", "--pruning.schedule"),
        *("--pruning.criterion", "--trainer.max_epochs", *_TRAINER, "--trainer.logger"),
    ),
    "validate": ("--ckpt_path", *_DATA, *_TRAINER),
    "test": ("--ckpt_path", *_DATA, "--data.tests", *_TRAINER),
    "predict": ("--ckpt_path", *_DATA, "--output", "--overlay", *_TRAINER),
    "prune": (
        *("--ckpt_path", "--target", "--criterion"),
        *("--allocation", "--batches", "--batch_size", "--recalibration_batches", "--data_root", "--output"),
        *("--overwrite", "--dry_run"),
    ),
}
"""The options on each verb's page, in their order."""

_ALSO = {
    "predict": "Of any images, by a checkpoint or an exported model, which needs no PyTorch:\n"
    "  predict --model FILE --source FOLDER|IMAGE|PATTERN --threshold 0.3"
}
"""A verb's other way, below its options."""

# Not the parser's default: a checkpoint's settings stand ahead of it.
_OF_THE_CHECKPOINT = ("--data.name", "--data.split")


def draw_pages() -> dict[str, str]:
    """Draws every page, by verb."""
    parsers = _make_parsers() | {"prune": prune.make_parser()}
    return {verb: draw_page(verb, parsers[verb]) for verb in SHOWN}


def draw_page(verb: str, parser: ArgumentParser) -> str:
    """Draws a verb's page: at most 80 columns and, unless it has very many options, 40 lines."""
    actions = {name: action for action in parser._actions for name in action.option_strings}

    def own(word: str) -> Action:
        return actions[use_own_words([word], actions)[0]]

    summary = VERBS[verb].text
    head = [f"usage: python -m polyp_lightning {verb} [options]", "", summary[0].upper() + summary[1:] + ".", ""]
    foot = ["", *([_ALSO[verb]] if verb in _ALSO else []), f"In parentheses: the default. All options: {verb} {ALL}"]
    for lines in range(_LINES_OF_A_TEXT, 0, -1):
        options = [line for name in SHOWN[verb] for line in _draw_option(verb, name, own(name), lines)]
        if len(head + options + foot) <= _HEIGHT:
            break
    return "\n".join(head + options + foot) + "\n"


def write_pages() -> None:
    """Writes every page to its file."""
    PAGES.mkdir(exist_ok=True)
    for verb, page in draw_pages().items():
        (PAGES / f"{verb}.txt").write_text(page, encoding="utf-8")


class _ParsersMade(Exception):
    """Carries the parsers out of Lightning's constructor, which would go on to run a verb."""


class _ParsersOnly(PolypCLI):
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        raise _ParsersMade(self._subcommand_parsers)


def _make_parsers() -> dict[str, ArgumentParser]:
    """Makes the parsers of the verbs that Lightning runs, by verb."""
    try:
        fit.run_lightning([], {}, cli=_ParsersOnly)
    except _ParsersMade as made:
        return dict(made.args[0])
    raise AssertionError


def _draw_option(verb: str, name: str, action: Action, lines: int) -> list[str]:
    default = "the checkpoint's" if verb != "fit" and name in _OF_THE_CHECKPOINT else _spell(action.default)
    hint = getattr(action, "_typehint", None)
    choices = ", ".join(get_args(hint)) if get_origin(hint) is Literal else ""
    if name == "--data.name":
        choices = ", ".join((*DATASETS, MIX))
    text = choices or _shorten(str(action.help), lines * (_WIDTH - _COLUMN) - len(default) - 3)
    wrapped = textwrap.wrap(f"{text} ({default})" if default else text, _WIDTH - _COLUMN)
    return [f"  {name:<{_COLUMN - 2}}{wrapped[0]}", *(" " * _COLUMN + more for more in wrapped[1:])]


def _shorten(text: str, length: int) -> str:
    """Takes as many clauses of a docstring's first sentence as fit, at least one.

    >>> _shorten("Frames in a batch; more need more memory. Or less.", 20)
    'frames in a batch'
    """
    plain = re.sub(r"\s+", " ", text.replace("``", ""))
    sentence = re.split(r"\.(?:\s|$)", plain, maxsplit=1)[0]
    ends = [found.start() for found in re.finditer(r"[;:] ", sentence)] + [len(sentence)]
    end = max((end for end in ends if end <= length), default=ends[0])
    return sentence[0].lower() + sentence[1:end]


def _spell(default: object) -> str:
    """Writes a default as it is typed; nothing for one that the text has to explain."""
    if isinstance(default, bool):
        return str(default).lower()
    return str(default) if isinstance(default, (str, int, float)) and default != "==SUPPRESS==" else ""


if __name__ == "__main__":
    write_pages()
