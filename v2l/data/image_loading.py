"""Reading a manifest's images in batches, decoded by threads while earlier ones are worked on; and their features."""

from __future__ import annotations  # torch takes two seconds to import, and is only named here

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image

from v2l.data.images import open_image
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.overlap import BATCHES_AHEAD, mapped
from v2l.io.storage import read_tensors

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")


def load_features(path: Path, manifest: Manifest) -> Tensor:
    """Image features of a manifest's rows, float32 feature_ND. Raises UserError if there is not a finite one for each
    image."""
    feature_ND = read_tensors(path)[0]["feature_ND"]
    if len(feature_ND) != len(manifest.image_id):
        raise UserError(
            f"{path} has {len(feature_ND)} rows, the manifest {len(manifest.image_id)} images",
            "one feature per image, in the manifest's order",
            "delete it and run embed_images again",
        )
    if not bool(feature_ND.isfinite().all()):
        raise UserError(
            f"{path} has features that are not finite", "finite numbers", "delete it and run embed_images again"
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
    """Batches of `rows` in order, each with `transform(image, row)` of its rows, made by threads two batches ahead."""

    def load(row: int) -> T:
        return transform(load_image(manifest, row), row)

    with closing(mapped(load, rows, BATCHES_AHEAD * batch_size)) as loaded:
        for start in range(0, len(rows), batch_size):
            batch = rows[start : start + batch_size]
            yield batch, list(islice(loaded, len(batch)))
