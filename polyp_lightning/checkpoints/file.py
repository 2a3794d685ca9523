"""Checkpoint files on disk: written whole or not at all, and read without trusting them.

PyTorch's unpickler for ``weights_only=True`` runs no code; everything it refuses gets a message of its own. A
``Trainer`` reads and writes in the same way, see :class:`CheckpointIO`.
"""

import io
import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from typing_extensions import override

from polyp_lightning.common.errors import ConfigError, TrainingError, join_names
from polyp_lightning.common.files import write_beside
from polyp_lightning.common.torch_archive import COPY_AGAIN, find_damage

_LIGHTNING_VERSION = re.compile(r"2\.\d{1,4}(\.\d{1,4})?((a|b|rc|\.dev|\.post)\d{1,9})*(\+[a-z0-9.]{1,40})?")


def write(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Writes a checkpoint beside its place and renames it: at every moment the old file is whole, or the new one.

    Raises:
        TrainingError: a weight is not finite; the file at ``path`` stays as it is.
        OSError: the disk is full or read-only; the file at ``path`` stays as it is.
    """
    weights = checkpoint.get("state_dict", {})
    bad = [k for k, v in weights.items() if isinstance(v, Tensor) and v.is_floating_point() and not v.isfinite().all()]
    if bad:
        msg = (
            f"the weights are not finite any more ({join_names(bad)}), so {path.name} was not written and what is on "
            "disk is from before; resume from it with a lower --model.lr or with --trainer.gradient_clip_val"
        )
        raise TrainingError(msg)
    # By way of memory: torch.save itself turns a full disk into an assertion of its archive writer.
    content = io.BytesIO()
    torch.save(dict(checkpoint), content)
    with write_beside(path) as beside, beside.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        # Otherwise the rename can reach the disk before the bytes do, and a power cut leaves an empty file.
        os.fsync(file.fileno())


def read(path: Path, flag: str = "--ckpt_path") -> dict[str, Any]:
    """Reads a checkpoint file after comparing its checksums; runs no code that the file may hold.

    ``flag`` is what the user gave the path with, for the messages.

    Raises:
        ConfigError: there is no such file, it is damaged, it holds code, or it is no checkpoint.
    """
    name = f"{flag} {path}"
    if not path.is_file():
        msg = f"{name} is not a file; give a checkpoint that `fit` has written (runs/*/checkpoints)"
        raise ConfigError(msg)
    try:
        damage = find_damage(path)
    except OSError as error:
        msg = f"{name} can't be read: {error}"
        raise ConfigError(msg) from error
    if damage:
        msg = f"{name} {damage}"
        raise ConfigError(msg)
    stored = _load(path, name)
    if not isinstance(stored, dict) or not all(isinstance(key, str) for key in stored):
        msg = f"{name} holds a {type(stored).__name__}, not a checkpoint; give one that `fit` has written"
        raise ConfigError(msg)
    return stored


class CheckpointIO(TorchCheckpointIO):
    """Lets a ``Trainer`` write checkpoints whole or not at all, and read them without trusting them.

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
            ConfigError: see :func:`read`; or Lightning would take it for another version's, and rewrite it.
        """
        stored = read(Path(path))
        found = stored.get("pytorch-lightning_version")
        if not isinstance(found, str) or not _LIGHTNING_VERSION.fullmatch(found):
            msg = f"--ckpt_path {path} is of no known version of Lightning ({found!r:.40}); {COPY_AGAIN}"
            raise ConfigError(msg)
        return stored


def _load(path: Path, name: str) -> Any:
    try:
        # Mapped, a tensor that claims to be longer than the file is cut off at its end instead of read beyond it.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        what = f"code or objects ({wanted[1]})" if wanted else "something else than plain values and tensors"
        msg = f"{name} holds {what}; it was refused, and nothing of it was run"
        raise ConfigError(msg) from error
    except Exception as error:
        # A foreign archive, or one made to mislead, can fail in any way.
        first = next(iter(str(error).splitlines()), "")[:200]
        msg = f"{name} can't be read as a checkpoint ({type(error).__name__}: {first})"
        raise ConfigError(msg) from error
