"""What is known of a run of a study while it is made: which steps are over, who works on it, whether it failed."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.common.files import write_beside
from polyp_lightning.common.locks import hold_lock

_FILE = "progress.json"


@dataclass
class Progress:
    """State of a run, kept in its folder.

    Attributes:
        settings: the commands that it was begun with; another study must not take its results for its own.
        steps: the steps that are over.
        minutes: wall time of those steps.
        done: whether its rows are in the table.
        failed: what went wrong the last time; empty if nothing did.
    """

    settings: list[str]
    steps: list[str] = field(default_factory=list)
    minutes: float = 0.0
    done: bool = False
    failed: str = ""

    def save(self, folder: Path) -> None:
        """Writes it into the run's folder."""
        with write_beside(folder / _FILE) as path:
            path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def load_progress(folder: Path, settings: list[str]) -> Progress:
    """A run's state; a new one where it was never begun.

    Raises:
        ConfigError: it was begun with other settings.
        DataError: the file is damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        return Progress(settings)
    try:
        found = Progress(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        msg = f"{path} is damaged ({error}); remove the folder to run it again"
        raise DataError(msg) from error
    if found.settings != settings:
        odd = sorted(set(found.settings) ^ set(settings))
        msg = f"{folder} was run with other settings ({', '.join(odd[:4])}); give another --out, or remove that folder"
        raise ConfigError(msg)
    return found


@contextmanager
def claimed(path: Path) -> Iterator[int | None]:
    """Takes a run for this process, if no other has it.

    The claim ends with the last process that has its descriptor. A command that is started with the descriptor keeps
    the claim even if its runner is killed.

    Args:
        path: the claim's file.

    Yields:
        The descriptor to hand on; None where another process has the claim.

    Raises:
        ConfigError: the file system knows no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with hold_lock(path, flag="--out") as claim:
        yield claim
