"""Running a network with PyTorch: from a checkpoint, a ``.pt2`` or a TorchScript file.

Only files of your own: TorchScript is code by nature, and what ``torch.export.load`` reads may hold some too.
"""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.deploy.bundle import Bundle
from polyp_lightning.deploy.graph import Deployable
from polyp_lightning.deploy.runtime import Frames, Maps


class TorchRunner:
    """A module on the CPU or a CUDA device, eager or compiled; every call waits for its result.

    Args:
        module: uint8 frames (N, S, S, 3) to probabilities (N, 1, S, S).
        backend: ``torch``, ``torch-compile``, ``cuda``, ``cuda-bf16`` or ``cuda-compile`` (with CUDA graphs).
        threads: PyTorch's threads; one number for the whole process.

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
        """Probabilities of frames; the copies to and from the device belong to the time."""
        frame = torch.from_numpy(frames).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            probability: Tensor = self._module(frame)
        maps: Maps = probability.float().cpu().numpy()
        return maps


def load_exported(bundle: Bundle, backend: str, threads: int) -> TorchRunner:
    """Loads a ``.pt2`` or TorchScript model."""
    if bundle.format == "pt2":
        module: nn.Module = torch.export.load(bundle.path).module()
    else:
        with warnings.catch_warnings():
            # Deprecated, and what programs in C++ still read.
            warnings.simplefilter("ignore", FutureWarning)
            module = torch.jit.load(bundle.path, map_location="cpu")
    return TorchRunner(module, backend, threads)


def load_checkpoint(path: Path, backend: str, threads: int) -> TorchRunner:
    """Loads a checkpoint's network with the preprocessing and the sigmoid of an export, batch norm not folded."""
    # Imports Lightning, which an exported model does not need.
    from polyp_lightning.checkpoints.trained import load_net

    trained = load_net(path)
    return TorchRunner(Deployable(trained.net, trained.mean, trained.std), backend, threads)
