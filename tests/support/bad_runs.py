"""Small runs by command line, and the one line with which one fails."""

import pytest

from polyp_lightning.cli import main

SMALL = ["--data.image_size", "32", "--data.batch_size", "4", "--data.num_workers", "0", "--trainer.logger", "false"]
PHANTOM = ["--data.phantom_frames", "14"]
CUT = ["--pruning.start", "1", "--pruning.end", "1", "--trainer.max_epochs", "3", "--trainer.accelerator", "cpu"]


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command fails."""
    assert main([*arguments, "--data.cache_dir", "cache"]) == 2
    (line,) = (text for text in capsys.readouterr().err.splitlines() if text.startswith("error: "))
    return line
