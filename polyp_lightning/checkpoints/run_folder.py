"""The files of a run's folder, by name."""

import re
from pathlib import Path

_BEST = re.compile(r"stage(\d+)-epoch\d+-dice(\d\.\d+)\.ckpt")


def best_checkpoints(folder: Path) -> dict[int, Path]:
    """The best checkpoint of each stage by its file name, as ``StageCheckpoint`` gives them; the highest stage first.

    Args:
        folder: of checkpoints; it need not exist.
    """
    found = [(int(m[1]), float(m[2]), path) for path in folder.glob("*.ckpt") if (m := _BEST.fullmatch(path.name))]
    return {stage: path for stage, _, path in sorted(found, key=lambda item: (-item[0], item[1]))}
