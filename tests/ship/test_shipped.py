"""The networks that come with the package are those of the card: files, tables and text agree."""

from pathlib import Path

import card
import pytest
from marks import SetMark, score_images, sum_up
from packing import TABLE, Packed

from polyp_lightning.checkpoints import named
from polyp_lightning.checkpoints.file import read
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.files import sha256
from polyp_lightning.common.tables import read_rows
from polyp_lightning.data.sets import load_dataset
from polyp_lightning.deploy.bundle import load_model, read_bundle
from polyp_lightning.deploy.first_use import export_once

NETS = named.list_nets()
LARGEST = {"dense": 9e6, "realtime": 6e6, "fast": 6e6}

# A build without networks has nothing to compare; `make ship` makes them.
pytestmark = pytest.mark.skipif(not any(named.FOLDER.glob("*")), reason="this build holds no networks")


@pytest.fixture(scope="module")
def rows() -> dict[str, Packed]:
    return {row.net: row for row in read_rows(named.FOLDER / TABLE, Packed)}


def test_files__are_those_of_the_table(rows: dict[str, Packed]) -> None:
    assert set(NETS) == set(rows) == set(LARGEST)
    for name, row in rows.items():
        assert sha256(named.FOLDER / f"{name}.ckpt") == row.sha256
        assert row.bytes <= LARGEST[name]
    assert rows["realtime"].bytes + rows["fast"].bytes <= 6e6


@pytest.mark.parametrize("name", NETS)
def test_net__loads_without_trust_and_is_as_the_table_says(name: str, rows: dict[str, Packed]) -> None:
    path = named.FOLDER / f"{name}.ckpt"
    assert all(value.isfinite().all() for value in read(path)["state_dict"].values())
    net = load_net(path)
    assert (net.alarm_threshold, net.image_size) == (rows[name].alarm_threshold, rows[name].image_size)
    assert net.data["data"] == "mix"


def test_card__is_drawn_from_the_tables_beside_it() -> None:
    written = (named.FOLDER / card.CARD).read_text(encoding="utf-8")
    assert written == card.draw(named.FOLDER), "write it anew: make ship-check ARGS=--write_card"
    assert (named.FOLDER / card.FAILURES).is_file()
    assert {row.net for row in read_rows(named.FOLDER / card.SETS, SetMark)} == set(NETS)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", NETS)
def test_net__its_dice_on_kvasir_is_the_cards(name: str, real_data: Path, here: Path) -> None:
    # An export is compared with the network as it is written, here too.
    model = export_once(named.find_net(name, "--net"))
    bundle = read_bundle(model)
    backend = bundle.format.backends[0]
    kvasir = load_dataset("kvasir", real_data, None, 0)
    (found,) = sum_up(
        list(score_images(name, backend, load_model(bundle, backend, 1), bundle, kvasir)), bundle.alarm_threshold
    )
    (said,) = (
        row
        for row in read_rows(named.FOLDER / card.SETS, SetMark)
        if (row.net, row.backend, row.test_set) == (name, backend, "kvasir-120")
    )
    assert found.dice == pytest.approx(said.dice, abs=0.002)
    assert abs(found.found_frames - said.found_frames) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_net__exports_are_equal_in_other_formats(name: str, here: Path) -> None:
    for backend in ("onnxruntime", "torch"):
        model = read_bundle(export_once(named.find_net(name, "--net"), [backend]))
        assert model.facts["parity"]["difference"] <= 1e-4
        assert model.alarm_threshold == load_net(named.FOLDER / f"{name}.ckpt").alarm_threshold
