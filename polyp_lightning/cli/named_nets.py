"""Puts the files of the package's networks in place of their names, ahead of every verb."""

import re
from collections.abc import Sequence
from pathlib import Path

from polyp_lightning.checkpoints.named import find_net
from polyp_lightning.cli.flag_values import replace_values

_FLAGS = ("--ckpt_path", "--model", "--model.init_from", "--model.architecture_from", "--model.distill_from")
_NAME = re.compile(r"[a-z][a-z0-9_-]*")
# What else a word can mean to these options.
_WORDS = ("last", "auto", "null")


def use_files(arguments: Sequence[str]) -> list[str]:
    """Returns the arguments with paths in place of names; a file that is called so comes first.

    Raises:
        ConfigError: a word is neither a file nor the name of a network.

    >>> use_files(["test", "--ckpt_path", "last", "--model.init_from=a.ckpt"])
    ['test', '--ckpt_path', 'last', '--model.init_from=a.ckpt']
    """
    return replace_values(arguments, _FLAGS, _file_of)


def _file_of(value: str, flag: str) -> str:
    if value in _WORDS or not _NAME.fullmatch(value) or Path(value).exists():
        return value
    return str(find_net(value, flag))
