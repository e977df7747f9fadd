"""A restoration task: single pixels have turned white or black."""

import numpy as np
from PIL import Image

from v2l.configuration.restoration_tasks import RESTORATION_TASKS, RestorationTask
from v2l.data.geometry import Geometry
from v2l.tasks.image_corruption import ImageCorruption

SHARE = 0.1  # of the pixels; half of them white


class SaltAndPepper(ImageCorruption):
    """Every token is asked for, because every token may have been hit."""

    def corrupt_square(self, image: Image.Image, geometry: Geometry, generator: np.random.Generator) -> Image.Image:
        pixels_HWC = np.array(image)
        drawn_HW = generator.random(pixels_HWC.shape[:2])
        pixels_HWC[drawn_HW < SHARE / 2] = 255
        pixels_HWC[drawn_HW >= 1 - SHARE / 2] = 0
        return Image.fromarray(pixels_HWC)


RESTORATION_TASKS.add("salt-and-pepper", RestorationTask(f"{__name__}:SaltAndPepper"))
