"""What an image restoration task is made of: how it corrupts an image, and which tokens it asks for."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from PIL import Image

from v2l.configuration.config import Corruption
from v2l.configuration.registry import implementation_of
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.data.geometry import Geometry
from v2l.data.images import tokenizer_image
from v2l.errors import UserError
from v2l.runtime import rng


class ImageCorruption(ABC):
    """The corruption of restoration task `name`; `settings` are section `extract_tokens.corruption`.

    `is_masked`: the asked positions are hidden in the corrupted image and the others are as they were, so that a
    language model needs no token of the corrupted image, and sees its own predictions (paper). Else it translates the
    corrupted map to the clean one.
    """

    is_masked: ClassVar[bool] = False

    def __init__(self, name: str, settings: Corruption):
        self.name, self.settings = name, settings

    def corrupt(self, image: Image.Image, geometry: Geometry, fit: str, seed: int, image_id: str) -> Image.Image:
        """The RGB `image` (any size) as the corrupted square tokenizer image of side `geometry.image_size`.

        What is random depends on `seed`, the task and `image_id` alone.
        """
        square = tokenizer_image(image, geometry, fit)
        return self.corrupt_square(square, geometry, rng(seed, self.name, image_id))

    @abstractmethod
    def corrupt_square(self, image: Image.Image, geometry: Geometry, generator: np.random.Generator) -> Image.Image:
        """The clean square tokenizer image corrupted, of the same size."""

    @classmethod
    def positions(cls, grid: tuple[int, int]) -> np.ndarray:
        """Positions (int64, ascending) of a `grid` = (h, w) row-major token map that are asked for: here all."""
        return np.arange(grid[0] * grid[1], dtype=np.int64)


def corruption_class(task: str) -> type[ImageCorruption]:
    """The class of a restoration task. Raises UserError with the nearest known name."""
    return implementation_of(RESTORATION_TASKS[task])


def mask_positions(task: str, grid: tuple[int, int]) -> np.ndarray:
    """The positions that `task` asks for. Raises UserError for an unknown task or a grid without two rows and columns.

    inpainting: the centre block of half the height and width (16x16: rows and columns 4..11, the paper's 8x8 mask).
    outpainting: the bottom half (16x16: rows 8..15, the paper's 8x16 mask). Other tasks of the paper: every position.
    """
    if min(grid) < 2:
        raise UserError(
            f"the token map is {grid[0]}x{grid[1]}",
            "at least 2x2 tokens, so that a mask leaves something to see",
            "raise train_tokenizer.network.image_size or use fewer channel_multipliers",
        )
    return corruption_class(task).positions(grid)


def corrupted(
    image: Image.Image, task: str, geometry: Geometry, fit: str, settings: Corruption | None, seed: int, image_id: str
) -> Image.Image:
    """The tokenizer image of `image` for `task`; `none`, which needs no settings: clean."""
    if task == "none" or settings is None:
        return tokenizer_image(image, geometry, fit)
    return corruption_class(task)(task, settings).corrupt(image, geometry, fit, seed, image_id)
