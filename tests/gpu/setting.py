"""What the parts of a GPU run share: the device, the sizes of the real run and of its rehearsal, and timing."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from results import Results
from torch import Tensor, nn


@dataclass
class Setting:
    """Where a run happens, and how large it is.

    Attributes:
        device: CUDA, or the CPU in a rehearsal.
        rehearse: whether sizes are tiny.
        folder: for the files of the run.
        results: the table.
        data: the archive of ``pack.py``; None where there is none.
        deadline: of ``time.monotonic()``, for parts that go on as long as they may.
    """

    device: torch.device
    rehearse: bool
    folder: Path
    results: Results
    data: Path | None
    deadline: float = 0.0

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def encoder(self) -> str:
        return "tu-test_efficientnet" if self.rehearse else "timm-tf_efficientnet_lite0"

    @property
    def side(self) -> int:
        return 64 if self.rehearse else 352

    @property
    def batch(self) -> int:
        return 2 if self.rehearse else 16

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def compiler(self) -> str:
        """Backend of ``torch.compile``: generating code takes half a minute for a network on a CPU."""
        return "inductor" if self.cuda else "eager"

    def net(self) -> nn.Module:
        """A network with random weights, always the same, on the device."""
        from polyp_lightning.networks.build import build_net

        torch.manual_seed(0)
        net = build_net("Unet", self.encoder, None)
        return net.to(self.device).to(memory_format=torch.channels_last)

    def module(self, **options: Any) -> Any:
        """A LightningModule with such a network, on the CPU."""
        from polyp_lightning.training.module import PolypSegmenter

        torch.manual_seed(0)
        given = {"encoder": self.encoder, "image_size": self.side, "lr": 1e-4}
        return PolypSegmenter(**(given | options))

    def images(self, count: int, side: int) -> tuple[Tensor, Tensor]:
        """Float images and masks on the CPU, always the same."""
        generator = torch.Generator().manual_seed(0)
        masks = torch.zeros(count, 1, side, side, dtype=torch.uint8)
        masks[:, :, side // 4 : side // 2, side // 4 : side // 2] = 1
        return torch.randn(count, 3, side, side, generator=generator), masks

    def training_batch(self) -> dict[str, Any]:
        """A batch as the data module makes it, on the device."""
        images, masks = self.images(self.batch, self.side)
        pixels = (images * 40 + 128).clamp(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)
        return {"image": pixels.to(self.device), "mask": masks.to(self.device), "name": ["drawn"] * self.batch}

    def wait(self) -> None:
        """Waits until the device has nothing left to do."""
        if self.cuda:
            torch.cuda.synchronize()

    def milliseconds(self, work: Callable[[], object], seconds: float = 1.0) -> float:
        """The median of repeated calls, each waited for, after a warm-up."""
        seconds = 0.05 if self.rehearse else seconds
        for _ in range(1 if self.rehearse else 5):
            work()
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            self.wait()
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return 1e3 * statistics.median(times)


@contextmanager
def exact_float32() -> Iterator[None]:
    """Without TF32, which rounds the factors of convolutions and products to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def relative_error(found: Any, expected: Any) -> float:
    """‖found − expected‖ ÷ ‖expected‖, of arrays or tensors."""
    a, b = (torch.as_tensor(values).detach().to("cpu", torch.float64) for values in (found, expected))
    return float((a - b).norm() / b.norm())
