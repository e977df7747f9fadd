"""The order of the data: it depends on seed, epoch, rank and step alone, so that resuming needs no state."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from v2l.runtime import rng


class BatchOrder(Sampler[list[int]]):
    """Places of each batch from `first_step` on; an epoch is a new permutation without its incomplete last batch.

    A place is epoch * images + index, so that an image can look different in every epoch.
    """

    def __init__(
        self, seed: int, images: int, batch_size: int, first_step: int, steps: int, rank: int = 0, ranks: int = 1
    ):
        self.seed, self.images, self.batch_size = seed, images, batch_size
        self.first_step, self.steps, self.rank, self.ranks = first_step, steps, rank, ranks
        self.steps_per_epoch = images // batch_size

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[int]]:
        order, order_epoch = np.zeros(0, dtype=np.int64), -1
        for step in range(self.first_step, self.steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = rng(self.seed, "training order", epoch).permutation(self.images), epoch
            start = position * self.batch_size
            indices = order[start : start + self.batch_size][self.rank :: self.ranks]
            yield (epoch * self.images + indices).tolist()
