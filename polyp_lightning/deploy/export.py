"""``export``: from a checkpoint to a model that any runtime takes, checked against the network before it is written."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from polyp_lightning.checkpoints.named import is_named
from polyp_lightning.checkpoints.test_scores import CheckpointScores, read_scores
from polyp_lightning.checkpoints.trained import TrainedNet, load_net
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.common.files import sha256
from polyp_lightning.deploy.bundle import Bundle, format_of, list_files, load_model, read_bundle, write_sidecar
from polyp_lightning.deploy.export_format import ExportFormat
from polyp_lightning.deploy.formats import FORMATS
from polyp_lightning.deploy.parity import compare, mean_dice, require_parity
from polyp_lightning.deploy.rewriting.capture import Deployable, capture, check_size
from polyp_lightning.deploy.runners.arrays import Runner
from polyp_lightning.deploy.runners.torch_runner import TorchRunner
from polyp_lightning.deploy.samples import Sample, parity_samples, read_samples
from polyp_lightning.deploy.signature import describe_signature
from polyp_lightning.networks.complexity import measure
from polyp_lightning.networks.names import name_net

PARITY_FRAMES = 8
CALIBRATION_FRAMES = 128
DICE_FRAMES = 100
SCORE_PROTOCOL = "mean over images of the Dice at threshold 0.5, logits resized to the original resolution"


@dataclass(frozen=True)
class ExportOptions:
    """The options of the verb ``export``, whose help explains them."""

    ckpt_path: Path
    format: str
    int8: bool = False
    image_size: int | None = None
    dynamic_batch: bool = False
    output: Path | None = None
    overwrite: bool = False
    data_root: Path = Path("datasets")
    score: bool = False
    arch: str | None = None


@dataclass(frozen=True)
class _Job:
    """What the steps of one export share."""

    options: ExportOptions
    format: ExportFormat
    trained: TrainedNet
    size: int
    say: Callable[[str], None]

    def read_samples(self, part: str, count: int | None = None) -> list[Sample]:
        """Reads a part of the data that the network was trained on."""
        return read_samples(self.trained.data, self.options.data_root, part, self.size, count)


def export(options: ExportOptions, say: Callable[[str], None] = print) -> Bundle:
    """Writes a model and its sidecar; ``say`` takes the lines of the report.

    Raises:
        ConfigError: an option can't work, a package is missing, or the result differs from the network; in that case
            nothing was written.
        DataError: frames that are needed are not there.
    """
    _check(options)
    trained = load_net(options.ckpt_path, named=[options.arch or ""])
    size = options.image_size or trained.image_size
    check_size(size)
    job = _Job(options, FORMATS[options.format], trained, size, say)
    target = options.output or _default_output(job)
    _check_free(target, options.overwrite)
    module = Deployable(trained.net, trained.mean, trained.std)
    with _stage(target) as staged:
        say(f"{name_net(trained.arch, trained.encoder)} at {size}²: exporting {'int8 ' * options.int8}{options.format}")
        extra = _write(job, module, staged)
        facts = _describe(job) | extra
        facts |= _evaluate(job, module, Bundle(staged, facts))
        write_sidecar(staged, facts)
    megabytes = sum(path.stat().st_size for path in list_files(target)[:-1]) / 1e6
    say(f"wrote {target} ({megabytes:.1f} MB) and its sidecar")
    return read_bundle(target)


def _check(options: ExportOptions) -> None:
    if options.format not in FORMATS:
        msg = f"--format {options.format} is unknown; allowed: {', '.join(FORMATS)}"
        raise ConfigError(msg)
    kind = FORMATS[options.format]
    if options.int8 and not kind.quantises:
        able = " or ".join(other.name for other in FORMATS.values() if other.quantises)
        msg = f"--int8 goes with --format {able}, not with {options.format}"
        raise ConfigError(msg)
    if format_of(options.ckpt_path):
        msg = f"--ckpt_path {options.ckpt_path} is an exported model already; give the checkpoint that it was made of"
        raise ConfigError(msg)
    if options.output is not None and options.output.suffix != kind.suffix:
        msg = f"--output {options.output} has to end in {kind.suffix} for --format {options.format}"
        raise ConfigError(msg)


def _default_output(job: _Job) -> Path:
    """Returns a path in ``export`` beside the run's ``checkpoints``, or beside a checkpoint that lies elsewhere.

    The package's own networks are exported into the working folder.
    """
    folder = job.options.ckpt_path.parent
    folder = folder.parent / "export" if folder.name == "checkpoints" else folder
    folder = Path() if is_named(job.options.ckpt_path) else folder
    return folder / f"{job.options.ckpt_path.stem}-{job.size}{'-int8' * job.options.int8}{job.format.suffix}"


def _check_free(target: Path, overwrite: bool) -> None:
    there = [path for path in list_files(target) if path.exists()]
    if there and not overwrite:
        msg = f"{there[0]} exists already; name another file with --output, or replace it with --overwrite"
        raise ConfigError(msg)


@contextmanager
def _stage(target: Path) -> Iterator[Path]:
    """Yields a path of the target's name in a folder of its own; moves its files into place if the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.stem}-", dir=target.parent))
    try:
        staged = folder / target.name
        yield staged
        # The sidecar last: without it, or with an older one, a model is refused.
        for path in list_files(staged):
            path.replace(target.parent / path.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(job: _Job, module: Deployable, path: Path) -> dict[str, Any]:
    """Writes the model; returns what only this format or precision adds to the sidecar."""
    int8 = job.options.int8
    merge = job.format.merges_upsampling and not int8
    program = capture(module, job.size, job.options.dynamic_batch, merge=merge)
    if not int8:
        return job.format.write(program, path, None)
    frames = [sample.frame[None] for sample in job.read_samples("train", CALIBRATION_FRAMES)]
    calibration = f"{len(frames)} training frames of {job.trained.data['data']}"
    return job.format.write(program, path, frames) | {"calibration": calibration}


def _evaluate(job: _Job, module: Deployable, written: Bundle) -> dict[str, Any]:
    """Measures parity or the change of Dice of the written model, and its test score if that was asked for."""
    options, trained, threads = job.options, job.trained, torch.get_num_threads()
    runner = load_model(written, job.format.backends[0], threads)
    reference = TorchRunner(module, "torch", threads)
    samples, what = parity_samples(trained.data, options.data_root, job.size, PARITY_FRAMES)
    parity = compare(reference, runner, samples)
    job.say(f"against torch on {what}: {parity}")
    facts: dict[str, Any] = {"parity": {**asdict(parity), "frames": what}}
    dice: dict[str, Any] = {"test": None, "protocol": None, "validation": trained.val_dice}
    if options.int8:
        facts["int8"] = _int8_change(job, reference, runner)
    else:
        require_parity(parity, f"the {options.format} model")
    stored = None if options.int8 else _stored_scores(job)
    if stored:
        dice["test"] = stored.dice
        dice["protocol"] = (
            f"{stored.images} test images of {trained.data['protocol']}; {SCORE_PROTOCOL}; the checkpoint in torch, "
            "whose outputs this file repeats (parity)"
        )
    if options.score:
        dice |= _test_scores(job, written)
    return facts | {"dice": dice}


def _test_scores(job: _Job, written: Bundle) -> dict[str, Any]:
    """Scores the test images in every backend that runs anywhere: their results differ where they compute in bf16."""
    tests, threads = job.read_samples("test"), torch.get_num_threads()
    names = [name for name in job.format.backends if not name.startswith(("cuda", "torch-"))]
    backends = {name: mean_dice(load_model(written, name, threads), tests) for name in names}
    protocol = f"{len(tests)} test images of {job.trained.data['protocol']}; {SCORE_PROTOCOL}; this very file"
    job.say(f"test Dice {', '.join(f'{value:.4f} in {name}' for name, value in backends.items())}: {protocol}")
    return {"test": backends[names[0]], "backends": backends, "protocol": protocol}


def _stored_scores(job: _Job) -> CheckpointScores | None:
    """Returns what `test` found for this very checkpoint on the test images of the data that it was trained on."""
    checkpoint, data = job.options.ckpt_path, job.trained.data
    folder = checkpoint.parent
    digest = sha256(checkpoint)
    wanted = {**{key: data.get(key) for key in ("data", "split", "cache_key")}, "image_size": job.size}
    found = read_scores(folder.parent if folder.name == "checkpoints" else folder)
    same = (one for one in found if one.sha256 == digest)
    return next((one for one in same if all(one.data.get(key) == value for key, value in wanted.items())), None)


def _int8_change(job: _Job, reference: Runner, runner: Runner) -> dict[str, Any]:
    held_out = job.read_samples("val", DICE_FRAMES)
    before, after = mean_dice(reference, held_out), mean_dice(runner, held_out)
    what = f"{len(held_out)} validation frames, none of them used for calibration"
    job.say(f"int8: Dice {before:.4f} → {after:.4f} ({after - before:+.4f}) on {what}")
    return {"dice_float": before, "dice_int8": after, "frames": what}


def _describe(job: _Job) -> dict[str, Any]:
    trained, cost = job.trained, measure(job.trained.net, job.size)
    return {
        "format": job.format.name,
        "precision": "int8" if job.options.int8 else "float32",
        **describe_signature(job.size, job.options.dynamic_batch),
        "alarm_threshold": trained.alarm_threshold,
        "gmacs": round(cost.gmacs, 6),
        "params": cost.params_used,
        "network": {
            "arch": trained.arch,
            "encoder": trained.encoder,
            "arch_options": trained.arch_options,
            "trained_image_size": trained.image_size,
        },
        "data": trained.data,
        "source": {"checkpoint": job.options.ckpt_path.name, "sha256": sha256(job.options.ckpt_path)},
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    """Returns the installed versions of all that can make a file."""
    found = {}
    of_formats = (package for kind in FORMATS.values() for package in kind.packages)
    for name in ("polyp-lightning", "torch", "segmentation-models-pytorch", *of_formats):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
