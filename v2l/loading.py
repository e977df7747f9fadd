"""Reading a manifest's images in batches, decoded by threads while earlier ones are worked on."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from PIL import Image

from v2l.errors import UserError
from v2l.io.images import open_image
from v2l.manifest import Manifest

BATCHES_AHEAD = 2
T = TypeVar("T")


def load_image(manifest: Manifest, row: int) -> Image.Image:
    """The RGB image of a manifest row. Raises UserError if the file is gone or damaged since it was indexed."""
    try:
        return open_image(manifest.path(row))
    except OSError as error:
        raise UserError(
            f"{manifest.path(row)} cannot be read ({error})",
            "the image that index_images found there",
            "put it back, or delete the data set's manifest to index it anew",
        ) from None


def load_batches(
    manifest: Manifest, rows: np.ndarray, transform: Callable[[Image.Image, int], T], batch_size: int
) -> Iterator[tuple[np.ndarray, list[T]]]:
    """Batches of `rows` in order, each with `transform(image, row)` of its rows; at most two batches wait in memory."""

    def load(row: int) -> T:
        return transform(load_image(manifest, row), row)

    waiting: deque = deque()
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            waiting.append((batch, [pool.submit(load, row) for row in batch]))
            if len(waiting) > BATCHES_AHEAD:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def _finished(batch: np.ndarray, futures: list) -> tuple[np.ndarray, list]:
    return batch, [future.result() for future in futures]
