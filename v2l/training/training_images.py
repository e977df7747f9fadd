"""Training images as tensors; how one is augmented depends on seed, epoch and image alone."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as transforms
from tqdm import tqdm

from v2l.data.geometry import Geometry
from v2l.data.image_loading import load_image
from v2l.data.images import padded_image, tokenizer_image
from v2l.data.manifest import Manifest
from v2l.runtime import rng
from v2l.training.batch_order import BatchOrder

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


def loader(images: TrainingImages, order: BatchOrder) -> DataLoader:
    """Batches (uint8 image_BCHW, indices_B) in `order`; images that are not kept are decoded by worker processes."""
    workers = 0 if images.cache else len(os.sched_getaffinity(0))
    return DataLoader(images, batch_sampler=order, num_workers=workers, pin_memory=torch.cuda.is_available())
