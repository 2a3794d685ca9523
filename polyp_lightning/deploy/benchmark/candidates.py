"""What a benchmark measures: models, each with a backend."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.bundle import check_backend, load_model, read_bundle
from polyp_lightning.deploy.runners.arrays import TORCH_BACKENDS, Runner

WARM_UP = 5


@dataclass(frozen=True)
class Candidate:
    """A model, exported or a checkpoint, with a backend.

    The cost is that of one frame of ``image_size``; the precision is float32 or int8; the Dice is that of its test, if
    known. A network of the user's own has the name of its class, if the user has named it.
    """

    model: Path
    backend: str
    image_size: int
    gmacs: float
    params: int
    precision: str
    dice: float | None
    arch: str = ""


def list_candidates(
    models: Sequence[Path], image_size: int | None, backends: Sequence[str] | None, named: Collection[str] = ()
) -> list[Candidate]:
    """Lists every model with every backend to run it in; by default all that it has here, at its own size.

    ``named`` are the networks of the user's own that a checkpoint may be of.
    """
    return [one for model in models for one in _candidates_of(model, image_size, backends, named)]


def _candidates_of(
    model: Path, image_size: int | None, backends: Sequence[str] | None, named: Collection[str]
) -> Iterator[Candidate]:
    if model.suffix == ".ckpt":
        kind, own = "checkpoint", _read_checkpoint(model, image_size, named)
    else:
        kind, own = _read_exported(model, image_size)
    for one in own:
        if backends is None and (not one.backend.startswith("cuda") or _has_cuda()):
            yield one
    for backend in backends or ():
        check_backend(backend, [one.backend for one in own], model, kind)
        yield next(one for one in own if one.backend == backend)


def _read_exported(model: Path, image_size: int | None) -> tuple[str, list[Candidate]]:
    bundle = read_bundle(model)
    size, facts = bundle.image_size, bundle.facts
    if image_size not in (None, size):
        msg = (
            f"--image_size {image_size}, but {model} was exported for {size}²: "
            f"export it again with --image_size {image_size}"
        )
        raise ConfigError(msg)
    cost = float(facts["gmacs"]), facts["params"], facts["precision"]
    return bundle.format.name, [
        Candidate(model, backend, size, *cost, bundle.test_dice_in(backend)) for backend in bundle.format.backends
    ]


def _read_checkpoint(model: Path, image_size: int | None, named: Collection[str]) -> list[Candidate]:
    from polyp_lightning.checkpoints.trained import load_net
    from polyp_lightning.deploy.rewriting.capture import check_size
    from polyp_lightning.networks.complexity import measure

    trained = load_net(model, "--model", named)
    size = image_size or trained.image_size
    check_size(size)
    cost = measure(trained.net, size)
    return [
        Candidate(model, backend, size, cost.gmacs, cost.params_used, "float32", None, trained.arch)
        for backend in TORCH_BACKENDS
    ]


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def load_candidate(candidate: Candidate, threads: int) -> Runner:
    """Loads a candidate's network and runs it until it has settled."""
    if candidate.model.suffix == ".ckpt":
        runner = _load_checkpoint(candidate, threads)
    else:
        runner = load_model(read_bundle(candidate.model), candidate.backend, threads)
    frame = np.zeros((1, candidate.image_size, candidate.image_size, 3), np.uint8)
    for _ in range(WARM_UP):
        runner(frame)
    return runner


def _load_checkpoint(candidate: Candidate, threads: int) -> Runner:
    """Loads a checkpoint's network with the preprocessing and the sigmoid of an export, batch norm not folded."""
    # PyTorch and Lightning, which exported models do without.
    from polyp_lightning.checkpoints.trained import load_net
    from polyp_lightning.deploy.rewriting.capture import Deployable
    from polyp_lightning.deploy.runners.torch_runner import TorchRunner

    trained = load_net(candidate.model, "--model", [candidate.arch])
    return TorchRunner(Deployable(trained.net, trained.mean, trained.std), candidate.backend, threads)
