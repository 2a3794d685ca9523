"""Replaces the values of flags on a command line, however they are written."""

from collections.abc import Callable, Collection, Sequence


def replace_values(arguments: Sequence[str], flags: Collection[str], replace: Callable[[str, str], str]) -> list[str]:
    """Returns the arguments with other values behind some flags.

    Args:
        arguments: of a command line.
        flags: those whose values are replaced, as ``--flag value`` and ``--flag=value``.
        replace: makes the new value of an old one and its flag.

    >>> replace_values(["--a", "x", "--b=y", "z"], ("--a", "--b"), lambda value, flag: value.upper())
    ['--a', 'X', '--b=Y', 'z']
    """
    found, before = [], ""
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if before in flags:
            found.append(replace(argument, before))
        elif equals and flag in flags:
            found.append(f"{flag}={replace(value, flag)}")
        else:
            found.append(argument)
        before = argument
    return found
