"""How much memory tensors take, exactly: what the process holds besides depends on the allocator's mood."""

import os
from collections.abc import Callable
from itertools import accumulate

from torch.profiler import ProfilerActivity, profile

# The profiler reports each start and stop on standard error.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


def peak(work: Callable[[], object]) -> int:
    """Bytes of tensors on the CPU that ``work`` holds at most, over what is held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(accumulate((size for _, size in changes), initial=0))
