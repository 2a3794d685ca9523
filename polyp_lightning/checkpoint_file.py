"""Checkpoint files on disk: written whole or not at all, and read without trusting them.

A checkpoint is a zip archive of uncompressed parts: one pickle and the tensors' bytes. PyTorch checks none of the
archive's checksums (2.15: a flipped bit in a weight loads without a word), so that is done here. Its unpickler for
``weights_only=True`` runs no code; everything it refuses gets a message of its own.
"""

import io
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from typing_extensions import override

from polyp_lightning.errors import ConfigError, TrainingError, listed
from polyp_lightning.files import written_beside

_ZIP = b"PK\x03\x04"
_VERSION = re.compile(r"2\.\d{1,4}(\.\d{1,4})?((a|b|rc|\.dev|\.post)\d{1,9})*(\+[a-z0-9.]{1,40})?")
_ANOTHER = "copy it again, or take another checkpoint"


class CheckpointIO(TorchCheckpointIO):
    """How a ``Trainer`` writes and reads its checkpoints.

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
            msg = f"--ckpt_path {path} is of no known version of Lightning ({found!r:.40}); {_ANOTHER}"
            raise ConfigError(msg)
        return stored


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
            f"the weights are not finite any more ({listed(bad)}), so {path.name} was not written and what is on disk "
            "is from before; resume from it with a lower --model.lr or with --trainer.gradient_clip_val"
        )
        raise TrainingError(msg)
    # By way of memory: torch.save itself turns a full disk into an assertion of its archive writer.
    content = io.BytesIO()
    torch.save(dict(checkpoint), content)
    with written_beside(path) as beside, beside.open("wb") as file:
        file.write(content.getbuffer())
        file.flush()
        # Otherwise the rename can reach the disk before the bytes do, and a power cut leaves an empty file.
        os.fsync(file.fileno())


def read(path: Path, flag: str = "--ckpt_path") -> dict[str, Any]:
    """A checkpoint file's content, after its checksums were compared; runs no code that the file may hold.

    Args:
        path: the file.
        flag: what the user gave it with, for the messages.

    Raises:
        ConfigError: there is no such file, it is damaged, it holds code, or it is no checkpoint.
    """
    name = f"{flag} {path}"
    if not path.is_file():
        msg = f"{name} is not a file; give a checkpoint that `fit` has written (runs/*/checkpoints)"
        raise ConfigError(msg)
    try:
        damage = fault(path)
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


def is_archive(path: Path) -> bool:
    """Whether a file begins like one of PyTorch's archives; those of before 2020 have another format."""
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def fault(path: Path) -> str | None:
    """What is wrong with a file as an archive; None for one that is intact to the byte."""
    size = path.stat().st_size
    if not is_archive(path):
        return "is empty" if not size else "is not a checkpoint: it does not begin like one"
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                return "has compressed parts, which this program never writes; it was refused unread"
            if sum(part.file_size for part in parts) > size:
                return f"is damaged: its parts would be larger than the file ({size} bytes); {_ANOTHER}"
            broken = archive.testzip()
    except zipfile.BadZipFile as error:
        if "zip file" in str(error):
            return f"ends too early, after {size} bytes; {_ANOTHER}"
        return f"is damaged ({error}); {_ANOTHER}"
    except Exception as error:
        # A damaged table of contents can lead anywhere.
        return f"is damaged ({type(error).__name__}: {error}); {_ANOTHER}"
    return f"is damaged: its part {broken} fails its checksum; {_ANOTHER}" if broken else None


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
