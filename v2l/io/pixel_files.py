"""Decoded images in one `.npy` file, each with a checksum that is compared whenever it is read.

Behind the pixels, where numpy does not look, stand the CRC-32 of all images and that of the header, 4 bytes each,
little-endian.
"""

import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from v2l.io.digests import damaged
from v2l.io.disk_errors import disk_errors_named

CHECKSUM = np.dtype("<u4")


def create_pixels(path: Path, shape: tuple[int, ...]) -> None:
    """An empty file of N x H x W x 3 pixels (uint8), which takes its room on the disk when they are written.

    Whole or not at all: a later start goes on with what is there.
    """
    with disk_errors_named(path):
        begun = path.with_name(f"{path.name}.begun")
        try:
            pixels = open_memmap(begun, "w+", np.uint8, shape)
            with open(begun, "r+b") as file:
                header = zlib.crc32(file.read(pixels.offset))
                file.seek(pixels.offset + pixels.size + shape[0] * CHECKSUM.itemsize)
                file.write(np.array(header, CHECKSUM).tobytes())
            os.replace(begun, path)
        finally:
            begun.unlink(missing_ok=True)


def write_pixels(path: Path, rows: Sequence[int] | np.ndarray, image_BHWC: np.ndarray) -> None:
    """Write images (uint8) at consecutive `rows` of a file that `create_pixels` made, whoever writes other rows."""
    whole = np.load(path, mmap_mode="r")
    data = [image.tobytes() for image in image_BHWC]
    sums = np.array([zlib.crc32(image) for image in data], CHECKSUM)
    with disk_errors_named(path), open(path, "r+b") as file:
        file.seek(whole.offset + int(rows[0]) * len(data[0]))
        file.write(b"".join(data))
        file.seek(whole.offset + whole.size + int(rows[0]) * CHECKSUM.itemsize)
        file.write(sums.tobytes())


class PixelFile:
    """The images of a file, mapped into memory. Raises UserError if its length or its header is not as it was."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with open(path, "rb") as file:
                start = file.read(10)
                header = start + file.read(int.from_bytes(start[8:], "little"))
                file.seek(-CHECKSUM.itemsize, os.SEEK_END)
                if file.read() != np.array(zlib.crc32(header), CHECKSUM).tobytes():
                    raise ValueError("it is cut short, damaged, or of an earlier version")
            self._pixels = np.load(path, mmap_mode="r")
            self.shape = self._pixels.shape
            place = self._pixels.offset + self._pixels.size
            self._sums = np.memmap(path, CHECKSUM, "r", place, (self.shape[0],))
        except (OSError, ValueError) as error:
            raise damaged(path, error) from None

    def image(self, row: int) -> np.ndarray:
        """An image as a uint8 array H x W x 3. Raises UserError if it is not what was written."""
        image_HWC = self._pixels[row]
        if zlib.crc32(image_HWC) != self._sums[row]:
            raise damaged(self.path, f"image {row} does not match its checksum")
        return image_HWC
