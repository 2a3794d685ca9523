"""Running a network with PyTorch, on the CPU or a CUDA device."""

from typing import Any

import torch
from torch import Tensor, nn

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.runners.arrays import Frames, Maps


class TorchRunner:
    """A module on the CPU or a CUDA device, eager or compiled; every call waits for its result.

    It takes uint8 frames (N, S, S, 3) and returns probabilities (N, 1, S, S). ``cuda-compile`` uses CUDA graphs. The
    threads are PyTorch's, one number for the whole process.

    Raises:
        ConfigError: there is no CUDA device.
    """

    def __init__(self, module: nn.Module, backend: str, threads: int) -> None:
        torch.set_num_threads(threads)
        device = "cuda" if backend.startswith("cuda") else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            msg = f"--backend {backend} needs a CUDA device, and PyTorch finds none here"
            raise ConfigError(msg)
        self._device = torch.device(device)
        self._bf16 = backend.endswith("bf16")
        module = module.to(self._device).to(memory_format=torch.channels_last)
        mode = "reduce-overhead" if device == "cuda" else "default"
        self._module: Any = torch.compile(module, mode=mode) if backend.endswith("compile") else module

    @torch.inference_mode()
    def __call__(self, frames: Frames) -> Maps:
        """Returns the probabilities of frames; the copies to and from the device belong to the time."""
        frame = torch.from_numpy(frames).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            probability: Tensor = self._module(frame)
        maps: Maps = probability.float().cpu().numpy()
        return maps
