"""Tracing, ranking by magnitude and cutting against Torch-Pruning 1.6.1, and what it cannot do.

Each cell runs in a process of its own, since some of them never end. Both sides get the same net in float32 and an
input of the same size; ours is traced, ranked globally and cut to half of its MACs, without the check of exactness. The
other side is its README's: BasePruner with GroupMagnitudeImportance and a pruning ratio of 0.5.

On a cell that it can do, the other side's result is checked as well: masked against pruned in float64.
"""

import copy
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from measuring import Effort, Row
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from polyp_lightning import pruning
from polyp_lightning.networks.build import build_net
from polyp_lightning.pruning.surgery import named_tensors

LIMIT = 1.0
PATIENCE = 30
# More than any of these nets needs; one cell would take all there is.
_MEMORY = 24 * 10**9
# As in its README.
_SIZE = 224
CELLS = (
    *(("Unet", e) for e in ("resnet18", "resnet50", "mobilenet_v2", "timm-tf_efficientnet_lite0", "densenet121")),
    *(("Unet", e) for e in ("se_resnet50", "vgg11_bn")),
    *(("UnetPlusPlus", "resnet18"), ("Linknet", "resnet18"), ("FPN", "resnet18"), ("FPN", "mobilenet_v2")),
    *(("DeepLabV3Plus", "resnet50"), ("UPerNet", "resnet18"), ("PAN", "resnet18")),
    *(("MAnet", "resnet18"), ("PSPNet", "mobilenet_v2"), ("Unet", "timm-skresnet18"), ("Unet", "mit_b0")),
    *(("Segformer", "mit_b0"), ("Unet", "tu-convnext_tiny")),
)


def measure(effort: Effort) -> list[Row]:
    """One row for each cell, and the median of the ratios where there is one."""
    results = [(f"{encoder}-{arch}", _in_new_process(arch, encoder, effort)) for arch, encoder in CELLS]
    rows = [_row(name, result) for name, result in results]
    medians = [statistics.median(r["ratios"]) for _, r in results if r["theirs"] == "done"]
    what = f"trace, rank and cut against Torch-Pruning, median over {len(medians)} cells that both can do"
    return [*rows, Row(what, medians, "×", LIMIT)]


def _row(name: str, result: dict[str, Any]) -> Row:
    ours = f"{statistics.median(result['ours']):.2f} s"
    if result["theirs"] != "done":
        return Row(f"trace, rank and cut {name}", result["ours"], " s", None, ours=ours, reference=result["theirs"])
    theirs = f"{statistics.median(result['seconds']):.2f} s"
    return Row(
        f"trace, rank and cut {name}, n = {len(result['ratios'])}", result["ratios"], "×", LIMIT, False, ours, theirs
    )


