"""What every image-text encoder offers, and how its files are checked."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from v2l.data.images import square_image
from v2l.encoders.prompt_templates import PromptTemplate
from v2l.errors import UserError, few


class ImageTextEncoder(ABC):
    """A frozen encoder of texts and images into one space of `dimension` channels; images enter `image_size` px wide.

    Features are float32 feature_ND on `device`, each row of length 1, in the order of the input.
    """

    dimension: int
    image_size: int
    device: torch.device

    @abstractmethod
    def encode_text(self, texts: list[str]) -> Tensor:
        """Features of `texts` in one batch, padded to the longest; a text beyond the model's context is cut."""

    @abstractmethod
    def token_counts(self, texts: list[str]) -> list[int]:
        """Length of each text in tokens, so that texts of one length can share a batch without padding."""

    @abstractmethod
    def encode_squares(self, pixels_NHWC: np.ndarray) -> Tensor:
        """Features of uint8 RGB images (0..255) that are already image_size x image_size."""

    def mean_over_templates(self, templates: list[PromptTemplate], texts: list[str]) -> Tensor:
        """Mean of the features of each text in each template, float32 mean_BD on `device`, not normalised again."""
        sum_BD = torch.zeros(len(texts), self.dimension, device=self.device)
        for template in templates:
            sum_BD += self.encode_text([template(text) for text in texts])
        return sum_BD / len(templates)

    def square(self, image: Image.Image, fit: str) -> np.ndarray:
        """An RGB image of any size as uint8 pixels_HWC for `encode_squares`; `fit` as in `data.images.square_image`."""
        return np.array(square_image(image, self.image_size, fit))

    def encode_images(self, images: list[Image.Image], fit: str) -> Tensor:
        """Features of RGB images of any size, in one batch."""
        return self.encode_squares(np.stack([self.square(image, fit) for image in images]))


def require_features(feature_ND: Tensor, names: Sequence[str]) -> None:
    """Raise UserError that names the items of `names` whose features have no direction: not finite, or all zero."""
    length_N = feature_ND.norm(dim=1)
    usable_N = length_N.isfinite() & (length_N > 0)
    if bool(usable_N.all()):
        return
    broken = [repr(name) for name, usable in zip(names, usable_N.tolist(), strict=True) if not usable]
    raise UserError(
        f"the encoder gives features that are zero or not finite for {len(broken)} of {len(names)} inputs at once: "
        f"{few(broken)}",
        "finite features with a direction",
        "set `precision: float32` of the encoder in `encoders`; if it is, its weights are damaged: get them again",
    )


def existing_path(path: str, key: str) -> Path:
    """`path`, which config key `key` of the encoder names. Raises UserError if nothing is there."""
    if not Path(path).exists():
        raise UserError(
            f"encoder key `{key}`: {path} does not exist",
            "a file or folder on this machine",
            "run fetch_assets, or correct the path in `encoders`",
        )
    return Path(path)
