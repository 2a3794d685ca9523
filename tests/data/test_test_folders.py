from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.data.sets import pranet
from polyp_lightning.data.test_folders import load_tests, parse_tests


def folder(path: Path, count: int) -> Path:
    for part in ("images", "masks"):
        (path / part).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full((40, 50), 255 * (part == "masks"), np.uint8)).save(path / part / f"{number}.png")
    return path


def test_parse_tests__folders_and_names_of_the_literature(tmp_path: Path) -> None:
    assert parse_tests("etis=a/b, CVC-300", tmp_path) == {
        "etis": Path("a/b"),
        "CVC-300": tmp_path / "TestDataset" / "CVC-300",
    }
    five = parse_tests("pranet", tmp_path)
    assert list(five) == list(pranet.TESTS)
    assert five["ETIS-LaribPolypDB"] == tmp_path / "TestDataset" / "ETIS-LaribPolypDB"


@pytest.mark.parametrize("text", ["", ",", "a=x,a=y", "a-b=x,a_b=y", "=x", "pranet,CVC-300"])
def test_parse_tests__no_names_or_one_twice(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--data\.tests=.* NAME=FOLDER.*TestDataset; pranet is Kvasir"):
        parse_tests(text, tmp_path)


def test_load_tests__a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test set etis: .*x/images\. Name another with --data\.tests etis=FOLDER"):
        load_tests({"etis": tmp_path / "x"}, "any")


def test_data_module__tests_take_the_place_of_the_data_sets_own(tmp_path: Path) -> None:
    # Neither the folder of data sets nor the data set that was trained on is needed.
    text = f"etis={folder(tmp_path / 'one', 3)},colon={folder(tmp_path / 'two', 2)}"
    data = PolypDataModule(
        "kvasir", str(tmp_path / "nowhere"), image_size=32, cache_dir=str(tmp_path / "c"), tests=text
    )
    data.setup("test")
    assert data.test_names == ["etis-3", "colon-2"]
    first, second = data.test_dataloader()
    assert [len(first.dataset), len(second.dataset)] == [3, 2]  # type: ignore[arg-type]
    assert next(iter(second))["original_mask"][0].shape == (40, 50)
    facts = data.describe()
    assert (facts["data"], facts["split"], facts["test"]) == ("tests", "etis colon", 5)
    with pytest.raises(ConfigError, match="leave it out of fit"):
        data.setup("fit")
