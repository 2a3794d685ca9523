import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_data import write, write_pairs
from leaks import clinicdb_sequences
from lightning.pytorch import LightningModule, Trainer, seed_everything
from odd_files import by_pillow, exif

from polyp_lightning.common.errors import ConfigError, DataError
from polyp_lightning.data import datamodule, sources
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.data.reading import read_mask
from polyp_lightning.data.sets import DATASETS, dataset_of
from polyp_lightning.deploy.predicting import find_images

Make = Callable[..., PolypDataModule]


def _names(loader: Any) -> list[str]:
    return [name for batch in loader for name in batch["name"]]


def _epoch(loader: Any) -> tuple[list[str], torch.Tensor, torch.Tensor]:
    batches = list(loader)
    return (
        [name for batch in batches for name in batch["name"]],
        torch.cat([batch["image"] for batch in batches]),
        torch.cat([batch["mask"] for batch in batches]),
    )


def test_batches__are_as_promised(make: Make) -> None:
    data = make()
    for loader in (data.train_dataloader(), data.val_dataloader(), *data.test_dataloader(), data.predict_dataloader()):
        for batch in loader:
            count = len(batch["name"])
            assert (batch["image"].shape, batch["image"].dtype) == ((count, 3, 32, 32), torch.uint8)
            assert batch["image"].is_contiguous(memory_format=torch.channels_last)
            assert (batch["mask"].shape, batch["mask"].dtype) == ((count, 1, 32, 32), torch.uint8)
            assert set(batch["mask"].unique().tolist()) <= {0, 1}
            assert batch["path"] == [""] * count
            assert batch["size"] == [(288, 384)] * count


def test_test_batches__hold_the_original_masks(make: Make, folder: Path) -> None:
    data = make(name="folder", root=str(folder))
    assert all("original_mask" not in batch for batch in data.val_dataloader())
    (loader,) = data.test_dataloader()
    for batch in loader:
        for path, size, mask in zip(batch["path"], batch["size"], batch["original_mask"], strict=True):
            assert mask.dtype == torch.uint8
            assert tuple(mask.shape) == size
            partner = Path(path).parent.parent / "masks" / f"{Path(path).stem}.png"
            assert np.array_equal(mask.numpy(), read_mask(partner))


def test_train_dataloader__epochs_differ_and_runs_agree(make: Make) -> None:
    first, again, other = make(seed=1).train_dataloader(), make(seed=1).train_dataloader(), make(seed=2)
    epochs = [_epoch(first), _epoch(first)]
    repeated = [_epoch(again), _epoch(again)]
    for one, two in zip(epochs, repeated, strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])
        assert torch.equal(one[2], two[2])
    assert epochs[0][0] != epochs[1][0], "another order in the second epoch"
    by_name = [dict(zip(names, images, strict=True)) for names, images, _ in epochs]
    shared = by_name[0].keys() & by_name[1].keys()
    assert any(not torch.equal(by_name[0][name], by_name[1][name]) for name in shared), "another augmentation too"
    assert _epoch(other.train_dataloader())[0] != epochs[0][0]


@pytest.mark.parametrize("workers", [1, 2])
def test_train_dataloader__is_the_same_with_any_number_of_workers(make: Make, workers: int) -> None:
    alone, many = make(seed=3).train_dataloader(), make(seed=3, num_workers=workers).train_dataloader()
    assert many.persistent_workers
    for _ in range(2):
        one, two = _epoch(alone), _epoch(many)
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])


def test_train_dataloader__workers_send_one_tensor_a_batch(make: Make) -> None:
    batches = list(make(num_workers=1).train_dataloader())
    assert batches
    for batch in batches:
        assert type(batch) is dict
        assert batch["image"].untyped_storage().data_ptr() == batch["mask"].untyped_storage().data_ptr()


