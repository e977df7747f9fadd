"""Pixel corruptions of the five restoration tasks (paper section 3.3; details from the released code)."""

import numpy as np
from PIL import Image

from v2l.configuration.config import Corruption
from v2l.configuration.tokenizer_training import Geometry
from v2l.data.images import WHITE, resize_shorter_side, tokenizer_image
from v2l.runtime import rng
from v2l.tasks.token_maps import MASKED_TASKS, mask_positions

GREY = 128  # the uint8 value nearest to 0 in [-1, 1], from above


def corrupt(
    image: Image.Image, task: str, geometry: Geometry, fit: str, corruption: Corruption, seed: int, image_id: str
) -> Image.Image:
    """The RGB `image` (any size) as the square tokenizer image of side `geometry.image_size`, corrupted for `task`.

    none: as it is. inpainting, outpainting: mid-grey where the masked tokens lie. deblurring: Gaussian blur whose
    kernel is drawn from `seed` and `image_id` alone. rotation: 90 degrees counter-clockwise (released). shift: see
    `Corruption.shift`; a padded image is square, so corner-crop leaves it where it is.
    """
    if task == "shift" and corruption.shift == "corner-crop" and fit == "crop":
        image = _bottom_right(image, geometry.resize_via or geometry.image_size)
    image = tokenizer_image(image, geometry, fit)
    if task in MASKED_TASKS:
        return _mask(image, task, geometry)
    if task == "deblurring":
        kernel = int(rng(seed, "deblurring", image_id).choice(corruption.blur_kernels))
        from torchvision.transforms.functional import gaussian_blur  # takes seconds that other corruptions can spare

        return gaussian_blur(image, [kernel, kernel], [blur_sigma(kernel, corruption)] * 2)
    if task == "rotation":
        return image.transpose(Image.Transpose.ROTATE_90)
    if task == "shift" and corruption.shift == "translate":
        offset = round(corruption.shift_share * geometry.image_size)
        canvas = Image.new("RGB", image.size, WHITE)
        canvas.paste(image, (offset, offset))
        return canvas
    return image


def blur_sigma(kernel: int, corruption: Corruption) -> float:
    """Standard deviation of the blur in pixels; by default OpenCV's rule for a kernel of that side."""
    return corruption.blur_sigma or 0.3 * ((kernel - 1) / 2 - 1) + 0.8


def _bottom_right(image: Image.Image, side: int) -> Image.Image:
    resized = resize_shorter_side(image, side)
    return resized.crop((resized.width - side, resized.height - side, resized.width, resized.height))


def _mask(image: Image.Image, task: str, geometry: Geometry) -> Image.Image:
    pixels_HWC = np.array(image)
    masked_L = np.zeros(geometry.grid**2, dtype=bool)
    masked_L[mask_positions(task, (geometry.grid, geometry.grid))] = True
    token_side = geometry.image_size // geometry.grid
    masked_HW = np.kron(masked_L.reshape(geometry.grid, geometry.grid), np.ones((token_side, token_side), dtype=bool))
    pixels_HWC[: masked_HW.shape[0], : masked_HW.shape[1]][masked_HW] = GREY
    return Image.fromarray(pixels_HWC)
