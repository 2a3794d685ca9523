"""Distillation: a pruned network also learns from the predictions of a dense one.

Hinton, Vinyals and Dean, 2015 (arXiv:1503.02531), for one class a pixel: the teacher's probabilities are soft targets.
Without a temperature: it would bring out small probabilities of other classes, and there are none.
"""

from collections.abc import Collection
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from polyp_lightning.checkpoints.trained import load_net
from polyp_lightning.common.errors import ConfigError
from polyp_lightning.networks.build import normalise, per_channel


def divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """Computes the Kullback-Leibler divergence of a network from its teacher, averaged over all pixels.

    ``mean q·log(q / p) + (1 - q)·log((1 - q) / (1 - p))``, with p the network's probability of polyp and q the
    teacher's, in nats. Its gradient is that of the cross-entropy with q as target; unlike that, it is 0 where the two
    agree.

    Both are logits (N, 1, H, W) of any float type; no gradient flows into the teacher's. Returns a float32 scalar ≥ 0.

    >>> divergence(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item()
    0.0
    """
    logits, teacher = logits.float(), teacher.detach().float()
    soft = teacher.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(teacher, soft)
    # Rounding must not make it negative.
    return (F.binary_cross_entropy_with_logits(logits, soft) - entropy).clamp_min(0)


def mean_logits(first: Tensor, second: Tensor) -> Tensor:
    """Returns the logits of the mean of two networks' probabilities, from their logits, in float32.

    >>> mean_logits(torch.tensor([2.0, 30.0]), torch.tensor([-2.0, 30.0]))
    tensor([ 0., 30.])
    """
    # Of p and of 1 - p, each from its own logarithm: a float32 probability is 1 from a logit of 17 on.
    first, second = first.float(), second.float()
    polyp = torch.logaddexp(F.logsigmoid(first), F.logsigmoid(second))
    rest = torch.logaddexp(F.logsigmoid(-first), F.logsigmoid(-second))
    return polyp - rest


class Teacher:
    """A trained network, frozen and in evaluation mode. Not a module: it stays out of checkpoints and traces.

    Args:
        path: a checkpoint, of any architecture of smp's, or of one of the user's own that is ``named``.
        weight: w in ``(1 - w)·task loss + w·divergence``, between 0 and 1.
        image_size: side of the images that it will see.
        named: what may be imported.
        mirrored: whether it answers with the mean over the image and its mirror image, which is right more often and
            takes twice its time.

    Raises:
        ConfigError: the weight is out of range, or the file is no checkpoint or of another image size.
    """

    def __init__(
        self, path: str, weight: float, image_size: int, named: Collection[str] = (), *, mirrored: bool = False
    ) -> None:
        if not 0 < weight <= 1:
            msg = f"distill_weight={weight} must be above 0 and at most 1 (--model.distill_weight)"
            raise ConfigError(msg)
        trained = load_net(Path(path).expanduser(), "--model.distill_from", named)
        if trained.image_size != image_size:
            msg = (
                f"the teacher was trained at {trained.image_size}², this run is at {image_size}²; set "
                "--data.image_size, or take another --model.distill_from"
            )
            raise ConfigError(msg)
        self.weight, self.mirrored = weight, mirrored
        self.net: nn.Module = trained.net.requires_grad_(False).to(memory_format=torch.channels_last)
        self._mean, self._std = per_channel(trained.mean), per_channel(trained.std)

    def to(self, device: torch.device) -> None:
        """Moves the network."""
        self.net = self.net.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Returns logits (N, 1, H, W) of RGB images (N, 3, H, W) with values in 0 … 255."""
        image = normalise(image, self._mean, self._std)
        logits: Tensor = self.net(image)
        return mean_logits(logits, self.net(image.flip(3)).flip(3)) if self.mirrored else logits

    def mix(self, task: Tensor, logits: Tensor, image: Tensor) -> Tensor:
        """Mixes a batch's task loss with the divergence from the teacher's logits of the same images."""
        return (1 - self.weight) * task + self.weight * divergence(logits, self(image))
