"""Reading images and making them square; sides in pixels, PIL RGB images or uint8 arrays with values 0..255."""

from __future__ import annotations  # torch takes two seconds to import, and reading pictures needs none

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from v2l.data.geometry import Geometry

if TYPE_CHECKING:
    import torch

WHITE = (255, 255, 255)
# Pillow's names of the formats that are read, whatever a file's ending. Of others some start programs: EPS Ghostscript.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
MOST_PIXELS = 89_478_485  # pillow's own limit, above which a file may be a decompression bomb: 268 MB as RGB
MOST_TIMES_AS_LONG = 100  # the longer side; resized to the shorter one, such a picture still fits the memory
ORIENTATION = 0x0112  # tag of EXIF
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # tags of TIFF, and a value
NO_KNOWN_WHITE = {"F": "floating-point", "I": "32-bit integer"}


def open_image(path: Path) -> Image.Image:
    """The RGB image at `path`: its first frame, as stored (no EXIF orientation); transparent pixels become white.

    Read are `FORMATS` alone. 16-bit grey is scaled from 0..65535. Raises OSError, with the reason, for a truncated or
    non-image file, one of more than `MOST_PIXELS` or one side `MOST_TIMES_AS_LONG`, and for values that have no
    defined white (floats, 32 bits) or a colour space that pillow cannot convert.
    """
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such a size is refused below
            with _opened(path) as file:
                _check_size(*file.size)
                return as_rgb(file)
    except OSError:
        raise
    except Exception as error:  # decoders raise many kinds; whichever it is, the image cannot be used
        raise OSError(f"{type(error).__name__}: {error}") from error


def passed_over(path: Path) -> list[str]:
    """What `open_image` leaves out of a file that it reads, in words that are alike for alike files: for the log."""
    found = []
    with _opened(path) as file:
        if file.format != "MPO" and _or_default(lambda: getattr(file, "n_frames", 1), 1) > 1:
            found.append("have further frames or pages (only the first is used)")
        if _or_default(lambda: file.getexif().get(ORIENTATION), 1) in range(2, 9):
            found.append("have an EXIF orientation (not applied, as in torchvision)")
    return found


def _opened(path: Path) -> Image.Image:
    Image.init()
    return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])


def _or_default(read: Callable[[], Any], default: int) -> Any:
    """What `read` finds in a file's further parts; they may be missing, or damaged without touching the pixels."""
    try:
        return read()
    except Exception:
        return default


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise OSError(f"{width} x {height} pixels are more than {MOST_PIXELS}")
    if max(width, height) > MOST_TIMES_AS_LONG * min(width, height):
        raise OSError(f"{width} x {height} pixels: one side is more than {MOST_TIMES_AS_LONG} times the other")


def as_rgb(file: Image.Image) -> Image.Image:
    """An opened image as `open_image` gives it; raises OSError as it does."""
    if file.mode.startswith("I;16") or (file.mode == "I" and file.format in ("PNG", "PPM")):
        return _from_16_bits(file)
    if file.mode in NO_KNOWN_WHITE:
        raise OSError(f"{NO_KNOWN_WHITE[file.mode]} values, whose white is not known: save it with 8 or 16 bits")
    if file.mode == "La":
        return _on_white(file.convert("LA").convert("RGBA"))
    if file.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in file.info:
        return _on_white(file.convert("RGBA"))
    return file.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGBA", image.size, WHITE + (255,))
    return Image.alpha_composite(canvas, image).convert("RGB")


def _from_16_bits(file: Image.Image) -> Image.Image:
    """A grey image of 0..65535 (TIFF: of as many bits as its tag says) as RGB of 0..255, rounded."""
    value_HW = np.asarray(file).astype(np.int64)
    tags = getattr(file, "tag_v2", {})
    white = 2 ** tags.get(BITS_PER_SAMPLE, (16,))[0] - 1
    grey_HW = ((value_HW.clip(0, white) * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        grey_HW = 255 - grey_HW
    transparent = file.info.get("transparency")
    if isinstance(transparent, int):
        grey_HW[value_HW == transparent] = 255
    return Image.fromarray(grey_HW).convert("RGB")


def square_image(image: Image.Image, size: int, fit: str) -> Image.Image:
    """`image` as size x size, bicubic. `crop`: shorter side resized, centre crop; `pad`: white margins first."""
    if fit == "pad":
        if max(image.size) ** 2 > MOST_PIXELS:  # the margins would fill the memory
            scale = size / max(image.size)
            width, height = (max(1, round(side * scale)) for side in image.size)
            return padded_image(image.resize((width, height), Image.Resampling.BICUBIC))
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
    return to_float(pixels_BHWC.permute(0, 3, 1, 2))


def to_float(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 pixels of any shape as float32 in [-1, 1], on the same device."""
    return pixels.float() / 127.5 - 1


def to_uint8(image_BCHW: torch.Tensor) -> torch.Tensor:
    """float image_BCHW in [-1, 1] (clamped) as uint8 image_BHWC on the same device."""
    scaled = (image_BCHW.clamp(-1, 1) + 1) * 127.5
    return scaled.round().byte().permute(0, 2, 3, 1).contiguous()


def encode_png(pixels_HWC: np.ndarray) -> bytes:
    """A uint8 RGB array as PNG bytes; a fifth larger than they could be, and written four times faster."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_HWC).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def decode_png(data: bytes) -> np.ndarray:
    """PNG bytes as a uint8 RGB array HWC."""
    return np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)).convert("RGB"))