def test_train_dataloader__resumes_in_a_later_epoch(make: Make) -> None:
    loader, resumed = make().train_dataloader(), make().train_dataloader()
    _epoch(loader)
    resumed.sampler.set_epoch(1)  # type: ignore[attr-defined]
    assert torch.equal(_epoch(loader)[1], _epoch(resumed)[1])


def test_train_dataloader__drops_a_part_batch_unless_it_is_the_only_one(make: Make) -> None:
    assert [len(batch["name"]) for batch in make(batch_size=4).train_dataloader()] == [4, 4]
    assert [len(batch["name"]) for batch in make(batch_size=64).train_dataloader()] == [10]
    assert [len(batch["name"]) for batch in make(batch_size=10).train_dataloader()] == [10]


def test_eval_dataloaders__hold_every_frame_in_order_unchanged(make: Make) -> None:
    data = make(batch_size=3)
    assert _names(data.val_dataloader()) == ["phantom-0010", "phantom-0011"]
    assert _names(data.test_dataloader()[0]) == _names(data.predict_dataloader()) == ["phantom-0012", "phantom-0013"]
    image = next(iter(data.val_dataloader()))["image"][0].permute(1, 2, 0).numpy()
    assert np.array_equal(image, data.stores["phantom"].image(10))


def test_loaders__use_no_more_workers_than_frames(make: Make) -> None:
    data = make(num_workers=2, phantom_frames=7)
    assert (data.val_dataloader().num_workers, data.train_dataloader().num_workers) == (1, 2)


def test_workers__keep_opencv_to_one_thread_and_outlast_a_termination(make: Make) -> None:
    import cv2

    from polyp_lightning.data.loading import start_worker

    before, handler = cv2.getNumThreads(), signal.getsignal(signal.SIGTERM)
    try:
        start_worker(0)
        assert cv2.getNumThreads() == 1
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        cv2.setNumThreads(before)
        signal.signal(signal.SIGTERM, handler)
    assert make(num_workers=1).train_dataloader().worker_init_fn is start_worker


def test_kvasir__default_is_the_published_split(make: Make, kvasir_root: Path) -> None:
    data = make(name="kvasir", root=str(kvasir_root))
    described = data.describe()
    assert (described["split"], described["train"], described["val"], described["test"]) == ("880-120", 780, 100, 120)
    assert data.test_names == ["kvasir-120"]
    assert len(_names(data.test_dataloader()[0])) == 120


def test_kvasir__final_split_trains_on_most_of_the_validation_frames(make: Make, kvasir_root: Path) -> None:
    _check_final(make, "kvasir", kvasir_root, "880-120-final", (860, 20))


def test_clinicdb__final_split_trains_on_most_of_the_validation_frames(make: Make, clinicdb_root: Path) -> None:
    _check_final(make, "clinicdb", clinicdb_root, "sequence-final", (470, 25))


def _check_final(make: Make, name: str, root: Path, split: str, sizes: tuple[int, int]) -> None:
    published, final = (make(name=name, root=str(root), split=one).dataset for one in (None, split))
    assert (len(final.train), len(final.val)) == sizes
    assert set(final.train) > set(published.train)
    assert set(final.val) < set(published.val)
    assert {*final.train, *final.val} == {*published.train, *published.val}
    assert final.train == sorted(final.train)
    assert final.tests == published.tests


def test_clinicdb__default_is_by_sequence_in_every_layout(make: Make, clinicdb_root: Path) -> None:
    data = make(name="clinicdb", root=str(clinicdb_root))
    sequences = clinicdb_sequences()
    sides = [_names(data.val_dataloader()), _names(data.test_dataloader()[0]), [n for _, n in data.dataset.train]]
    seen = [{sequences[name] for name in side} for side in sides]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 29
    assert data.describe()["split"] == "sequence"
    assert make(name="clinicdb", root=str(clinicdb_root), split="pranet").test_names == ["clinicdb-62"]


