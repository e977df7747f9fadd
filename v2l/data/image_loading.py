"""Reading a manifest's images in batches, decoded by threads while earlier ones are worked on; and their features."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from v2l.data.images import open_image
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.storage import read_tensors

BATCHES_AHEAD = 2
T = TypeVar("T")


def load_features(path: Path, manifest: Manifest) -> Tensor:
    """Image features of a manifest's rows, float32 feature_ND. Raises UserError if there is not one for each image."""
    feature_ND = read_tensors(path)[0]["feature_ND"]
    if len(feature_ND) != len(manifest.image_id):
        raise UserError(
            f"{path} has {len(feature_ND)} rows, the manifest {len(manifest.image_id)} images",
            "one feature per image, in the manifest's order",
            "delete it and run embed_images again",
        )
    return feature_ND


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
