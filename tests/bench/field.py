"""Networks of the field through the whole command line: ``python tests/bench/field.py --code FOLDER [NAMES…]``.

Each is trained for two epochs on Kvasir-SEG at 96², cut to half of its MACs before the second one, exported to ONNX and
timed, and given to Torch-Pruning as well. FOLDER holds the unpacked repositories PraNet, HarDNet-MSEG and Polyp-PVT,
and what else is not installed. Prints a row of Markdown for each; a network that can't do it gets the reason.
"""

import argparse
import copy
import csv
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import field_nets
import numpy as np
import peer
import torch
from torch import nn

from polyp_lightning import pruning
from polyp_lightning.checkpoints.run_folder import best_checkpoints
from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.cli import main as run_verb
from polyp_lightning.deploy.benchmark.timers import build_timer
from polyp_lightning.networks.complexity import measure
from polyp_lightning.pruning.exactness import removal_error
from polyp_lightning.report.inputs import read_checkpoint

FOLDERS = {"pranet": "PraNet", "hardnet_mseg": "HarDNet-MSEG", "polyp_pvt": "Polyp-PVT"}
NAMES = [*FOLDERS, *("plain_conv_unet", "residual_encoder_unet", "monai_unet", "segresnet", "dynunet", "lraspp")]
HEAD = ["network", "loss", "Dice", "frozen", "exact", "GMACs", "ms", "ONNX", "Torch-Pruning 1.6.1"]
_SIDE, _TARGET = 96, 0.5
_SHAPE = (1, 3, _SIDE, _SIDE)


def main() -> int:
    """Prints the table, one network after another, each in a process of its own."""
    options = _parser().parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(row(options.one, Path(folder), options.batches)))
        return 0
    print(_line(HEAD), _line(["---"] * len(HEAD)), sep="\n")
    for name in options.names or NAMES:
        folders = [options.code / FOLDERS.get(name, ""), Path(__file__).parent, os.environ.get("PYTHONPATH", "")]
        command = [sys.executable, __file__, "--code", str(options.code), "--one", name]
        command += ["--batches", str(options.batches)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        found = [line for line in done.stdout.splitlines() if line.startswith("[")]
        reason = (done.stderr.strip().splitlines() or ["ended by the system"])[-1]
        print(_line(json.loads(found[-1]) if found else [name, reason[:200]]), flush=True)
    return 0


def row(name: str, folder: Path, batches: int) -> list[str]:
    """Runs one network from training to export."""
    arch = f"field_nets.{name}"
    _run(
        *("fit", "--model.arch", arch, "--data.name", "kvasir", f"--data.image_size={_SIDE}", "--data.num_workers=0"),
        *("--trainer.max_epochs=2", f"--pruning.target={_TARGET}", "--pruning.start=1", "--pruning.end=1"),
        *(f"--trainer.default_root_dir={folder}", "--trainer.enable_progress_bar=false"),
        *("--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={folder}"),
        *(("--trainer.limit_train_batches", str(batches)) if batches else ()),
    )
    best = best_checkpoints(folder / "checkpoints")
    dense, pruned = (load_net(best[stage], named=[arch]) for stage in (0, 1))
    stages = read_checkpoint(folder / "checkpoints" / "last.ckpt")[0]
    _run("export", "--ckpt_path", str(best[1]), "--arch", arch, "--output", str(folder / "pruned.onnx"))
    parity = json.loads((folder / "pruned.onnx.json").read_text())["parity"]
    timer, costs = build_timer("onnxruntime", 1), [measure(net, _SIDE).gmacs for net in (dense.net, pruned.net)]
    # In turns, so that what else the machine does slows both.
    rounds = [[timer(net, _SHAPE) for net in (dense.net, pruned.net)] for _ in range(3)]
    times = [min(own) for own in zip(*rounds, strict=True)]
    return [
        name,
        _losses(folder),
        f"{stages[0].score_end:.3f} → {stages[1].score_after:.3f} → {stages[1].score_end:.3f}",
        f"{stages[0].frozen_share:.1%}",
        f"{_error(dense.net):.0e}",
        f"{costs[0]:.3f} → {costs[1]:.3f}",
        f"{times[0]:.1f} → {times[1]:.1f}",
        f"{parity['agreement']:.2%} equal, {parity['difference']:.0e}",
        _ask_peer(getattr(field_nets, name)().eval()),
    ]


def _error(net: nn.Module) -> float:
    """The largest relative difference between masked and pruned in float64, half of the MACs removed at random."""
    graph = pruning.trace(net, (2, *_SHAPE[1:]))
    removed = pruning.select(graph, np.random.default_rng(0).random(graph.size), _TARGET)
    return removal_error(net, graph, removed, _SHAPE)


def _ask_peer(net: nn.Module) -> str:
    """What Torch-Pruning makes of the network: its README's call, with the least ratio that halves the MACs."""
    import torch_pruning as tp

    def pruner(ratio: float, twin: nn.Module) -> Any:
        example = torch.randn(_SHAPE, dtype=next(twin.parameters()).dtype)
        kinds = (nn.modules.conv._ConvNd, nn.Linear)
        ignored = [m for m in twin.modules() if isinstance(m, kinds) and m.weight.shape[0] == 1]
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        return tp.pruner.BasePruner(twin, example, importance=importance, pruning_ratio=ratio, ignored_layers=ignored)

    whole, share = measure(net, _SIDE).gmacs, 1.0
    try:
        for ratio in (0.3, 0.4, 0.5, 0.7, 0.9):
            twin = copy.deepcopy(net)
            pruner(ratio, twin).step()
            share = measure(twin, _SIDE).gmacs / whole
            if share <= _TARGET:
                error = peer.inexactness(net, lambda one, ratio=ratio: pruner(ratio, one), _SIDE)
                verdict = "exact," if error < 1e-9 else "off by"
                return f"{share:.0%} of the MACs, {verdict} {error:.0e}"
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return f"not below {share:.0%} of the MACs"


def _losses(folder: Path) -> str:
    """The mean training loss of each epoch."""
    (path,) = folder.rglob("metrics.csv")
    with path.open() as file:
        values = [float(line["train/loss"]) for line in csv.DictReader(file) if line.get("train/loss")]
    return " → ".join(f"{value:.2f}" for value in values)


def _run(*arguments: str) -> None:
    if run_verb(arguments):
        sys.exit(1)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--code", type=Path, required=True, help="the folder of repositories and packages")
    parser.add_argument("--batches", type=int, default=0, help="training batches an epoch, where all are too many")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    raise SystemExit(main())
