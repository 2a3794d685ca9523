"""What a loaded model takes and returns, whatever runs it: NumPy in, NumPy out."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""RGB, uint8 (N, S, S, 3)."""
Maps = NDArray[np.float32]
"""Probabilities, float32 (N, 1, S, S)."""

Runner = Callable[[Frames], Maps]
"""A loaded model: runs the network on frames and waits for its result."""

TORCH_BACKENDS = ("torch", "torch-compile", "cuda", "cuda-bf16", "cuda-compile")
"""Backends of :class:`~polyp_lightning.deploy.runners.torch_runner.TorchRunner`, the usual one first."""

OPENVINO_BACKENDS = ("openvino", "openvino-bf16")
"""Backends of :class:`~polyp_lightning.deploy.runners.openvino_runner.OpenVinoRunner`, the usual one first."""
