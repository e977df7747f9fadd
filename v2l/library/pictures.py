"""Images as programs hold them, as the RGB pictures that the pipeline reads from files."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from v2l.data.images import as_rgb
from v2l.errors import UserError

Images = Image.Image | np.ndarray | Tensor | Sequence[Image.Image | np.ndarray | Tensor]
"""What `as_pictures` takes."""

EXPECTED = (
    "PIL images; uint8 arrays or tensors of 0..255, HWC or BHWC; float ones of 0..1, CHW or BCHW; three channels (RGB)"
)


def as_pictures(images: Images) -> list[Image.Image]:
    """RGB images of 0..255, one for each of `images`: a single one, a batch, or a sequence of images of any sizes.

    PIL images of any mode (transparent pixels become white), numpy arrays and tensors on any device: uint8 of 0..255 in
    HWC or BHWC, float of 0..1 in CHW or BCHW, which are rounded to 255 steps. Raises UserError that says what is wrong
    with which image.
    """
    if isinstance(images, Image.Image | np.ndarray | Tensor):
        return _pictures(images, "images")
    if isinstance(images, str | bytes) or not isinstance(images, Sequence):
        raise _refused(f"images is of type {type(images).__name__}", "open files with PIL.Image.open")
    return [picture for place, image in enumerate(images) for picture in _pictures(image, f"images[{place}]")]


def _pictures(image: Any, name: str) -> list[Image.Image]:
    if isinstance(image, Image.Image):
        try:
            return [as_rgb(image)]
        except Exception as error:  # decoders raise many kinds; whichever it is, the image cannot be used
            raise _refused(f"{name} cannot be read ({error})", "get the file again") from None
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = (image.float() if image.dtype == torch.bfloat16 else image).numpy()
    if not isinstance(image, np.ndarray):
        raise _refused(f"{name} is of type {type(image).__name__}", "open files with PIL.Image.open")
    return [Image.fromarray(pixels_HWC) for pixels_HWC in _pixels(image, name)]


def _pixels(values: np.ndarray, name: str) -> np.ndarray:
    """Contiguous uint8 pixels_BHWC of an array that is in one of the stated ranges and layouts."""
    shape = tuple(values.shape)
    if values.ndim not in (3, 4) or 0 in shape:
        raise _refused(f"{name} has shape {shape}", "add or drop axes")
    batch = values if values.ndim == 4 else values[None]
    if values.dtype == np.uint8:
        if shape[-1] != 3:
            raise _refused(f"{name} is uint8 of shape {shape}, its last axis is not RGB", "permute it to HWC")
        return np.ascontiguousarray(batch)
    if not np.issubdtype(values.dtype, np.floating):
        raise _refused(f"{name} holds {values.dtype}", "convert it to uint8")
    if shape[-3] != 3:
        raise _refused(
            f"{name} is float of shape {shape}, its channels are not RGB before H and W", "permute it to CHW"
        )
    low, high = float(batch.min()), float(batch.max())
    if not (low >= 0 and high <= 1):  # also false for what is not a number
        raise _refused(f"{name} is float with values from {low:.4g} to {high:.4g}", "scale it to 0..1")
    return np.ascontiguousarray((batch.astype(np.float64) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1))


def _refused(problem: str, remedy: str) -> UserError:
    return UserError(problem, EXPECTED, remedy)
