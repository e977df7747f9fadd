"""Reading images and making them square; sides in pixels, PIL RGB images or uint8 arrays with values 0..255."""

from __future__ import annotations  # torch takes two seconds to import, and reading pictures needs none

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from v2l.data.geometry import Geometry

if TYPE_CHECKING:
    import torch

WHITE = (255, 255, 255)


def open_image(path: Path) -> Image.Image:
    """The RGB image at `path`; transparent pixels become white. Raises OSError on a truncated or non-image file."""
    with Image.open(path) as file:
        if file.mode in ("RGBA", "LA", "PA") or "transparency" in file.info:
            image = file.convert("RGBA")
            canvas = Image.new("RGBA", image.size, WHITE + (255,))
            return Image.alpha_composite(canvas, image).convert("RGB")
        return file.convert("RGB")


def square_image(image: Image.Image, size: int, fit: str) -> Image.Image:
    """`image` as size x size, bicubic. `crop`: shorter side resized, centre crop; `pad`: white margins first."""
    if fit == "pad":
        return padded_image(image).resize((size, size), Image.Resampling.BICUBIC)
    image = resize_shorter_side(image, size)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def padded_image(image: Image.Image) -> Image.Image:
    """`image` with white margins that make it square."""
    width, height = image.size
    side = max(width, height)
    canvas = Image.new("RGB", (side, side), WHITE)
    canvas.paste(image, ((side - width) // 2, (side - height) // 2))
    return canvas


def resize_shorter_side(image: Image.Image, size: int) -> Image.Image:
    """`image` with its shorter side `size` pixels long, bicubic."""
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def tokenizer_image(image: Image.Image, geometry: Geometry, fit: str) -> Image.Image:
    """The square image that the tokenizers see (released training resizes via 224, then bilinear)."""
    if geometry.resize_via is None:
        return square_image(image, geometry.image_size, fit)
    via = square_image(image, geometry.resize_via, fit)
    return via.resize((geometry.image_size, geometry.image_size), Image.Resampling.BILINEAR)


def to_tensor(images: list[Image.Image]) -> torch.Tensor:
    """uint8 images of one size as float32 image_BCHW in [-1, 1]."""
    import torch

    pixels_BHWC = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return pixels_BHWC.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(image_BCHW: torch.Tensor) -> torch.Tensor:
    """float image_BCHW in [-1, 1] (clamped) as uint8 image_BHWC on the same device."""
    scaled = (image_BCHW.clamp(-1, 1) + 1) * 127.5
    return scaled.round().byte().permute(0, 2, 3, 1).contiguous()


def encode_png(pixels_HWC: np.ndarray) -> bytes:
    """A uint8 RGB array as PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, format="png")
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """PNG bytes as a uint8 RGB array HWC."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
