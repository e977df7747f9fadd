"""What a metric of an image and its original is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from v2l.configuration.config import ScorePredictions


class PairMetric(ABC):
    """A metric of pairs of images. `min_side` is the side in pixels, height or width, below which it has no value.

    `section.mode` is the mode asked for; one that follows it says so in `released` of its entry.
    Where it is made, networks are loaded; that raises UserError for weights that are missing or wrong.
    """

    min_side: ClassVar[int] = 1

    def __init__(self, section: ScorePredictions, device: torch.device):
        self.section, self.device = section, device

    @abstractmethod
    def __call__(self, image_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
        """value_B of each pair, not finite where it has none: such items are left out of the mean.

        Both are float32 RGB in [0, 1] on the device, of one shape with sides of at least `min_side`: `measured_pairs`
        has checked it. Called without gradients.
        """


def measured_pairs(metrics: Mapping[str, PairMetric], image_BCHW: Tensor, original_BCHW: Tensor) -> dict[str, Tensor]:
    """value_B of every metric by its name.

    Raises ValueError unless both are float32 B x 3 x H x W in [0, 1] of one shape, large enough for every metric, and
    each metric gives one value a pair.
    """
    for images in (image_BCHW, original_BCHW):
        _check_images(images)
    if image_BCHW.shape != original_BCHW.shape:
        raise ValueError(f"images are {tuple(image_BCHW.shape)}, originals {tuple(original_BCHW.shape)}")
    sides = tuple(image_BCHW.shape[2:])
    for name, metric in metrics.items():
        if min(sides) < metric.min_side:
            raise ValueError(f"metric {name} needs sides of at least {metric.min_side} pixels, got {sides}")
    with torch.inference_mode():
        values = {name: metric(image_BCHW, original_BCHW) for name, metric in metrics.items()}
    for name, value_B in values.items():
        if value_B.shape != (len(image_BCHW),):
            raise ValueError(f"metric {name} gave shape {tuple(value_B.shape)} for {len(image_BCHW)} pairs")
    return values


def _check_images(image_BCHW: Tensor) -> None:
    if image_BCHW.ndim != 4 or image_BCHW.shape[1] != 3 or image_BCHW.dtype != torch.float32:
        raise ValueError(f"expected float32 B x 3 x H x W, got {image_BCHW.dtype} {tuple(image_BCHW.shape)}")
    if not ((image_BCHW >= 0) & (image_BCHW <= 1)).all():
        raise ValueError("expected values in [0, 1]")
