"""How a ``Trainer`` writes and reads checkpoint files."""

import re
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins.io import TorchCheckpointIO
from typing_extensions import override

from polyp_lightning.checkpoints.file import read, write
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.torch_archive import COPY_AGAIN

_VERSION = re.compile(r"2\.\d{1,4}(\.\d{1,4})?((a|b|rc|\.dev|\.post)\d{1,9})*(\+[a-z0-9.]{1,40})?")


class CheckpointIO(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and reads them without trusting them.

    Lightning's own writes to the system's temporary folder and moves the file from there. Across file systems that is
    a copy, and a process killed in the middle of it leaves half a file in place of the last good one.
    """

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None) -> None:
        """See :func:`write`; ``storage_options`` is not used."""
        write(checkpoint, Path(path))

    @override
    def load_checkpoint(
        self, path: _PATH, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """See :func:`read`; no code is ever loaded, whatever ``weights_only`` says.

        Raises:
            ConfigError: see :func:`read`; or Lightning would take it for that of another age, and rewrite it.
        """
        stored = read(Path(path))
        found = stored.get("pytorch-lightning_version")
        if not isinstance(found, str) or not _VERSION.fullmatch(found):
            msg = f"--ckpt_path {path} is of no known version of Lightning ({found!r:.40}); {COPY_AGAIN}"
            raise ConfigError(msg)
        return stored
