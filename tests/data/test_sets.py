from importlib import resources
from pathlib import Path

import pytest

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.data import sets
from polyp_lightning.data.sets import DATASETS, check_choice
from polyp_lightning.data.splitting import shipped_list


def _stems() -> list[str]:
    lists = (resources.files("polyp_lightning.data") / "splits").iterdir()
    return sorted(file.name.removesuffix("-train.txt") for file in lists if file.name.endswith("-train.txt"))


def test_datasets__are_the_files_of_the_folder() -> None:
    files = {path.stem for path in Path(sets.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(DATASETS) == files
    assert all(spec.name == name for name, spec in DATASETS.items())


@pytest.mark.parametrize("name", DATASETS)
def test_check_choice__knows_every_split_and_no_other(name: str) -> None:
    for split in (None, *DATASETS[name].splits):
        check_choice(name, split)
    with pytest.raises(
        ConfigError, match=rf"--data\.split=x is no split of {name}; allowed: {DATASETS[name].splits[0]}"
    ):
        check_choice(name, "x")


@pytest.mark.parametrize("stem", _stems())
def test_shipped_lists__are_sorted_and_share_no_image(stem: str) -> None:
    parts = [shipped_list(f"{stem}-{part}") for part in ("train", "val", "test")]
    assert all(names and names == sorted(names) for names in parts)
    assert len(set().union(*parts)) == sum(map(len, parts))
