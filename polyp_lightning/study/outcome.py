"""From the files of a finished run to its rows in the table."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from polyp_lightning.checkpoints.record import build_dense
from polyp_lightning.checkpoints.test_scores import CheckpointScores, ImageScore, read_images, read_scores
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.errors import DataError
from polyp_lightning.common.files import hide_home, sha256
from polyp_lightning.common.machine import processor
from polyp_lightning.deploy.benchmark.timers import build_timer
from polyp_lightning.networks.complexity import measure
from polyp_lightning.study.plan import Cell, Study
from polyp_lightning.study.results import Result
from polyp_lightning.study.timing import time_undisturbed


@dataclass(frozen=True)
class Outcome:
    """The rows of a run, one for each test set, and of its images."""

    results: list[Result]
    images: list[ImageScore]


def collect_outcome(
    study: Study, cell: Cell, out: Path, checkpoint: Path, tests: Sequence[Path], command: Sequence[str], minutes: float
) -> Outcome:
    """Collects the results of a finished run, whose checkpoint was chosen by validation.

    The tests are folders in which `test` has left its scores; the command is what trained the run, without the program,
    and ``minutes`` its wall time.
    """
    named = [cell.net.arch]
    trained = load_net(checkpoint, named=named)
    size, digest = trained.image_size, sha256(checkpoint)
    whole = build_dense(trained, named)
    cost, dense = measure(trained.net, size), measure(whole, size)
    timer = build_timer(study.backend, study.threads)
    ms = time_undisturbed(timer, trained.net, (1, 3, size, size))
    results, images = [], []
    for folder in tests:
        scores = _scores(folder, digest)
        images += read_images(folder)
        results += [
            Result(
                run=cell.id,
                kind=cell.kind,
                arch=cell.net.arch,
                encoder=cell.net.encoder,
                encoder_weights=Path(cell.net.encoder_weights or "").name,
                data=str(trained.data.get("data", "")),
                split=str(trained.data.get("split", "")),
                test_set=test_set,
                image_size=size,
                criterion=cell.criterion.key if cell.criterion else "",
                schedule=cell.schedule,
                distill=int(cell.distill),
                target=cell.target,
                seed=cell.seed,
                epochs=study.epochs_of(cell),
                val_dice=float("nan") if trained.val_dice is None else trained.val_dice,
                dice=values["dice"],
                iou=values["iou"],
                pranet_dice=values["dice_pranet"],
                hd95=values["hd95"],
                false_positive_rate=values["false_positive_rate"],
                gmacs=cost.gmacs,
                dense_gmacs=dense.gmacs,
                params=cost.params_used,
                dense_params=dense.params_used,
                ms=ms,
                ms_backend=study.backend,
                threads=study.threads,
                machine=processor(),
                minutes=round(minutes, 2),
                checkpoint=checkpoint.relative_to(out).as_posix(),
                command=hide_home(shlex.join(["python", "-m", "polyp_lightning", *command])),
                versions=", ".join(f"{name} {version}" for name, version in trained.versions.items()),
                date=datetime.now(UTC).isoformat(timespec="seconds"),
            )
            for test_set, values in scores.test_sets.items()
        ]
    return Outcome(results, images)


def _scores(folder: Path, digest: str) -> CheckpointScores:
    for one in read_scores(folder):
        if one.sha256 == digest:
            return one
    msg = f"{folder} holds no test scores of this checkpoint; remove the run's folder to run it again"
    raise DataError(msg)