def _in_new_process(arch: str, encoder: str, effort: Effort) -> dict[str, Any]:
    command = [sys.executable, __file__, arch, encoder, str(effort.least)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "TQDM_DISABLE": "1"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        msg = f"{encoder}-{arch}: our side failed:\n{done.stderr[-2000:]}"
        raise RuntimeError(msg)
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def cell(arch: str, encoder: str, pairs: int) -> None:
    """Prints what is known of a cell as JSON, ever more of it: should the process be ended, the last line holds."""
    torch.manual_seed(0)
    net = build_net(arch, encoder, None).eval()
    result: dict[str, Any] = {"ours": [_timed(ours, net)], "theirs": "ended by the system"}
    print(json.dumps(result), flush=True)
    result["theirs"] = _attempt(net)
    if result["theirs"] == "done":
        result |= {"ours": [], "seconds": [], "ratios": []}
        for turn in range(pairs):
            order = (("ours", ours), ("seconds", theirs))
            for name, side in order if turn % 2 == 0 else order[::-1]:
                result[name].append(_timed(side, net))
            result["ratios"].append(result["ours"][-1] / result["seconds"][-1])
    else:
        result["ours"] += [_timed(ours, net) for _ in range(pairs)]
    print(json.dumps(result), flush=True)


def ours(net: nn.Module) -> None:
    """Trace, rank by the norm of everything that belongs to a component, cut to half of the MACs."""
    graph = pruning.trace(net, (2, 3, _SIZE, _SIZE))
    pruning.remove(net, graph, pruning.select(graph, magnitudes(net, graph), 0.5))


def magnitudes(net: nn.Module, graph: pruning.ChannelGraph) -> np.ndarray:
    """Mean over a component's slices of their squared norm: what GroupMagnitudeImportance(p=2) averages as well."""
    total, count = np.zeros(graph.size), np.zeros(graph.size)
    for name, parameter in named_tensors(net):
        if not isinstance(parameter, nn.Parameter):
            continue
        squares = parameter.detach().square()
        for dim, components in enumerate(graph.axes.get(name, ())):
            if components.any():
                norms = squares.sum([d for d in range(squares.ndim) if d != dim]) if squares.ndim > 1 else squares
                total += np.bincount(components, norms.numpy(), graph.size)
                count += np.bincount(components, minlength=graph.size)
    return total / np.maximum(count, 1)


def theirs(net: nn.Module) -> None:
    """As in the README of Torch-Pruning 1.6.1."""
    _pruner(net).step()


def _pruner(net: nn.Module) -> Any:
    import torch_pruning as tp

    example = torch.randn(1, 3, _SIZE, _SIZE, dtype=next(net.parameters()).dtype)
    ignored = [m for m in net.get_submodule("segmentation_head").modules() if isinstance(m, nn.Conv2d)]
    importance = tp.importance.GroupMagnitudeImportance(p=2)
    return tp.pruner.BasePruner(net, example, importance=importance, pruning_ratio=0.5, ignored_layers=ignored)


def _timed(side: Callable[[nn.Module], None], net: nn.Module) -> float:
    twin = copy.deepcopy(net)
    start = time.perf_counter()
    side(twin)
    return time.perf_counter() - start


def _attempt(net: nn.Module) -> str:
    """``done``, or what the other side does instead."""
    try:
        with _patience():
            twin = copy.deepcopy(net)
            theirs(twin)
            shape = tuple(twin(torch.randn(1, 3, _SIZE, _SIZE)).shape)
        if shape != (1, 1, _SIZE, _SIZE):
            return f"output {shape}"
        with _patience():
            error = inexactness(net)
    except TimeoutError:
        return f"> {PATIENCE} s"
    except MemoryError:
        return "out of memory"
    except Exception as error:
        return f"{type(error).__name__}"
    return "done" if error <= 1e-9 else f"wrong by {error:.0e}"


@contextmanager
def _patience() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)


def inexactness(net: nn.Module, make_pruner: Callable[[nn.Module], Any] = _pruner, size: int = _SIZE) -> float:
    """Relative difference in float64 between the outputs of the other side's pruned net and of one masked likewise."""
    generator = torch.Generator().manual_seed(0)
    net = copy.deepcopy(net).double()
    for module in net.modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator)
            nn.init.normal_(module.bias, 0, 0.3, generator)
    pruned, masked = copy.deepcopy(net), copy.deepcopy(net)
    twins = dict(zip(pruned.modules(), masked.modules(), strict=True))
    alive: dict[nn.Module, Tensor] = {}
    # The other side traces by autograd, so that gradients must stay on.
    for group in make_pruner(pruned).step(interactive=True):
        for dependency, indices in group:
            if "out_channels" in dependency.handler.__name__:
                _mask(dependency.target.module, torch.as_tensor(indices), twins, alive)
        group.prune()
    images = torch.randn(2, 3, size, size, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        pairs = list(zip(*(tree_leaves(side(images)) for side in (masked, pruned)), strict=True))
    return max(float((a - b).abs().max() / a.abs().max().clamp_min(1e-3)) for a, b in pairs)


def _mask(
    module: nn.Module, indices: Tensor, twins: dict[nn.Module, nn.Module], alive: dict[nn.Module, Tensor]
) -> None:
    """Zero in the twin what the module is about to lose; indices count what it still has."""
    if module not in twins or not isinstance(getattr(module, "weight", None), Tensor):
        return
    dim = 1 if isinstance(module, nn.ConvTranspose2d) else 0
    left = alive.setdefault(module, torch.arange(module.weight.shape[dim]))
    twins[module].weight.data.index_fill_(dim, left[indices], 0)
    if isinstance(module.bias, Tensor):
        twins[module].bias.data.index_fill_(0, left[indices], 0)
    alive[module] = left[~torch.isin(torch.arange(len(left)), indices)]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    cell(sys.argv[1], sys.argv[2], int(sys.argv[3]))