def test_pranet__has_two_test_sets(make: Make, kvasir_root: Path, clinicdb_root: Path, tmp_path: Path) -> None:
    (tmp_path / "both").mkdir()
    (tmp_path / "both/Kvasir-SEG").symlink_to(kvasir_root / "Kvasir-SEG")
    (tmp_path / "both/CVC-ClinicDB").symlink_to(clinicdb_root / "CVC-ClinicDB")
    data = make(name="pranet", root=str(tmp_path / "both"))
    assert data.test_names == ["kvasir-100", "clinicdb-62"]
    assert [len(_names(loader)) for loader in data.test_dataloader()] == [100, 62]
    assert len(_names(data.predict_dataloader())) == 162
    described = data.describe()
    assert (described["train"], described["val"], described["test"]) == (1305, 145, 162)


def test_kvasir__incomplete_data_names_what_is_missing(make: Make, tmp_path: Path) -> None:
    home = tmp_path / "Kvasir-SEG"
    write_pairs(home / "images", home / "masks", ["cju0qkwl35piu0993l0dewei2"], ".jpg")
    with pytest.raises(DataError, match=r"train list names images .*images does not have.*\(5 of 77\d\).*make data"):
        _ = make(name="kvasir", root=str(tmp_path)).dataset


def test_folder__tenths_are_disjoint_and_fixed(make: Make, folder: Path) -> None:
    parts = [make(name="folder", root=str(folder), seed=seed).dataset for seed in (0, 7)]
    assert [parts[0].train, parts[0].val, parts[0].tests] == [parts[1].train, parts[1].val, parts[1].tests]
    every = [*parts[0].train, *parts[0].val, *parts[0].tests["folder-1"]]
    assert (len(every), len(set(every)), len(parts[0].train)) == (12, 12, 10)


def test_folder__uses_its_lists(make: Make, folder: Path) -> None:
    (folder / "train.txt").write_text("f00.jpg\nf01\n")
    (folder / "val.txt").write_text("f02\n")
    (folder / "test.txt").write_text("f04\nf03\n")
    data = make(name="folder", root=str(folder))
    assert data.describe()["split"] == "lists"
    assert _names(data.predict_dataloader()) == ["f04", "f03"]
    assert sorted(_names(data.train_dataloader())) == ["f00", "f01"]
    assert make(name="folder", root=str(folder), split="80-10-10").describe()["train"] == 10


def test_folder__empty_part_says_which_list_to_write(make: Make, folder: Path) -> None:
    (folder / "test.txt").write_text("f00\n")
    data = make(name="folder", root=str(folder))
    assert _names(data.test_dataloader()[0]) == ["f00"]
    with pytest.raises(DataError, match=r"train part .* is empty: write image names into .*train\.txt"):
        data.train_dataloader()


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ({"train": "f00\nnope"}, r"train list names images that .* does not have: nope\. Correct the list"),
        ({"train": "f00", "val": "f00.jpg"}, r"val and train lists of .* overlap: f00"),
        ({"train": "../images/f00"}, r"names that are paths"),
    ],
)
def test_folder__bad_lists_are_refused(make: Make, folder: Path, lists: dict[str, str], message: str) -> None:
    for part, names in lists.items():
        (folder / f"{part}.txt").write_text(names)
    with pytest.raises(DataError, match=message):
        _ = make(name="folder", root=str(folder)).dataset


def test_folder__lists_asked_for_but_absent(make: Make, folder: Path) -> None:
    with pytest.raises(DataError, match=r"holds none of train\.txt, val\.txt and test\.txt"):
        _ = make(name="folder", root=str(folder), split="lists").dataset


def test_folder__too_few_images(make: Make, tmp_path: Path) -> None:
    write_pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"], ".png")
    with pytest.raises(DataError, match="holds 2 images, too few"):
        _ = make(name="folder", root=str(tmp_path)).dataset


