"""CP-CHILD's polyp-free tiles: close-ups of mucosa (Wang et al., 2020, doi 10.1186/s12880-020-00482-3)."""

from pathlib import Path

from polyp_lightning.common.errors import DataError
from polyp_lightning.data.dataset import Dataset, DatasetSpec
from polyp_lightning.data.sources import FileSource, find_pairs

FOLDER = Path("CP-CHILD-negatives") / "images"


def load(root: Path, split: str | None, _frames: int) -> Dataset:
    """Finds the tiles, which have no masks: none shows a polyp. All train, for none resembles a whole frame."""
    if not (root / FOLDER).is_dir():
        msg = (
            f"there is no folder {root / FOLDER}. Put CP-CHILD's images without a polyp there; --data_root names the "
            "folder that holds CP-CHILD-negatives/."
        )
        raise DataError(msg)
    source = FileSource("cpchild", find_pairs(root / FOLDER, None), polyp_free=True)
    tiles = [("cpchild", name) for name in source.names]
    protocol = f"CP-CHILD's {len(tiles)} polyp-free tiles, for training only"
    return Dataset("cpchild", split or "train-only", protocol, {"cpchild": source}, tiles, [], {}, tiles)


SPEC = DatasetSpec("cpchild", ("train-only",), load)
