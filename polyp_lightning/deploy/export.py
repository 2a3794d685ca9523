"""``export``: from a checkpoint to a model that any runtime takes, checked against the network before it is written."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from polyp_lightning.checkpoints.test_scores import CheckpointScores, read_scores
from polyp_lightning.checkpoints.trained import TrainedNet, load_net
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import sha256
from polyp_lightning.deploy import formats, quantise
from polyp_lightning.deploy.bundle import (
    SUFFIXES,
    Bundle,
    facts_of_graph,
    model_files,
    read_bundle,
    sidecar,
    write_sidecar,
)
from polyp_lightning.deploy.graph import Deployable, capture, check_size
from polyp_lightning.deploy.parity import compare, mean_dice, require_parity
from polyp_lightning.deploy.runtime import BACKENDS, Runner, load
from polyp_lightning.deploy.runtime_torch import TorchRunner
from polyp_lightning.deploy.samples import dataset_samples, parity_samples
from polyp_lightning.networks.complexity import measure

PARITY_FRAMES = 8
DICE_FRAMES = 100
SCORE_PROTOCOL = "mean over images of the Dice at threshold 0.5, logits resized to the original resolution"

_VERSIONED = ("polyp-lightning", "torch", "segmentation-models-pytorch", "onnx", "onnxruntime", "openvino", "nncf")


@dataclass(frozen=True)
class ExportOptions:
    """What to export and how.

    Attributes:
        ckpt_path: a checkpoint that ``fit`` or ``prune`` has written.
        format: one of :data:`~polyp_lightning.deploy.bundle.SUFFIXES`.
        int8: quantise to 8 bits, calibrated on training frames (``onnx`` and ``openvino``).
        image_size: side in pixels; None for that of the training.
        dynamic_batch: take any number of frames at once instead of one.
        output: the model's file; None for one in the run's folder ``export``.
        overwrite: replace what an earlier export has written.
        data_root: the folder of data sets.
        score: also score the exported file on the test images.
    """

    ckpt_path: Path
    format: str
    int8: bool = False
    image_size: int | None = None
    dynamic_batch: bool = False
    output: Path | None = None
    overwrite: bool = False
    data_root: Path = Path("datasets")
    score: bool = False


def export(options: ExportOptions, say: Callable[[str], None] = print) -> Bundle:
    """Writes a model and its sidecar.

    Args:
        options: what to export.
        say: takes the lines of the report.

    Returns:
        What was written.

    Raises:
        ConfigError: an option can't work, a package is missing, or the result differs from the network; in that case
            nothing was written.
        DataError: frames that are needed are not there.
    """
    _check(options)
    trained = load_net(options.ckpt_path)
    size = options.image_size or trained.image_size
    check_size(size)
    target = options.output or _default_output(options, size)
    _check_free(target, options.overwrite)
    module = Deployable(trained.net, trained.mean, trained.std)
    with _staged(target) as staged:
        say(f"{trained.arch} with {trained.encoder} at {size}²: exporting {'int8 ' * options.int8}{options.format}")
        extra = _write(module, trained, options, size, staged)
        facts = {**_facts(trained, options, size), **extra}
        written, threads = Bundle(staged, facts), torch.get_num_threads()
        facts |= _checked(module, trained, options, size, lambda name: load(written, name, threads), say)
        write_sidecar(staged, facts)
    say(f"wrote {target} ({sum(path.stat().st_size for path in model_files(target)) / 1e6:.1f} MB) and its sidecar")
    return read_bundle(target)


def _check(options: ExportOptions) -> None:
    if options.format not in SUFFIXES:
        msg = f"--format {options.format} is unknown; allowed: {', '.join(SUFFIXES)}"
        raise ConfigError(msg)
    if options.int8 and options.format not in ("onnx", "openvino"):
        msg = f"--int8 goes with --format onnx or openvino, not with {options.format}"
        raise ConfigError(msg)
    if options.ckpt_path.suffix in SUFFIXES.values():
        msg = f"--ckpt_path {options.ckpt_path} is an exported model already; give the checkpoint that it was made of"
        raise ConfigError(msg)
    if options.output is not None and options.output.suffix != SUFFIXES[options.format]:
        msg = f"--output {options.output} has to end in {SUFFIXES[options.format]} for --format {options.format}"
        raise ConfigError(msg)


def _default_output(options: ExportOptions, size: int) -> Path:
    """In ``export`` beside the run's ``checkpoints``, or beside a checkpoint that lies elsewhere."""
    folder = options.ckpt_path.parent
    folder = folder.parent / "export" if folder.name == "checkpoints" else folder
    return folder / f"{options.ckpt_path.stem}-{size}{'-int8' * options.int8}{SUFFIXES[options.format]}"