def test_predict__says_what_is_left_out_and_how_to_take_all(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(datamodule, "rank_zero_info", said.append)
    write_pairs(tmp_path / "images", tmp_path / "masks", [f"f{number:02d}" for number in range(16)], ".png")
    make(name="folder", root=str(tmp_path)).setup("predict")
    (line,) = said
    assert line.startswith(f"predict: 2 of 16 images, the test part; all with --source {tmp_path / 'images'} in place")
    assert len(find_images([str(tmp_path / "images")])) == 16
    make().setup("predict")
    assert len(said) == 1


def test_folder__without_masks_predicts_only(make: Make, tmp_path: Path) -> None:
    write_pairs(tmp_path / "images", None, ["a", "b"], ".jpg")
    data = make(name="folder", root=str(tmp_path))
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert (batch["name"], batch["size"]) == (["a", "b"], [(23, 31), (24, 32)])
    assert batch["path"] == [str(tmp_path / "images" / f"{name}.jpg") for name in "ab"]
    assert "mask" not in batch
    with pytest.raises(DataError, match="has no folder masks/"):
        data.setup("fit")


def test_root__flag_then_environment_then_default(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYP_DATA", "/from/environment")
    assert make(root="/flag").root == Path("/flag")
    assert make().root == Path("/from/environment")
    monkeypatch.delenv("POLYP_DATA")
    assert make().root == Path("datasets")


def test_seed__flag_then_the_runs_then_zero(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PL_GLOBAL_SEED", raising=False)
    zero, three = (_names(make(seed=seed).train_dataloader()) for seed in (0, 3))
    assert zero != three
    assert _names(make().train_dataloader()) == zero
    monkeypatch.setenv("PL_GLOBAL_SEED", "9")  # is put back afterwards
    seed_everything(3)
    assert _names(make().train_dataloader()) == three
    assert _names(make(seed=0).train_dataloader()) == zero


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "kvasr"}, rf"--data\.name=kvasr .*allowed: {', '.join(DATASETS)}"),
        ({"name": "clinicdb", "split": "random"}, r"--data\.split=random .*allowed: sequence, sequence-final, pranet"),
        ({"image_size": 0}, r"--data\.image_size=0 is too small: at least 32"),
        ({"batch_size": 0}, r"--data\.batch_size=0 "),
        ({"num_workers": -1}, r"--data\.num_workers=-1 "),
        ({"seed": -1}, r"--data\.seed=-1 "),
        ({"augmentation": "heavy"}, r"--data\.augmentation=heavy is unknown: light, strong"),
    ],
)
def test_options__out_of_range_are_refused(make: Make, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_phantom__too_few_frames(make: Make) -> None:
    with pytest.raises(ConfigError, match="at least 7"):
        _ = make(phantom_frames=6).dataset


def test_describe__holds_plain_values_without_paths(make: Make, folder: Path) -> None:
    described = make(name="folder", root=str(folder)).describe()
    assert all(type(value) in {str, int} for value in described.values())
    assert not any(str(folder.parent) in str(value) for value in described.values())
    assert {"data", "split", "protocol", "train", "val", "test", "test_sets", "image_size", "cache_key"} == set(
        described
    )


def test_epoch__reads_no_file_once_cached(make: Make, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(name="folder", root=str(folder)).prepare_data()

    def decode(image: Path, mask: Path | None) -> None:
        raise AssertionError(f"decoded {image}")

    monkeypatch.setattr(sources, "read_pair", decode)
    data = make(name="folder", root=str(folder))
    for loader in (data.train_dataloader(), data.val_dataloader(), *data.test_dataloader(), data.predict_dataloader()):
        assert _names(loader)


class _Counter(LightningModule):
    """Notes the names of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.epochs: dict[int, list[str]] = {}

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        self.epochs.setdefault(self.current_epoch, []).extend(batch["name"])
        brightness: torch.Tensor = batch["image"].float().mean()
        return self.weight * brightness

    def validation_step(self, batch: dict[str, Any], index: int) -> None: ...

    def test_step(self, batch: dict[str, Any], index: int, dataloader_idx: int = 0) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_trainer__runs_and_sets_the_epoch(make: Make, tmp_path: Path) -> None:
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, log_every_n_steps=1,
    )  # fmt: skip
    module, data = _Counter(), make()
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data, verbose=False)
    bare = make().train_dataloader()
    assert module.epochs == {0: _names(bare), 1: _names(bare)}


@pytest.mark.data
def test_kvasir__real_data_fits_the_lists(make: Make, real_data: Path) -> None:
    data = make(name="kvasir", root=str(real_data))
    assert len(data.dataset.sources["kvasir"].names) == 1000
    assert data.describe()["test"] == 120
    batch = next(iter(data.test_dataloader()[0]))
    assert all(tuple(m.shape) == size for m, size in zip(batch["original_mask"], batch["size"], strict=True))
    assert all(mask.any() for batch in data.val_dataloader() for mask in batch["mask"])


@pytest.mark.data
def test_clinicdb__real_data_fits_the_lists(make: Make, real_data: Path) -> None:
    data = make(name="clinicdb", root=str(real_data))
    assert data.describe()["train"] == 425
    assert make(name="pranet", root=str(real_data)).test_names == ["kvasir-100", "clinicdb-62"]


def test_prepare_data__mask_of_another_size_names_both(make: Make, folder: Path) -> None:
    write(folder / "masks/f03.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(DataError, match=r"f03\.jpg is .*f03\.png is 6×5"):
        make(name="folder", root=str(folder)).prepare_data()


def test_folder__colours_of_masks_that_count(make: Make, tmp_path: Path) -> None:
    """As in BKAI-IGH NeoPolyp: red for neoplastic, green for not."""
    mask = np.zeros((32, 32, 3), np.uint8)
    mask[4:12, 4:12, 0], mask[20:24, 4:8, 1] = 255, 255
    for name in "abc":
        write(tmp_path / f"images/{name}.png", mask // 2)
        write(tmp_path / f"masks/{name}.png", mask)
    options = {"name": "folder", "root": str(tmp_path)}
    both, red = make(**options), make(**options, mask_colours="red")
    for data, area in ((both, 64 + 16), (red, 64)):
        assert [int(mask.sum()) for batch in data.val_dataloader() for mask in batch["mask"]] == [area]
    assert "mask_colours" not in both.describe()
    facts = red.describe()
    assert facts["mask_colours"] == "red"
    assert facts["cache_key"] != both.describe()["cache_key"]
    _, found = dataset_of(facts, tmp_path).read(("folder", "a"))
    assert found is not None
    assert np.array_equal(found > 0, mask[..., 0] > 0)


def test_mask_colours__are_refused_where_there_are_none(make: Make) -> None:
    with pytest.raises(ConfigError, match=r"--data\.mask_colours=reed holds no colour"):
        make(mask_colours="reed")
    with pytest.raises(ConfigError, match=r"--data\.mask_colours=red has no use for phantom"):
        _ = make(mask_colours="red").dataset


def test_folder__images_are_upright_for_prediction(make: Make, tmp_path: Path) -> None:
    stored = np.zeros((32, 64, 3), np.uint8)
    stored[:, :32] = 200  # bright on the left, as stored
    (tmp_path / "images").mkdir()
    for orientation in (1, 3, 6):
        by_pillow(tmp_path / f"images/{orientation}.png", stored, exif=exif(orientation))
    (batch,) = make(name="folder", root=str(tmp_path)).predict_dataloader()
    assert batch["size"] == [(32, 64), (32, 64), (64, 32)]
    bright = batch["image"].float().mean(1) > 100
    left, top = torch.arange(32)[None, :] < 16, torch.arange(32)[:, None] < 16
    for found, wanted in zip(bright, (left, ~left, top), strict=True):
        assert torch.equal(found, wanted.expand(32, 32))
