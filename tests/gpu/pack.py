"""Packs Kvasir-SEG at the network's size into one archive, for machines without a network: ``pack.py FOLDER``.

FOLDER holds Kvasir-SEG/ (default: $POLYP_DATA). Images are resized once, as the cache does it, and stored as JPEG;
masks as PNG. Scores of a run on it are therefore scores at that size, not at the original resolution. The archive is
below 45 MiB, is never committed (the data's terms), and holds the SHA-256 of every file, which ``unpack`` compares.
"""

import argparse
import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

from PIL import Image

SIDE = 352
QUALITY = 92
LIMIT = 45 * 2**20
HASHES = "sha256.json"


def main() -> None:
    """Packs, and says how large it became."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path, nargs="?", default=Path(os.environ.get("POLYP_DATA", "datasets")))
    parser.add_argument("--output", type=Path, default=Path(".gpu/kvasir.zip"))
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--most", type=int, help="only so many images, for a rehearsal")
    options = parser.parse_args()
    size = pack(options.root, options.output, options.side, options.most)
    print(f"{options.output}: {size / 2**20:.1f} MiB at {options.side}²")


def pack(root: Path, output: Path, side: int = SIDE, most: int | None = None) -> int:
    """Writes the archive and returns its size in bytes.

    Raises:
        SystemExit: it would be too large.
    """
    from polyp_lightning.data.cache import resize, resize_mask
    from polyp_lightning.data.reading import read_pair
    from polyp_lightning.data.sets import kvasir

    output.parent.mkdir(parents=True, exist_ok=True)
    hashes: dict[str, str] = {}
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:
        for pair in kvasir.IMAGES.find(root)[:most]:
            image, mask = read_pair(pair.image, pair.mask)
            assert mask is not None
            pictures = {
                f"Kvasir-SEG/images/{pair.name}.jpg": (resize(image, side), {"quality": QUALITY}),
                f"Kvasir-SEG/masks/{pair.name}.png": (resize_mask(mask, side) * 255, {"optimize": True}),
            }
            for name, (pixels, options) in pictures.items():
                content = io.BytesIO()
                Image.fromarray(pixels).save(content, "JPEG" if name.endswith("jpg") else "PNG", **options)
                archive.writestr(name, content.getvalue())
                hashes[name] = hashlib.sha256(content.getvalue()).hexdigest()
        archive.writestr(HASHES, json.dumps(hashes))
    size = output.stat().st_size
    if size > LIMIT:
        raise SystemExit(f"{output} has {size / 2**20:.1f} MiB, more than {LIMIT / 2**20:.0f}: lower --side")
    return size


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks and compares every hash; does nothing where it was done before. Returns the folder.

    Raises:
        ValueError: a file is missing or damaged.
    """
    if (folder / HASHES).is_file():
        return folder
    with zipfile.ZipFile(archive) as content:
        hashes = json.loads(content.read(HASHES))
        content.extractall(folder, [name for name in content.namelist() if name != HASHES])
    bad = [
        n
        for n, h in hashes.items()
        if not (folder / n).is_file() or hashlib.sha256((folder / n).read_bytes()).hexdigest() != h
    ]
    if bad:
        raise ValueError(f"{archive}: {len(bad)} files are missing or damaged, such as {bad[0]}")
    (folder / HASHES).write_text(json.dumps(hashes))
    return folder


if __name__ == "__main__":
    main()
