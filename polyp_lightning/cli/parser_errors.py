"""Explains a parser's complaint in one line that names the option and the nearest right one."""

import re
from collections.abc import Collection

from polyp_lightning.common.errors import nearest

_UNKNOWN = re.compile(r"unrecognized arguments: --([^\s=]+)|does not accept option '([^']+)'")
_TYPE = re.compile(r"Parser key \"([^\"]+)\":\s*(.*)", re.DOTALL)
_PLAIN = {
    "<class 'int'>": "whole number",
    "<class 'float'>": "number",
    "<class 'bool'>": "true or false",
    "<class 'str'>": "text",
}


def explain(complaint: str, options: Collection[str]) -> str:
    """Explains a parser's complaint in one line, by the names of all options, without dashes.

    >>> explain("unrecognized arguments: --data.nmae kvasir", ["data.name", "seed_everything"])
    '--data.nmae is no option. Did you mean --data.name?'
    """
    if unknown := _UNKNOWN.search(complaint):
        name = unknown[1] or unknown[2]
        return f"--{name} is no option. {_suggest(name, options)}"
    if typed := _TYPE.search(complaint):
        reason = typed[2]
        for name, word in _PLAIN.items():
            reason = reason.replace(f"a {name}", f"a {word}")
        reason = re.sub(r"a typing\.Literal\[(.*?)\]", r"one of \1", reason)
        return f"--{typed[1]}: {_join_lines(reason)}"
    return _join_lines(complaint)


def _suggest(name: str, options: Collection[str]) -> str:
    """Names the nearest option; those that end alike come first: ``--target`` means ``--pruning.target``."""
    alike = [option for option in options if option.rpartition(".")[2] == name.rpartition(".")[2]]
    return nearest(f"--{name}", [f"--{option}" for option in alike or options])


def _join_lines(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
