"""Training images in an order that depends on seed, epoch, rank and step alone, so that resuming needs no state."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from v2l.config_training import Geometry
from v2l.io.images import tokenizer_image
from v2l.loading import load_image
from v2l.manifest import Manifest
from v2l.runtime import rng

CACHE_BYTES = 2 * 2**30


class TrainingImages(Dataset):
    """The images of some manifest rows as uint8 tensors CHW; decoded once and kept when they need less than 2 GB."""

    def __init__(self, manifest: Manifest, rows: np.ndarray, geometry: Geometry):
        self.manifest, self.rows, self.geometry = manifest, rows, geometry
        self.cache: list[Tensor] | None = None
        if len(rows) * 3 * geometry.image_size**2 < CACHE_BYTES:
            with ThreadPoolExecutor() as pool:
                decoded = pool.map(self._read, range(len(rows)))
                self.cache = list(tqdm(decoded, "decode images", len(rows), disable=None))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return (self.cache[index] if self.cache else self._read(index)), index

    def _read(self, index: int) -> Tensor:
        image = tokenizer_image(load_image(self.manifest, self.rows[index]), self.geometry, self.manifest.fit)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class BatchOrder(Sampler[list[int]]):
    """Indices of each batch from `first_step` on; an epoch is a new permutation without its incomplete last batch."""

    def __init__(
        self, seed: int, images: int, batch_size: int, first_step: int, steps: int, rank: int = 0, ranks: int = 1
    ):
        self.seed, self.images, self.batch_size = seed, images, batch_size
        self.first_step, self.steps, self.rank, self.ranks = first_step, steps, rank, ranks
        self.steps_per_epoch = images // batch_size

    def __len__(self) -> int:
        return self.steps - self.first_step

    def __iter__(self) -> Iterator[list[int]]:
        order, order_epoch = None, None
        for step in range(self.first_step, self.steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = rng(self.seed, "training order", epoch).permutation(self.images), epoch
            start = position * self.batch_size
            yield order[start : start + self.batch_size][self.rank :: self.ranks].tolist()


def loader(images: TrainingImages, order: BatchOrder) -> DataLoader:
    """Batches (uint8 image_BCHW, indices_B) in `order`; images that are not kept are decoded by worker processes."""
    workers = 0 if images.cache else len(os.sched_getaffinity(0))
    return DataLoader(images, batch_sampler=order, num_workers=workers, pin_memory=torch.cuda.is_available())
