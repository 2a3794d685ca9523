"""Milliseconds for a batch of dense and pruned networks, by precision and by how they are launched."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import torch
from setting import Setting
from torch import Tensor, nn

from polyp_lightning.pruning import remove, select, trace

SHARES = (1.0, 0.7, 0.25)
TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def run(setting: Setting) -> None:
    """Eager and by CUDA graphs in every precision, then compiled in bf16; the floor is a graph that does nothing."""
    nets = {share: _pruned(setting, share) for share in SHARES}
    _floor(setting)
    for batch in (1, setting.batch):
        for name, dtype in TYPES.items():
            for kind, launch in {"eager": lambda net, x: lambda: net(x), "CUDA graph": _graph}.items():
                if kind == "eager" or setting.cuda:
                    _row(setting, nets, batch, name, dtype, kind, launch)
    if not setting.cuda:
        setting.results.skip("the same by CUDA graphs", "CUDA only")
    for batch in (1, setting.batch):
        _row(setting, nets, batch, "bf16", torch.bfloat16, "compiled", _compiled(setting))


def _pruned(setting: Setting, share: float) -> nn.Module:
    net = setting.net()
    if share < 1:
        graph = trace(net, (2, 3, setting.side, setting.side))
        remove(net, graph, select(graph, np.random.default_rng(0).random(graph.size), target=share))
    return net.eval()


def _row(
    setting: Setting,
    nets: dict[float, nn.Module],
    batch: int,
    name: str,
    dtype: torch.dtype,
    kind: str,
    launch: Callable[[nn.Module, Tensor], Callable[[], object]],
) -> None:
    image = setting.images(batch, setting.side)[0].to(setting.device, dtype, memory_format=torch.channels_last)
    times = []
    with torch.no_grad():
        for net in nets.values():
            times.append(setting.milliseconds(launch(copy.deepcopy(net).to(dtype), image)))
    got = " / ".join(f"{time:.3f}" for time in times) + " ms"
    faster = None if setting.rehearse else times[-1] < times[0]
    shares = "dense / 70 % / 25 %"
    setting.results.row(f"{shares}, batch {batch}, {name}, {kind}, {setting.side}²", "25 % < dense", got, faster)


def _graph(net: nn.Module, image: Tensor) -> Callable[[], object]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            net(image)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        net(image)
    return graph.replay


def _compiled(setting: Setting) -> Callable[[nn.Module, Tensor], Callable[[], object]]:
    def launch(net: nn.Module, image: Tensor) -> Callable[[], object]:
        torch.compiler.reset()
        run = torch.compile(net, backend=setting.compiler, dynamic=False)
        return lambda: run(image)

    return launch


def _floor(setting: Setting) -> None:
    """As many smallest kernels as the dense network has convolutions and norms."""
    layers = sum(not list(module.children()) for module in setting.net().modules())
    number = torch.zeros(1, device=setting.device)

    def launches() -> Iterator[Tensor]:
        return (number.add_(1) for _ in range(layers))

    milliseconds = setting.milliseconds(lambda: sum(1 for _ in launches()))
    setting.results.row(
        f"the floor: {layers} launches of nothing, one for each layer", "", f"{milliseconds:.3f} ms", None
    )