def _check_free(target: Path, overwrite: bool) -> None:
    there = [path for path in (*model_files(target), sidecar(target)) if path.exists()]
    if there and not overwrite:
        msg = f"{there[0]} exists already; name another file with --output, or replace it with --overwrite"
        raise ConfigError(msg)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A path of the target's name in a folder of its own; its files are moved into place if the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.stem}-", dir=target.parent))
    try:
        staged = folder / target.name
        yield staged
        # The sidecar last: without it, or with an older one, a model is refused.
        for path in (*model_files(staged), sidecar(staged)):
            path.replace(target.parent / path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(module: Deployable, trained: TrainedNet, options: ExportOptions, size: int, path: Path) -> dict[str, Any]:
    """Writes the model; returns what only this format or precision has to say."""
    merge = options.format == "openvino" and not options.int8
    program = capture(module, size, options.dynamic_batch, merge=merge)
    if options.format == "pt2":
        formats.write_pt2(program, path)
        return {}
    if options.format == "torchscript":
        formats.write_torchscript(program, size, path)
        return {}
    frames, facts = [], {}
    if options.int8:
        frames = dataset_samples(trained.data, options.data_root, "train", size, quantise.CALIBRATION_FRAMES)
        facts = {"calibration": f"{len(frames)} training frames of {trained.data['data']}"}
    graph = formats.onnx_model(program)
    if options.format == "onnx":
        formats.write_onnx(quantise.quantise_onnx(graph, frames) if options.int8 else graph, path)
        return {"opset": formats.OPSET, **facts}
    network = formats.openvino_model(graph.SerializeToString())
    formats.write_openvino(quantise.quantise_openvino(network, frames) if options.int8 else network, path)
    return facts


def _checked(
    module: Deployable,
    trained: TrainedNet,
    options: ExportOptions,
    size: int,
    runner_in: Callable[[str], Runner],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """What the written model is worth: parity or the change of Dice, and the test score if it was asked for."""
    runner = runner_in(BACKENDS[options.format][0])
    reference = TorchRunner(module, "torch", torch.get_num_threads())
    samples, what = parity_samples(trained.data, options.data_root, size, PARITY_FRAMES)
    parity = compare(reference, runner, samples)
    say(f"against torch on {what}: {parity}")
    facts: dict[str, Any] = {"parity": {**parity.as_dict(), "frames": what}}
    dice: dict[str, Any] = {"test": None, "protocol": None, "validation": trained.val_dice}
    if options.int8:
        facts["int8"] = _int8_change(reference, runner, trained, options, size, say)
    else:
        require_parity(parity, f"the {options.format} model")
    stored = None if options.int8 else _stored_scores(options.ckpt_path, trained, size)
    if stored:
        dice["test"] = stored.dice
        dice["protocol"] = (
            f"{stored.images} test images of {trained.data['protocol']}; {SCORE_PROTOCOL}; the checkpoint in torch, "
            "whose outputs this file repeats (parity)"
        )
    if options.score:
        dice |= _test_scores(trained, options, size, runner_in, say)
    return facts | {"dice": dice}


def _test_scores(
    trained: TrainedNet,
    options: ExportOptions,
    size: int,
    runner_in: Callable[[str], Runner],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Dice on the test images in every backend that runs the file anywhere: they differ where they compute in bf16."""
    tests = dataset_samples(trained.data, options.data_root, "test", size)
    names = [name for name in BACKENDS[options.format] if not name.startswith(("cuda", "torch-"))]
    backends = {name: mean_dice(runner_in(name), tests) for name in names}
    protocol = f"{len(tests)} test images of {trained.data['protocol']}; {SCORE_PROTOCOL}; this very file"
    say(f"test Dice {', '.join(f'{value:.4f} in {name}' for name, value in backends.items())}: {protocol}")
    return {"test": backends[names[0]], "backends": backends, "protocol": protocol}


def _stored_scores(checkpoint: Path, trained: TrainedNet, size: int) -> CheckpointScores | None:
    """What `test` found for this very checkpoint on the test images of the data that it was trained on."""
    folder = checkpoint.parent
    digest, keys = sha256(checkpoint), ("data", "split", "cache_key")
    wanted = {**{key: trained.data.get(key) for key in keys}, "image_size": size}
    found = read_scores(folder.parent if folder.name == "checkpoints" else folder)
    same = (one for one in found if one.sha256 == digest)
    return next((one for one in same if all(one.data.get(key) == value for key, value in wanted.items())), None)


def _int8_change(
    reference: Runner,
    runner: Runner,
    trained: TrainedNet,
    options: ExportOptions,
    size: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    held_out = dataset_samples(trained.data, options.data_root, "val", size, DICE_FRAMES)
    before, after = mean_dice(reference, held_out), mean_dice(runner, held_out)
    what = f"{len(held_out)} validation frames, none of them used for calibration"
    say(f"int8: Dice {before:.4f} → {after:.4f} ({after - before:+.4f}) on {what}")
    return {"dice_float": before, "dice_int8": after, "frames": what}


def _facts(trained: TrainedNet, options: ExportOptions, size: int) -> dict[str, Any]:
    cost = measure(trained.net, size)
    return {
        "format": options.format,
        "precision": "int8" if options.int8 else "float32",
        **facts_of_graph(size, options.dynamic_batch),
        "gmacs": round(cost.gmacs, 6),
        "params": cost.params_used,
        "network": {
            "arch": trained.arch,
            "encoder": trained.encoder,
            "arch_options": trained.arch_options,
            "trained_image_size": trained.image_size,
        },
        "data": trained.data,
        "source": {"checkpoint": options.ckpt_path.name, "sha256": sha256(options.ckpt_path)},
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """The installed versions of what made the file."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
