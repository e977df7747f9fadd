"""The five restoration tasks of the paper (section 3.3; details from the released code)."""

from typing import ClassVar

import numpy as np
from PIL import Image

from v2l.configuration.config import Corruption
from v2l.data.geometry import Geometry
from v2l.data.images import WHITE, resize_shorter_side
from v2l.tasks.image_corruption import ImageCorruption

GREY = 128  # the uint8 value nearest to 0 in [-1, 1], from above


class GreyMask(ImageCorruption):
    """Mid-grey where the asked tokens lie."""

    is_masked: ClassVar[bool] = True

    def corrupt_square(self, image: Image.Image, geometry: Geometry, generator: np.random.Generator) -> Image.Image:
        pixels_HWC = np.array(image)
        grid = geometry.grid
        masked_L = np.zeros(grid**2, dtype=bool)
        masked_L[self.positions((grid, grid))] = True
        token_side = geometry.image_size // grid
        masked_HW = np.kron(masked_L.reshape(grid, grid), np.ones((token_side, token_side), dtype=bool))
        pixels_HWC[: masked_HW.shape[0], : masked_HW.shape[1]][masked_HW] = GREY
        return Image.fromarray(pixels_HWC)


class Inpainting(GreyMask):
    """The centre block of half the height and width is asked for."""

    @classmethod
    def positions(cls, grid: tuple[int, int]) -> np.ndarray:
        height, width = grid
        rows, columns = height // 2, width // 2
        top, left = (height - rows) // 2, (width - columns) // 2
        return super().positions(grid).reshape(height, width)[top : top + rows, left : left + columns].ravel()


class Outpainting(GreyMask):
    """The bottom half is asked for."""

    @classmethod
    def positions(cls, grid: tuple[int, int]) -> np.ndarray:
        height, width = grid
        return super().positions(grid)[(height - height // 2) * width :]


class Deblurring(ImageCorruption):
    """Gaussian blur whose kernel is drawn for each image."""

    def corrupt_square(self, image: Image.Image, geometry: Geometry, generator: np.random.Generator) -> Image.Image:
        from torchvision.transforms.functional import gaussian_blur  # takes seconds that other corruptions can spare

        kernel = int(generator.choice(self.settings.blur_kernels))
        return gaussian_blur(image, [kernel, kernel], [blur_sigma(kernel, self.settings)] * 2)


class Rotation(ImageCorruption):
    """90 degrees counter-clockwise (released)."""

    def corrupt_square(self, image: Image.Image, geometry: Geometry, generator: np.random.Generator) -> Image.Image:
        return image.transpose(Image.Transpose.ROTATE_90)


class Shift(ImageCorruption):
    """See key `shift`; a padded image is square, so corner-crop leaves it where it is."""

    def corrupt(self, image: Image.Image, geometry: Geometry, fit: str, seed: int, image_id: str) -> Image.Image:
        if self.settings.shift == "corner-crop" and fit == "crop":
            image = _bottom_right(image, geometry.resize_via or geometry.image_size)
        return super().corrupt(image, geometry, fit, seed, image_id)

    def corrupt_square(self, image: Image.Image, geometry: Geometry, generator: np.random.Generator) -> Image.Image:
        if self.settings.shift == "corner-crop":
            return image
        offset = round(self.settings.shift_share * geometry.image_size)
        canvas = Image.new("RGB", image.size, WHITE)
        canvas.paste(image, (offset, offset))
        return canvas


def blur_sigma(kernel: int, settings: Corruption) -> float:
    """Standard deviation of the blur in pixels; by default OpenCV's rule for a kernel of that side."""
    return settings.blur_sigma or 0.3 * ((kernel - 1) / 2 - 1) + 0.8


def _bottom_right(image: Image.Image, side: int) -> Image.Image:
    resized = resize_shorter_side(image, side)
    return resized.crop((resized.width - side, resized.height - side, resized.width, resized.height))
