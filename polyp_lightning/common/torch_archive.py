"""Checks the archives that ``torch.save`` writes.

Such a file is a zip archive of uncompressed parts: one pickle and the tensors' bytes. PyTorch checks none of the
archive's checksums (2.15: a flipped bit in a weight loads without a word), so they are checked here.
"""

import zipfile
from pathlib import Path

COPY_AGAIN = "copy it again, or take another checkpoint"
"""What to do about a damaged file."""

_ZIP = b"PK\x03\x04"


def is_archive(path: Path) -> bool:
    """Checks whether a file begins like one of PyTorch's archives; those of before 2020 have another format."""
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def find_damage(path: Path) -> str | None:
    """Says what is wrong with a file as an archive; None for one that is intact to the byte."""
    size = path.stat().st_size
    if not is_archive(path):
        return "is empty" if not size else "is not a checkpoint: it does not begin like one"
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                return "has compressed parts, which this program never writes; it was refused unread"
            if sum(part.file_size for part in parts) > size:
                return f"is damaged: its parts would be larger than the file ({size} bytes); {COPY_AGAIN}"
            broken = archive.testzip()
    except zipfile.BadZipFile as error:
        if "zip file" in str(error):
            return f"ends too early, after {size} bytes; {COPY_AGAIN}"
        return f"is damaged ({error}); {COPY_AGAIN}"
    except Exception as error:
        # A damaged table of contents can lead anywhere.
        return f"is damaged ({type(error).__name__}: {error}); {COPY_AGAIN}"
    return f"is damaged: its part {broken} fails its checksum; {COPY_AGAIN}" if broken else None
