"""A training step inside Lightning's loop against a bare loop, and a scored step against one that is not: ratios."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from fits import quiet_trainer
from measuring import Effort, Pairs
from setting import Setting
from training import Batch, Turns

from polyp_lightning.pruning import trace
from polyp_lightning.pruning.criteria import build_criterion


class ManySteps(Turns):
    """Turns of several steps: waiting for the device after each would hide what runs ahead of it."""

    def __len__(self) -> int:
        return 10**6


def run(setting: Setting) -> None:
    """Eager first; compiling takes long, and comes last."""
    kinds = [("32-true", None), ("bf16-mixed", None)]
    for precision, _ in kinds:
        _against_bare(setting, precision, None)
        _scored(setting, precision)
    _against_bare(setting, "bf16-mixed", setting.compiler)


def images_per_second(setting: Setting) -> float:
    """What the fastest of our eager training steps eats."""
    module, batch, steps = setting.module(), setting.training_batch(), _steps(setting)
    pairs = _fit(setting, module, "bf16-mixed", _ours(setting, batch), lambda: iter(()), 1)
    return steps * setting.batch / min(pairs.ours)


def _steps(setting: Setting) -> int:
    return 2 if setting.rehearse else 20


def _against_bare(setting: Setting, precision: str, backend: str | None) -> None:
    module, batch = setting.module(compile_net=backend), setting.training_batch()
    bare = _bare_step(setting, module, batch, precision, backend)

    def reference() -> Iterator[Batch]:
        for _ in range(_steps(setting)):
            bare()
        setting.wait()
        yield from ()

    pairs = _fit(setting, module, precision, _ours(setting, batch), reference)
    what = f"step against a bare loop, {precision}{', compiled' if backend else ''}, {_size(setting)}"
    _row(setting, what, pairs, 1.05)


def _scored(setting: Setting, precision: str) -> None:
    module, batch = setting.module(), setting.training_batch()
    graph = trace(module.net, (2, 3, setting.side, setting.side))
    criterion = build_criterion("taylor")
    ours = _ours(setting, batch)

    def watched() -> Iterator[Batch]:
        criterion.attach(module.net, graph)
        yield from ours()
        criterion.detach()

    pairs = _fit(setting, module, precision, watched, ours)
    _row(setting, f"step scored by taylor against one that is not, {precision}, {_size(setting)}", pairs, 1.03)


def _ours(setting: Setting, batch: Batch) -> Callable[[], Iterator[Batch]]:
    def turn() -> Iterator[Batch]:
        for _ in range(_steps(setting)):
            yield batch
        setting.wait()

    return turn


def _bare_step(setting: Setting, module: Any, batch: Batch, precision: str, backend: str | None) -> Callable[[], None]:
    net = copy.deepcopy(module.net).to(setting.device).train()
    if backend:
        net.compile(backend=backend)
    optimizer = torch.optim.AdamW(net.parameters(), lr=module.lr)
    shift, scale = 255 * module.mean.to(setting.device), 255 * module.std.to(setting.device)

    def step() -> None:
        image = batch["image"].to(dtype=torch.float32, memory_format=torch.channels_last)
        with torch.autocast(setting.device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = module.loss(net((image - shift) / scale), batch["mask"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _fit(setting: Setting, module: Any, precision: Any, ours: Any, reference: Any, least: int = 0) -> Pairs:
    effort = Effort(0, 1, 1) if setting.rehearse else Effort(6, least or 6, 40)
    turns = ManySteps(ours, reference, effort)
    trainer = quiet_trainer(
        setting.device.type, setting.folder, precision=precision, max_epochs=1, enable_checkpointing=False
    )
    trainer.fit(module, train_dataloaders=turns)
    return turns.pairs


def _size(setting: Setting) -> str:
    return f"{setting.side}², batch {setting.batch}"


def _row(setting: Setting, what: str, pairs: Pairs, limit: float) -> None:
    row = pairs.row(what, limit)
    steps = _steps(setting)
    milliseconds = [f"{1e3 * sorted(side)[len(side) // 2] / steps:.1f}" for side in (pairs.ours, pairs.reference)]
    # One turn says nothing of speed.
    met = None if setting.rehearse else row.met
    setting.results.row(row.what, row.asked, f"{row.median:.3f}× ({' / '.join(milliseconds)} ms)", met)
