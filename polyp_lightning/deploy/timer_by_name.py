"""The backends in which a network's time can be measured, by name."""

from polyp_lightning.common.errors import ConfigError, nearest
from polyp_lightning.pruning.budget import Timer, TorchTimer

BACKENDS = ("torch", "onnxruntime", "openvino", "openvino-bf16")


def build_timer(backend: str, threads: int) -> Timer:
    """What measures milliseconds per frame.

    Args:
        backend: ``torch`` (eager), ``onnxruntime``, ``openvino`` or ``openvino-bf16``.
        threads: of the backend.

    Raises:
        ConfigError: there is no such backend, it is not installed, or there is no such number of threads.
    """
    if backend not in BACKENDS:
        msg = f"backend={backend!r} is none of {', '.join(BACKENDS)}. {nearest(backend, BACKENDS)}"
        raise ConfigError(msg)
    if threads < 1:
        msg = f"threads={threads}; give 1 or more"
        raise ConfigError(msg)
    if backend == "torch":
        return TorchTimer(threads)
    # Exporting and its packages are only needed here.
    from polyp_lightning.deploy.timers import OnnxTimer, OpenVinoTimer

    if backend == "onnxruntime":
        return OnnxTimer(threads)
    return OpenVinoTimer(threads, precision="bf16" if backend.endswith("bf16") else "f32")
