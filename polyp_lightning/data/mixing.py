"""Several data sets as one, and what an epoch shows of each."""

from collections.abc import Mapping, Sequence

import numpy as np

from polyp_lightning.common.errors import ConfigError
from polyp_lightning.data.dataset import Dataset


def mix_datasets(name: str, datasets: Sequence[Dataset]) -> Dataset:
    """Puts data sets together; each keeps its split, and its test sets keep their names.

    Raises:
        ConfigError: two of them hold the same images, which could then train in one and test in the other.
    """
    splits, protocols = (",".join(one.split for one in datasets), "; ".join(one.protocol for one in datasets))
    mixed = Dataset(name, splits, protocols, {}, [], [], {}, [], {one.name: len(one.train) for one in datasets})
    for one in datasets:
        twice = sorted(mixed.sources.keys() & one.sources.keys())
        if twice:
            msg = f"--data.name={name} names the images of {', '.join(twice)} twice, by {one.name} too: leave one out."
            raise ConfigError(msg)
        mixed.sources.update(one.sources)
        mixed.train.extend(one.train)
        mixed.val.extend(one.val)
        mixed.tests.update(one.tests)
    mixed.predict.extend(image for images in mixed.tests.values() for image in images)
    return mixed


def count_images(sizes: Mapping[str, int], shares: Mapping[str, float]) -> dict[str, int]:
    """Counts what an epoch shows of each data set.

    Data sets without a share are shown whole, and the others so often that each makes up its share of the epoch. Where
    all have one, an epoch is as long as all of them together.

    Args:
        sizes: data set → number of its training images.
        shares: data set → its share of an epoch's images, for some or all of them.

    Raises:
        ConfigError: a share is not of one of the data sets or not between 0 and 1, or they do not add up.

    >>> count_images({"a": 60, "b": 36, "c": 300}, {"c": 0.04})
    {'a': 60, 'b': 36, 'c': 4}
    >>> count_images({"a": 60, "b": 40}, {"a": 0.5, "b": 0.5})
    {'a': 50, 'b': 50}
    """
    unknown = sorted(shares.keys() - sizes.keys())
    if unknown:
        msg = f"--data.shares names {', '.join(unknown)}, but --data.name names {', '.join(sizes) or 'one data set'}."
        raise ConfigError(msg)
    total, rest = sum(shares.values()), sum(size for name, size in sizes.items() if name not in shares)
    if any(not 0 < share <= 1 for share in shares.values()) or (
        total >= 1 if rest else not np.isclose(total, 1, atol=1e-3)
    ):
        sum_ = "less than 1 in all, the rest being the others'" if rest else "1 in all"
        msg = f"--data.shares={dict(shares)} can't be: each must lie between 0 and 1, and they must be {sum_}."
        raise ConfigError(msg)
    images = rest / (1 - total) if rest else sum(sizes.values())
    return {name: max(1, round(shares[name] * images)) if name in shares else size for name, size in sizes.items()}


class Mixture:
    """Draws an epoch's training images, so that each data set makes up its share.

    Each data set is gone through in a random order, and again in another when it is through: no image is shown for the
    third time before all were shown twice. The draw depends on the seed and the epoch alone.

    Args:
        sizes: data set → number of its training images, in their order.
        shares: as for `count_images`.
        seed: another seed draws others.
    """

    def __init__(self, sizes: Mapping[str, int], shares: Mapping[str, float], seed: int) -> None:
        self.sizes = dict(sizes)
        self.counts = count_images(sizes, shares)
        self.seed = seed

    def __len__(self) -> int:
        """Counts an epoch's images."""
        return sum(self.counts.values())

    def draw(self, epoch: int) -> list[int]:
        """Draws an epoch's images: positions among the training images, each data set's together."""
        drawn: list[int] = []
        start = 0
        for name, size in self.sizes.items():
            first = epoch * self.counts[name]
            passes = range(first // size, (first + self.counts[name] - 1) // size + 1)
            orders = [np.random.default_rng([self.seed, start, number]).permutation(size) for number in passes]
            skipped = first - passes[0] * size
            drawn += (start + np.concatenate(orders)[skipped : skipped + self.counts[name]]).tolist()
            start += size
        return drawn
