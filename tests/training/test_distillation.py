from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from frames import SIZE, Frames, collate, sample, trainer
from lightning.pytorch import Callback

from polyp_lightning.callbacks.pruning import TaylorFOPruning
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.training.distillation import Teacher, divergence, mean_logits
from polyp_lightning.training.module import PolypSegmenter


def test_divergence__equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = (rng.normal(0, 3, (2, 1, 4, 5)) for _ in range(2))
    expected = 0.0
    for a, b in zip(ours.ravel(), theirs.ravel(), strict=True):
        p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
        expected += (q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))) / ours.size
    assert divergence(torch.tensor(ours), torch.tensor(theirs)).item() == pytest.approx(expected, rel=1e-5)


def test_divergence__by_hand() -> None:
    """q = 3/4, p = 1/2: ¾·ln(3/2) + ¼·ln(1/2)."""
    theirs = torch.full((1, 1, 1, 1), np.log(3.0))
    assert divergence(torch.zeros(1, 1, 1, 1), theirs).item() == pytest.approx(0.75 * np.log(1.5) - 0.25 * np.log(2))


def test_divergence__is_zero_at_agreement_and_its_gradient_is_p_minus_q() -> None:
    logits = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)) * 30
    assert divergence(logits, logits).item() == pytest.approx(0, abs=1e-6)
    ours, theirs = torch.randn(2, 1, 3, 3).requires_grad_(), torch.randn(2, 1, 3, 3).requires_grad_()
    divergence(ours, theirs).backward()
    assert theirs.grad is None
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, (ours.sigmoid() - theirs.sigmoid()).detach() / ours.numel())


def test_mean_logits__equals_a_loop() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.normal(0, 5, (2, 1, 3, 4)) for _ in range(2))
    expected = np.empty_like(first)
    for at, (a, b) in enumerate(zip(first.ravel(), second.ravel(), strict=True)):
        p = (1 / (1 + np.exp(-a)) + 1 / (1 + np.exp(-b))) / 2
        expected.ravel()[at] = np.log(p / (1 - p))
    np.testing.assert_allclose(mean_logits(torch.tensor(first), torch.tensor(second)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("logit", [-90.0, -30.0, 30.0, 90.0])
def test_mean_logits__keeps_what_a_probability_would_round_away(logit: float) -> None:
    one = torch.tensor([logit], dtype=torch.bfloat16)
    assert mean_logits(one, one).item() == pytest.approx(logit, rel=1e-6)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher of another encoder, and so of another normalisation."""
    torch.manual_seed(5)
    folder = tmp_path_factory.mktemp("dense")
    run = trainer(folder, limit_train_batches=1, limit_val_batches=0)
    run.fit(PolypSegmenter(encoder="timm-tf_efficientnet_lite0", image_size=SIZE), datamodule=Frames(4))
    run.save_checkpoint(folder / "dense.ckpt")
    return folder / "dense.ckpt"


def test_teacher__says_what_the_module_of_its_checkpoint_says(dense: Path) -> None:
    module = PolypSegmenter.load_from_checkpoint(dense, weights_only=True).eval()
    image = collate([sample(0), sample(1)])["image"]
    torch.testing.assert_close(Teacher(str(dense), 0.5, SIZE)(image), module(image).detach(), atol=1e-5, rtol=1e-4)


def test_teacher__answers_a_mirror_image_with_the_mirrored_mean(dense: Path) -> None:
    module = PolypSegmenter.load_from_checkpoint(dense, weights_only=True).eval()
    taught = PolypSegmenter(image_size=SIZE, distill_from=str(dense), distill_mirrored=True)
    assert taught.teacher is not None
    image = collate([sample(0), sample(1)])["image"]
    with torch.no_grad():
        views = [module(image).double().sigmoid(), module(image.flip(3)).double().sigmoid().flip(3)]
    assert (views[0] - views[1]).abs().max() > 1e-3
    logits = taught.teacher(image)
    torch.testing.assert_close(logits.double().sigmoid(), (views[0] + views[1]) / 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(taught.teacher(image.flip(3)), logits.flip(3), atol=1e-5, rtol=1e-4)


def test_teacher__stays_out_of_the_module(dense: Path, tmp_path: Path) -> None:
    taught = PolypSegmenter(image_size=SIZE, distill_from=str(dense), distill_weight=0.25)
    plain = PolypSegmenter(image_size=SIZE)
    assert taught.teacher is not None
    assert taught.state_dict().keys() == plain.state_dict().keys()
    assert len(list(taught.modules())) == len(list(plain.modules()))
    assert dict(taught.hparams) == dict(plain.hparams)
    before = {name: value.clone() for name, value in taught.teacher.net.state_dict().items()}
    run = trainer(tmp_path, limit_train_batches=2, limit_val_batches=0)
    run.fit(taught, datamodule=Frames(8))
    run.save_checkpoint(tmp_path / "taught.ckpt")
    after = taught.teacher.net.state_dict()
    # Batch-norm statistics among them: it never trains.
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(layer.training for layer in taught.teacher.net.modules())
    # The file is complete without the teacher's.
    PolypSegmenter.load_from_checkpoint(tmp_path / "taught.ckpt", weights_only=True)


def test_training_step__mixes_task_and_divergence(dense: Path, tmp_path: Path) -> None:
    batch = collate([sample(0), sample(1)])
    values = {}
    for weight in (None, 0.25, 1.0):
        torch.manual_seed(0)
        options: dict[str, Any] = {} if weight is None else {"distill_from": str(dense), "distill_weight": weight}
        module = PolypSegmenter(image_size=SIZE, **options)
        run = trainer(tmp_path)
        run.strategy.connect(module)
        module.trainer = run
        module.log = lambda *_, **__: None  # type: ignore[method-assign]
        values[weight] = module.training_step(batch, 0).item()
    assert values[0.25] == pytest.approx(0.75 * values[None] + 0.25 * values[1.0], rel=1e-5)
    assert values[1.0] != pytest.approx(values[None], rel=1e-2)


class Counts(Callback):
    """In which epochs the teacher was asked."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        mixed = pl_module.teacher.mix

        def noted(*args: Any) -> Any:
            self.epochs.append(trainer.current_epoch)
            return mixed(*args)

        pl_module.teacher.mix = noted


@pytest.mark.parametrize(("target", "expected"), [(0.5, [2, 3]), (1.0, [0, 1, 2, 3])])
def test_fit__the_teacher_takes_part_after_the_last_cut(
    dense: Path, tmp_path: Path, target: float, expected: list[int]
) -> None:
    module, counts = PolypSegmenter(image_size=SIZE, distill_from=str(dense)), Counts()
    pruning = TaylorFOPruning(target, 1, 2, recalibration_batches=1)
    trainer(tmp_path, 4, callbacks=[pruning, counts], limit_train_batches=1, limit_val_batches=1).fit(
        module, datamodule=Frames(4)
    )
    assert counts.epochs == expected
    assert len(pruning.history) == (3 if target < 1 else 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"distill_weight": 0.0}, r"distill_weight=0\.0 must be above 0"),
        ({"distill_weight": 1.5}, r"--model\.distill_weight"),
        ({"image_size": 96}, r"trained at 64², this run is at 96²"),
        ({"distill_from": "nowhere"}, r"--model\.distill_from nowhere is not a file"),
    ],
)
def test_init__refuses_what_cannot_teach(dense: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        PolypSegmenter(**{"image_size": SIZE, "distill_from": str(dense), **options})
