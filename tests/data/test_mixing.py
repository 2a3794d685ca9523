from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_data import every_name, write_pairs
from hypothesis import given
from hypothesis import strategies as st

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.data.mixing import Mixture, count_images
from polyp_lightning.data.splitting import shipped_list

Make = Callable[..., PolypDataModule]
BOTH = "clinicdb,cpchild"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CVC-ClinicDB and 30 polyp-free tiles."""
    root = tmp_path_factory.mktemp("mix")
    write_pairs(
        root / "CVC-ClinicDB/images", root / "CVC-ClinicDB/masks", every_name("clinicdb-sequence"), ".png", ".png"
    )
    write_pairs(root / "CP-CHILD-negatives/images", None, [f"0 ({number})" for number in range(30)], ".jpg")
    return root


@pytest.fixture
def mixed(make: Make, root: Path) -> Make:
    def build(**options: Any) -> PolypDataModule:
        return make(**{"name": BOTH, "root": str(root), "cache_dir": str(root / "cache"), "batch_size": 8} | options)

    return build


def _names(loader: Any) -> list[str]:
    return [name for batch in loader for name in batch["name"]]


def test_load_dataset__puts_data_sets_together_with_their_own_splits(mixed: Make) -> None:
    data = mixed()
    dataset = data.dataset
    assert (dataset.name, dataset.split) == (BOTH, "sequence,train-only")
    assert dataset.train_sizes == {"clinicdb": 425, "cpchild": 30}
    assert [name for key, name in dataset.train if key == "clinicdb"] == shipped_list("clinicdb-sequence-train")
    assert [name for _, name in dataset.val] == shipped_list("clinicdb-sequence-val")
    assert list(dataset.tests) == ["clinicdb-117"]
    assert [name for _, name in dataset.predict] == shipped_list("clinicdb-sequence-test")
    assert mixed(split="pranet,train-only").dataset.train_sizes == {"clinicdb": 495, "cpchild": 30}
    assert "epoch" not in data.describe()
    assert mixed(shares={"cpchild": 0.25}).describe()["epoch"] == "425 clinicdb, 142 cpchild"


def test_sampler__shows_every_image_once_without_shares(mixed: Make) -> None:
    data = mixed()
    positions = [position for position, _ in data.train_dataloader().sampler]
    assert sorted(positions) == list(range(455)) == list(range(len(data.dataset.train)))


def test_train_dataloader__tiles_have_empty_masks(mixed: Make) -> None:
    names = {name for key, name in mixed().dataset.train if key == "cpchild"}
    batch = next(iter(mixed(shares={"cpchild": 0.5}, batch_size=64).train_dataloader()))
    filled = {name in names: False for name in batch["name"]}
    for name, mask in zip(batch["name"], batch["mask"], strict=True):
        filled[name in names] |= bool(mask.any())
    assert filled == {True: False, False: True}


def test_sampler__draw_depends_on_seed_and_epoch_alone(mixed: Make) -> None:
    first, again, resumed, other = (
        mixed(shares={"cpchild": 0.02}, seed=seed).train_dataloader().sampler for seed in (4, 4, 4, 5)
    )
    epochs = [list(first) for _ in range(3)]
    assert epochs == [list(again) for _ in range(3)]
    assert {position for position, _ in epochs[0]} != {position for position, _ in epochs[1]}
    resumed.set_epoch(2)  # type: ignore[attr-defined]
    assert list(resumed) == epochs[2]
    assert list(other) != epochs[0]


def test_sampler__an_image_shown_again_is_augmented_otherwise(mixed: Make) -> None:
    sampler = mixed(shares={"cpchild": 0.5}).train_dataloader().sampler
    shown = list(sampler)
    assert len(shown) == len(set(shown)) > len({position for position, _ in shown})


def test_sampler__processes_share_an_epoch(mixed: Make) -> None:
    data = mixed(shares={"cpchild": 0.5})
    whole = list(data.train_dataloader().sampler)
    halves = []
    for rank in range(2):
        sampler: Any = data.train_dataloader().sampler
        sampler.num_replicas, sampler.rank, sampler.num_samples, sampler.total_size = (
            2,
            rank,
            len(whole) // 2,
            len(whole),
        )
        halves.append(list(sampler))
    assert sorted([*halves[0], *halves[1]]) == sorted(whole)


@given(
    st.dictionaries(st.sampled_from("abc"), st.integers(1, 40), min_size=1),
    st.dictionaries(st.sampled_from("abc"), st.floats(0.05, 0.3)),
    st.integers(0, 3),
)
def test_mixture__goes_through_each_data_set_evenly(sizes: dict[str, int], shares: dict[str, float], seed: int) -> None:
    shares = {name: share for name, share in shares.items() if name in sizes}
    if shares.keys() == sizes.keys():
        shares = {name: share / sum(shares.values()) for name, share in shares.items()}
    mixture = Mixture(sizes, shares, seed)
    drawn = [mixture.draw(epoch) for epoch in range(4)]
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    for name, size in sizes.items():
        mine = range(starts[name], starts[name] + size)
        assert all(sum(position in mine for position in epoch) == mixture.counts[name] for epoch in drawn)
        times = Counter({position: 0 for position in mine})
        times.update(position for epoch in drawn for position in epoch if position in mine)
        assert max(times.values()) - min(times.values()) <= 1
    assert all(len(epoch) == len(mixture) for epoch in drawn)
    assert drawn == [Mixture(sizes, shares, seed).draw(epoch) for epoch in range(4)]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"c": 0.1}, "names c, but --data.name names a, b"),
        ({"a": 0.0}, "between 0 and 1"),
        ({"a": 1.0}, "less than 1 in all"),
        ({"a": -0.5, "b": 1.5}, "between 0 and 1"),
        ({"a": 0.5, "b": 0.4}, "must be 1 in all"),
        ({"a": float("nan")}, "between 0 and 1"),
    ],
)
def test_count_images__refuses(shares: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        count_images({"a": 10, "b": 20}, shares)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "clinicdb,kvasr"}, r"--data\.name=kvasr is no data set; allowed: .*polypgen, pranet, mix"),
        ({"name": "clinicdb,phantom"}, "can't hold phantom so.* of clinicdb, cpchild, kvasir, polypgen, pranet"),
        ({"name": "clinicdb,clinicdb"}, "can't hold clinicdb so"),
        ({"split": "sequence"}, "must be 2 splits, one for each of clinicdb, cpchild"),
        ({"split": "sequence,x"}, r"--data\.split=x is no split of cpchild; allowed: train-only"),
        ({"name": "mix", "split": "sequence"}, "must be 4 splits"),
    ],
)
def test_choices__that_do_not_go_together_are_refused(make: Make, options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**{"name": BOTH} | options)


def test_shares__of_one_data_set_are_refused(mixed: Make) -> None:
    with pytest.raises(ConfigError, match=r"names clinicdb, but --data\.name names one data set"):
        mixed(name="clinicdb", shares={"clinicdb": 1.0}).train_dataloader()


def test_cpchild__alone_has_nothing_to_choose_or_score_by(mixed: Make) -> None:
    data = mixed(name="cpchild")
    for loader in (data.val_dataloader, data.test_dataloader):
        with pytest.raises(DataError, match=r"cpchild has no (val|test) images: name a data set that has some"):
            loader()
    assert len(_names(data.predict_dataloader())) == 30


def test_cpchild__says_where_it_is_looked_for(mixed: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no folder .*CP-CHILD-negatives.images\. Put"):
        _ = mixed(name="cpchild", root=str(tmp_path)).dataset


def test_batch_of_tiles__is_zeros(mixed: Make) -> None:
    masks = [batch["mask"] for batch in mixed(name="cpchild").train_dataloader()]
    assert torch.cat(masks).sum() == 0


def test_mix_datasets__refuses_images_that_two_of_them_name(make: Make, tmp_path: Path) -> None:
    for name in ("CVC-ClinicDB", "Kvasir-SEG"):
        for folder in ("images", "masks"):
            (tmp_path / name / folder).mkdir(parents=True)
    for image in every_name("clinicdb-pranet"):
        for folder in ("images", "masks"):
            (tmp_path / f"CVC-ClinicDB/{folder}/{image}.png").touch()
    for image in every_name("kvasir-pranet"):
        for folder in ("images", "masks"):
            (tmp_path / f"Kvasir-SEG/{folder}/{image}.jpg").touch()
    with pytest.raises(ConfigError, match="names the images of clinicdb twice, by pranet too: leave one out"):
        _ = make(name="clinicdb,pranet", root=str(tmp_path)).dataset
