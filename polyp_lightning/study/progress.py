"""What is known of a run of a study while it is made: which steps are over, and whether it failed."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.common.files import write_beside

_FILE = "progress.json"


@dataclass
class Progress:
    """State of a run, kept in its folder.

    Attributes:
        settings: the commands that it was begun with; another study must not take its results for its own.
        steps: the steps that are over.
        minutes: wall time of those steps.
        done: whether its rows are in its folder.
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
    """Reads a run's state; a new one where the run was never begun.

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
        msg = (
            f"{folder} was run with other settings ({', '.join(odd[:4])}); give another --output, or remove that folder"
        )
        raise ConfigError(msg)
    return found
