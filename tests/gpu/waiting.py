"""How often a training step waits for the device: scored and not, counted by the profiler."""

from collections.abc import Callable

import torch
from setting import Setting
from torch.profiler import ProfilerActivity, profile

from polyp_lightning.pruning import trace
from polyp_lightning.pruning.criteria import CRITERIA, build_criterion

# The step's own: the event behind the check of the loss.
OWN = "cudaEventSynchronize"
# The profiler itself synchronises the whole device when it stops, so that is not among them.
WAITS = ("aten::_local_scalar_dense", "cudaStreamSynchronize", "Memcpy DtoH (Device -> Pageable)")


def run(setting: Setting) -> None:
    """Profiles one step without a criterion, then one with each that rides along."""
    module = setting.module().to(setting.device).train()
    batch = setting.training_batch()
    # Without a state of numbers of steps, which an optimizer on the CPU reads.
    optimizer = torch.optim.SGD(module.net.parameters(), lr=1e-3, momentum=0.9)
    graph = trace(module.net, (2, 3, setting.side, setting.side))

    def step() -> None:
        optimizer.zero_grad()
        module.training_step(batch, 0).backward()
        # On CUDA it waits for the forward pass, while the backward pass runs.
        module.on_after_backward()
        optimizer.step()

    setting.results.row("a step without scoring: waits for the device", "0", *_judge(setting, step))
    for name in (name for name, made in CRITERIA.items() if made().rides_along):
        criterion = build_criterion(name)
        criterion.attach(module.net, graph)
        setting.results.row(f"a step scored by {name}: waits for the device", "0", *_judge(setting, step))
        criterion.detach()


def _judge(setting: Setting, step: Callable[[], None]) -> tuple[str, bool | None]:
    step()
    setting.wait()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if setting.cuda else [])]
    with profile(activities=kinds) as profiler:
        step()
    counts = {event.key: event.count for event in profiler.key_averages()}
    # The answer of the loss's check is on the CPU when Python reads it.
    allowed = {"aten::_local_scalar_dense": 1}
    seen = {name: counts.get(name, 0) - allowed.get(name, 0) for name in WAITS}
    text = ", ".join(f"{count} {name}" for name, count in seen.items() if count > 0)
    return text or f"0 ({counts.get(OWN, 0)} for the loss's check)", not text
