"""A run goes on from checkpoints in which one thing is wrong: it works, or a message says why not."""

import copy
import random
import signal
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything
from small_run import SmallNet, replace_nets

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.checkpoints.record import KEY
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.errors import PolypError, TrainingError
from polyp_lightning.data.datamodule import PolypDataModule
from polyp_lightning.tracking import StageCheckpoint
from polyp_lightning.training.module import PolypSegmenter

pytestmark = pytest.mark.filterwarnings("ignore:the nearest to a budget")
PARTS = ("loops", "callbacks", "optimizer_states", "lr_schedulers", "hyper_parameters", KEY)
PARTS += ("epoch", "global_step", "pytorch-lightning_version")
# One takes half a second; the machine may have other things to do.
SECONDS = 60
DELETED = object()
WRONG: list[Any] = [
    *(DELETED, None, True, "x", [], {}, -1, 0, 2**63, -(2**63), 1e300, -1.0, float("nan"), [[1]], {"a": 1}),
    *(torch.zeros(0), torch.zeros(3, 3), torch.full((2,), float("nan"))),
]
Place = tuple[Any, ...]


class Small:
    """A run of 3 epochs with cuts at the starts of epochs 1 and 2, in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = PolypDataModule(
            phantom_frames=14, image_size=32, batch_size=4, num_workers=0, cache_dir=str(folder / "cache")
        )

    def trainer(self, folder: str) -> Trainer:
        return Trainer(
            default_root_dir=self.folder / folder,
            callbacks=[TaylorFOPruning(0.5, 1, 2, recalibration_batches=1), StageCheckpoint()],
            **{"accelerator": "cpu", "logger": False, "max_epochs": 3, "num_sanity_val_steps": 0},
            **{"enable_progress_bar": False, "enable_model_summary": False},
        )

    def fit(self, folder: str, ckpt_path: Path | None = None) -> None:
        seed_everything(0, verbose=False)
        self.trainer(folder).fit(PolypSegmenter(image_size=32), datamodule=self.data, ckpt_path=ckpt_path)

    def test(self, ckpt_path: Path) -> None:
        self.trainer("test").test(
            PolypSegmenter(image_size=32), datamodule=self.data, ckpt_path=ckpt_path, verbose=False
        )


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """With the checkpoint of the second of its three epochs."""
    replace_nets(lambda *_: SmallNet(), monkeypatch)
    step = PolypSegmenter.training_step

    def interrupted(self: PolypSegmenter, *args: Any) -> Any:
        if self.current_epoch == 2:
            raise TrainingError("enough")
        return step(self, *args)

    made = Small(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(PolypSegmenter, "training_step", interrupted)
        with pytest.raises(TrainingError, match="enough"):
            made.fit("run")
    return made


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """The paths of all values inside, containers too; of long lists the first two."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def damaged(stored: dict[str, Any], path: Place, wrong: Any) -> dict[str, Any]:
    changed = copy.deepcopy(stored)
    inside: Any = changed
    for key in path[:-1]:
        inside = inside[key]
    if wrong is DELETED:
        del inside[path[-1]]
    else:
        inside[path[-1]] = wrong
    return changed


def too_long(number: int, frame: Any) -> None:
    raise TimeoutError("hangs")


def outcomes(small: Small, cases: list[tuple[Place, Any]], stored: dict[str, Any]) -> dict[str, list[str]]:
    """What became of each damaged checkpoint, by verb and outcome."""
    bad = small.folder / "run" / "checkpoints" / "bad.ckpt"
    verbs = {"fit": lambda: small.fit("again", bad), "test": lambda: small.test(bad), "export": lambda: load_net(bad)}
    found: dict[str, list[str]] = {}
    before = signal.signal(signal.SIGALRM, too_long)
    for path, wrong in cases:
        torch.save(damaged(stored, path, wrong), bad)
        for verb, call in verbs.items():
            told, what = "loaded", "deleted" if wrong is DELETED else f"{wrong!r:.30}"
            signal.alarm(SECONDS)
            try:
                call()
            # The command line makes a message of Lightning's own complaints.
            except (PolypError, MisconfigurationException) as error:
                told = "refused" if str(error) else "escaped"
            except Exception as error:
                told = "escaped"
                at = traceback.extract_tb(error.__traceback__)[-1]
                what += f" gives {type(error).__name__}: {error!s:.80} in {at.filename}:{at.lineno}"
            finally:
                signal.alarm(0)
            found.setdefault(f"{verb} {told}", []).append(f"{'.'.join(map(str, path))} = {what}")
    signal.signal(signal.SIGALRM, before)
    return found


def everything(stored: dict[str, Any]) -> list[Place]:
    slim = {key: copy.copy(stored[key]) for key in PARTS}
    (state,) = stored["optimizer_states"]
    slim["optimizer_states"] = [state | {"state": {n: state["state"][n] for n in (0, 1)}}]
    # The network's plan has a fuzz of its own.
    slim[KEY] = stored[KEY] | {"plan": 0}
    return [path for path in places(slim) if path and path != (KEY, "plan")]


def test_fit__goes_on_from_the_whole_one_and_not_from_damaged_ones(small: Small) -> None:
    last = small.folder / "run" / "checkpoints" / "last.ckpt"
    stored = torch.load(last, weights_only=True)
    small.fit("again", last)
    small.test(last)
    load_net(last)
    cases: list[tuple[Place, Any]] = [
        (("loops", "fit_loop", "epoch_progress", "current", "processed"), "x"),
        (("loops", "fit_loop", "epoch_progress", "current", "processed"), -(2**63)),
        (("loops", "fit_loop", "epoch_progress"), DELETED),
        (("optimizer_states", 0, "state", 0, "exp_avg"), DELETED),
        (("optimizer_states", 0, "state", 1, "exp_avg_sq"), torch.zeros(3, 3)),
        (("lr_schedulers", 0, "last_epoch"), 2**63),
        ((KEY, "rng", "cpu"), torch.zeros(3)),
        (("pytorch-lightning_version",), "0.1"),
    ]
    found = outcomes(small, cases, stored)
    assert not [key for key in found if "escaped" in key], found
    assert len(found["fit refused"]) == len(cases), found
    # Of these, evaluation needs the version only.
    assert len(found["test refused"]) == 1, found


@pytest.mark.slow
def test_fit__damage_anywhere_is_told_or_harmless(small: Small) -> None:
    stored = torch.load(small.folder / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    rng, paths = random.Random(0), everything(stored)  # noqa: S311
    found = outcomes(small, [(path, wrong) for path in paths for wrong in rng.sample(WRONG, 3)], stored)
    print({key: len(value) for key, value in sorted(found.items())})
    escaped = [line for key, value in found.items() if "escaped" in key for line in value]
    assert not escaped, "\n".join(escaped)
    assert len(found["fit refused"]) > len(paths)
