"""Errors that a user can cause.

Every message says what was got, what is allowed, and which flag or file to change.
"""

import difflib
import re
from collections.abc import Iterable, Sequence


class PolypError(Exception):
    """A mistake in data, configuration or checkpoint; the command line prints its message without a traceback."""


class DataError(PolypError):
    """A data set on disk is missing, incomplete or not what it claims to be."""


class ConfigError(PolypError):
    """An option has a value that cannot work."""


class UnnamedClassError(ConfigError):
    """A file asks for code that only the user may ask for.

    Attributes:
        path: import path of the class or function.
    """

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the network of this checkpoint is made by {path}, and a checkpoint imports no code by itself: nothing "
            f"was run. If you trust {path}, name it yourself"
        )
        self.path = path


class TrainingError(PolypError):
    """Training cannot go on, because a loss or a weight is not a finite number."""


class PruningError(PolypError):
    """A cut is impossible or would not be exact."""


ANOTHER_CHECKPOINT = "take another one, or start a new run from its weights with --model.init_from"
"""What to do where a checkpoint's record of its run is damaged."""


def hide_passwords(text: str) -> str:
    """Hides the passwords in a text's addresses, and their queries, where others hide.

    >>> hide_passwords("srt://me:se@cret@host:900/live?passphrase=1 stands still")
    'srt://me:…@host:900/live?… stands still'
    """
    return re.sub(r"(://[^\s?]*\?)\S+", r"\1…", re.sub(r"(://[^\s:/@]*):\S*@", r"\1:…@", text))


def join_names(names: Sequence[str], limit: int = 5) -> str:
    """Joins the first few of many names.

    >>> join_names(["a", "b", "c"], limit=2)
    'a, b (2 of 3)'
    """
    shown = ", ".join(str(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} ({limit} of {len(names)})"


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggests the known names closest to a misspelt one, as a sentence for an error message.

    >>> nearest("resnet81", ["resnet18", "vgg11"])
    'Did you mean resnet18?'
    >>> nearest("unet++", ["FPN", "Unet", "UnetPlusPlus"])
    'Did you mean UnetPlusPlus?'
    """
    names = {k.lower(): k for k in sorted(known)}
    wanted = name.lower().replace("+", "plus")
    if wanted != name.lower() and wanted in names:
        return f"Did you mean {names[wanted]}?"
    close = [names[k] for k in difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)]
    return f"Did you mean {' or '.join(close)}?" if close else f"Known are {join_names(list(names.values()), 12)}."
