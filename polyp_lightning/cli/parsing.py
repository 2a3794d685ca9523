"""The parsers of the verbs that Lightning does not run."""

import argparse
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from polyp_lightning.cli.parser_errors import explain
from polyp_lightning.common.errors import ConfigError


class _Parser(argparse.ArgumentParser):
    """Takes no shortened options, nor do the parsers below it; a mistake is an error like any other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Refuses the options by a ConfigError that names the option, and the nearest right one."""
        msg = f"{explain(message, set(_list_options(self)))} ({self.prog} --help lists the options)"
        raise ConfigError(msg)


def make_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """Makes a verb's parser."""
    return _Parser(prog=f"python -m polyp_lightning {verb}", description=description)


def add_data_root(parser: argparse.ArgumentParser, flag: str, use: str = "") -> None:
    """Adds the option that names the folder of data sets."""
    root = Path(os.environ.get("POLYP_DATA") or "datasets")
    parser.add_argument(flag, type=Path, default=root, help=f"the folder of data sets{use} (default: %(default)s)")


def find_option(arguments: Sequence[str], flag: str) -> str | None:
    """Returns the value of a flag on a command line, the last one given; None where it is not given.

    >>> find_option(["fit", "--ckpt_path=a.ckpt"], "--ckpt_path")
    'a.ckpt'
    """
    found = None
    for here, following in zip(arguments, [*arguments[1:], ""], strict=True):
        if here == flag or here.startswith(f"{flag}="):
            found = following if here == flag else here.partition("=")[2]
    return found


def add_arch(parser: argparse.ArgumentParser, **more: Any) -> None:
    """Adds the option by which the user names a network of their own, which a checkpoint never imports by itself."""
    text = "package.module.Class, where a checkpoint's network is your own"
    parser.add_argument("--arch", metavar="PATH", help=text, **more)


def _list_options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yields the names of a parser's options, and of those below it, without dashes."""
    for action in parser._actions:
        yield from (name.removeprefix("--") for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _list_options(below)
