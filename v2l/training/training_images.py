"""Training images in an order that depends on seed, epoch, rank and step alone, so that resuming needs no state."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2 as transforms
from tqdm import tqdm

from v2l.configuration.tokenizer_training import Geometry
from v2l.data.image_loading import load_image
from v2l.data.images import padded_image, tokenizer_image
from v2l.data.manifest import Manifest
from v2l.runtime import rng

CACHE_BYTES = 2 * 2**30
CROP_SCALE = (0.2, 1.0)  # share of the area


class TrainingImages(Dataset):
    """The images of some manifest rows as uint8 tensors CHW; decoded once and kept when they need less than 2 GB.

    `augmentation` is that of `train_tokenizer`: with it, images differ from epoch to epoch and none is kept.
    """

    def __init__(
        self, manifest: Manifest, rows: np.ndarray, geometry: Geometry, augmentation: str = "none", seed: int = 0
    ):
        self.manifest, self.rows, self.geometry, self.seed = manifest, rows, geometry, seed
        self.is_augmented = augmentation == "random-resized-crop"
        self.cache: list[Tensor] | None = None
        if not self.is_augmented and len(rows) * 3 * geometry.image_size**2 < CACHE_BYTES:
            with ThreadPoolExecutor() as pool:
                decoded = pool.map(self.plain, range(len(rows)))
                self.cache = list(tqdm(decoded, "decode images", len(rows), disable=None))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        """Image and index of `place` = epoch * number of images + index."""
        epoch, index = divmod(place, len(self))
        if self.is_augmented:
            image = load_image(self.manifest, self.rows[index])
            image = padded_image(image) if self.manifest.fit == "pad" else image
            return _tensor(random_resized_crop(image, self.geometry.image_size, self.seed, epoch, index)), index
        return (self.cache[index] if self.cache else self.plain(index)), index

    def plain(self, index: int) -> Tensor:
        """An image as the tokenizers see it, not augmented."""
        image = load_image(self.manifest, self.rows[index])
        return _tensor(tokenizer_image(image, self.geometry, self.manifest.fit))


def random_resized_crop(image: Image.Image, size: int, seed: int, epoch: int, index: int) -> Image.Image:
    """A random part of 20 % to 100 % of the area and aspect 3/4 to 4/3 as size x size, bicubic; half of them flipped.

    As LQAE trains. The draw depends on seed, epoch and index alone, whatever was drawn before and in which process.
    """
    parts = [
        transforms.RandomResizedCrop(size, interpolation=transforms.InterpolationMode.BICUBIC, scale=CROP_SCALE),
        transforms.RandomHorizontalFlip(),
    ]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng(seed, "augmentation", epoch, index).integers(2**63)))
        return transforms.Compose(parts)(image)


def _tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


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
        order, order_epoch = None, None
        for step in range(self.first_step, self.steps):
            epoch, position = divmod(step, self.steps_per_epoch)
            if epoch != order_epoch:
                order, order_epoch = rng(self.seed, "training order", epoch).permutation(self.images), epoch
            start = position * self.batch_size
            indices = order[start : start + self.batch_size][self.rank :: self.ranks]
            yield (epoch * self.images + indices).tolist()


def loader(images: TrainingImages, order: BatchOrder) -> DataLoader:
    """Batches (uint8 image_BCHW, indices_B) in `order`; images that are not kept are decoded by worker processes."""
    workers = 0 if images.cache else len(os.sched_getaffinity(0))
    return DataLoader(images, batch_sampler=order, num_workers=workers, pin_memory=torch.cuda.is_available())
