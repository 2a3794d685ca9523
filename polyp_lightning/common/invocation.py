"""How this program was called, so that a command that it prints runs as printed."""

import shlex
import shutil
import sys
from pathlib import Path

_PACKAGE = __name__.partition(".")[0]
_SCRIPT = "polyp-lightning"


def command(*words: str | int | Path) -> str:
    """A command for a shell: the script or interpreter that ran this one, then a verb and its options.

    Short where the shell finds the same by its name alone, as in an active environment; else with its whole path, so
    that it runs in any folder. Give whole paths for the same reason.
    """
    called = Path(sys.argv[0])
    start = [_name(called.absolute())] if called.name == _SCRIPT else [_name(Path(sys.executable)), "-m", _PACKAGE]
    return shlex.join([*start, *map(str, words)])


def _name(program: Path) -> str:
    found = shutil.which(program.name)
    return program.name if found is not None and Path(found).absolute() == program else str(program)
