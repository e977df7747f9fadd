"""Training images as tensors; how one is augmented depends on seed, epoch and image alone."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TypeVar

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
from v2l.errors import UserError
from v2l.io.pixel_files import PixelFile
from v2l.runtime import rng
from v2l.training.batch_order import BatchOrder

Decoded = TypeVar("Decoded")

CACHE_BYTES = 2 * 2**30
CROP_SCALE = (0.2, 1.0)  # share of the area


@cache
def decoded_file(path: Path) -> PixelFile:
    """The output of stage decode_images, mapped into the memory of each process that asks for it."""
    return PixelFile(path)


class TrainingImages(Dataset):
    """The images of some manifest rows as uint8 tensors CHW; decoded once and kept when they need less than 2 GB.

    `copy`: a file of stage decode_images that they are read from instead; not with crops. `augmentation` is that of
    `train_tokenizer`; with it, images differ from epoch to epoch. Crops are drawn from the images as they were decoded,
    so that these are what is kept then.
    """

    def __init__(
        self,
        manifest: Manifest,
        rows: np.ndarray,
        geometry: Geometry,
        augmentation: str = "none",
        seed: int = 0,
        copy: Path | None = None,
    ):
        self.manifest, self.rows, self.geometry, self.seed = manifest, rows, geometry, seed
        self.augmentation, self.copy = augmentation, copy
        if copy:
            require_images(copy, len(manifest.image_id), geometry.image_size)
        self.crops = augmentation == "random-resized-crop"
        self.squares: list[Image.Image] = []
        self.tensors: list[Tensor] = []
        if 3 * self._pixels() < CACHE_BYTES:
            if self.crops:
                self.squares = decoded(self.square, len(rows))
            else:
                self.tensors = decoded(self.plain, len(rows))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        """Image and index of `place` = epoch * number of images + index."""
        epoch, index = divmod(place, len(self))
        if self.crops:
            image = self.squares[index] if self.squares else self.square(index)
            return _tensor(random_resized_crop(image, self.geometry.image_size, self.seed, epoch, index)), index
        image_CHW = self.tensors[index] if self.tensors else self.plain(index)
        if self.augmentation == "flip" and rng(self.seed, "augmentation", epoch, index).random() < 0.5:
            image_CHW = image_CHW.flip(2)
        return image_CHW, index

    def _pixels(self) -> int:
        """Pixels of all images as they would be kept, by the manifest."""
        if not self.crops:
            return len(self.rows) * self.geometry.image_size**2
        size_N2 = self.manifest.sizes(self.rows)
        return int((size_N2.max(1) ** 2 if self.manifest.fit == "pad" else size_N2.prod(1)).sum())

    def square(self, index: int) -> Image.Image:
        """An image as it was decoded; where it is to be padded, with its padding."""
        image = load_image(self.manifest, self.rows[index])
        return padded_image(image) if self.manifest.fit == "pad" else image

    def plain(self, index: int) -> Tensor:
        """An image as the tokenizers see it, not augmented."""
        if self.copy:
            return _tensor(decoded_file(self.copy).image(self.rows[index]))
        image = load_image(self.manifest, self.rows[index])
        return _tensor(tokenizer_image(image, self.geometry, self.manifest.fit))


def decoded(decode: Callable[[int], Decoded], images: int) -> list[Decoded]:
    """`decode` of every index, by all cores."""
    with ThreadPoolExecutor() as pool:
        return list(tqdm(pool.map(decode, range(images)), "decode images", images, disable=None))


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


def require_images(path: Path, images: int, side: int) -> None:
    """Raise UserError unless `path` holds so many images of that side."""
    found, expected = str(decoded_file(path).shape), str((images, side, side, 3))
    if found != expected:
        raise UserError(
            f"{path} does not hold the images ({found})", f"shape {expected}", "delete it: decode_images makes it anew"
        )


def _tensor(image: Image.Image | np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def loader(images: TrainingImages, order: BatchOrder, cores: int) -> DataLoader:
    """Batches (uint8 image_BCHW, indices_B) in `order`; a worker process a core decodes or crops what must be."""
    workers = 0 if images.tensors else cores
    return DataLoader(images, batch_sampler=order, num_workers=workers, pin_memory=torch.cuda.is_available())
