"""The parsers of the verbs that Lightning does not run."""

import argparse
import os
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import Any, NoReturn

from polyp_lightning.cli.parser_errors import explain
from polyp_lightning.cli.verbs import VERBS
from polyp_lightning.common.errors import ConfigError

# Words for one thing; help lists the first of each row, and each verb takes all.
_SAME = (
    ("--output", "--out", "--save", "--masks.output"),
    ("--overlay", "--masks.overlay"),
    ("--data_root", "--root", "--data.root"),
    ("--ckpt_path", "--model"),
)


_EXAMPLE = "\n\nexample: "


class _Parser(argparse.ArgumentParser):
    """Takes no shortened options, nor do the parsers below it; a mistake is an error like any other."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"allow_abbrev": False})

    def parse_args(self, args: Sequence[str], namespace: Any = None) -> Any:  # type: ignore[override]
        """Parses; a switch may be followed by true or false, and other verbs' words for an option are taken too."""
        actions = list(_list_actions(self))
        switches = {name for action in actions if action.nargs == 0 for name in action.option_strings}
        known = {name for action in actions for name in action.option_strings}
        return super().parse_args(_use_switches(use_own_words(args, known), switches), namespace)

    def format_help(self) -> str:
        """The help, which begins with what the verb does, and an example in place of all that can be written."""
        text = super().format_help()
        return text.removeprefix(self.format_usage()).lstrip() if _EXAMPLE in (self.description or "") else text

    def error(self, message: str) -> NoReturn:
        """Refuses the options by a ConfigError that names the option, and the nearest right one."""
        msg = f"{explain(message, set(_list_options(self)))} ({self.prog} --help lists the options)"
        raise ConfigError(msg)


def make_parser(verb: str, description: str, options: str | None = None) -> argparse.ArgumentParser:
    """Makes a verb's parser, whose help shows how the verb is called: with these options, or those of its list."""
    call = f"python -m polyp_lightning {verb}"
    about = f"{fill(description, 79)}{_EXAMPLE}{call} {options or VERBS[verb].options}"
    return _Parser(prog=call, description=about, formatter_class=argparse.RawDescriptionHelpFormatter)


def use_own_words(arguments: Sequence[str], known: Collection[str]) -> list[str]:
    """Puts a verb's own word for an option in place of another verb's.

    >>> use_own_words(["--out=a", "--root", "b"], ["--output", "--root"])
    ['--output=a', '--root', 'b']
    """
    own = {word: name for words in _SAME for word in words for name in words if word not in known and name in known}
    split = (word.partition("=") for word in arguments)
    return [f"{own.get(name, name)}{equals}{value}" for name, equals, value in split]


def give_switches_values(arguments: Sequence[str]) -> list[str]:
    """Writes ``=true`` behind a flag without a value, for parsers that want one.

    >>> give_switches_values(["prune", "--dry_run", "--target", "0.5"])
    ['prune', '--dry_run=true', '--target', '0.5']
    """
    pairs = pairwise([*arguments, "--"])
    return [f"{here}=true" if _is_flag(here) and after.startswith("--") else here for here, after in pairs]


def _is_flag(text: str) -> bool:
    return (
        text.startswith("--") and "=" not in text and text not in ("--", "--print_config") and not text.endswith("help")
    )


def _use_switches(arguments: Sequence[str], switches: Collection[str]) -> list[str]:
    """Leaves the word behind a switch out, and with ``false`` the switch, too."""
    used: list[str] = []
    for word in arguments:
        name, _, value = word.partition("=")
        if name in switches and value in ("true", "false"):
            used += [name] if value == "true" else []
        elif word in ("true", "false") and used and used[-1] in switches:
            used = used if word == "true" else used[:-1]
        else:
            used.append(word)
    return used


def add_data_root(parser: argparse.ArgumentParser, use: str = "") -> None:
    """Adds the option that names the folder of data sets."""
    root = Path(os.environ.get("POLYP_DATA") or "datasets")
    parser.add_argument(
        "--data_root", type=Path, default=root, help=f"the folder of data sets{use} (default: %(default)s)"
    )


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
    for action in _list_actions(parser):
        yield from (name.removeprefix("--") for name in action.option_strings if name.startswith("--"))


def _list_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yields what a parser takes, and those below it."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from _list_actions(below)
