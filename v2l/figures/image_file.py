"""What figures show: outputs of reconstruct_images, originals, and which images are drawn."""

from pathlib import Path
from typing import TypeVar

import numpy as np

from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.data.image_loading import load_image
from v2l.data.images import decode_png, square_image
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.storage import parquet_metadata, read_parquet
from v2l.runtime import rng

T = TypeVar("T")


class ImageFile:
    """An output of reconstruct_images: what made it, and its images one by one."""

    def __init__(self, path: Path):
        self.path = path
        metadata = parquet_metadata(path)
        self.config = metadata["v2l"]["config"]
        job = self.config["job"]
        self.size, self.grid = (metadata["geometry"][key] for key in ("image_size", "grid"))
        self.tokenizer, self.source = job["tokenizer"], Source.parse(job["source"])
        table = read_parquet(path, columns=["image_id", "task"])
        self.image_ids = list(dict.fromkeys(table["image_id"].to_pylist()))
        self.tasks = set(table["task"].to_pylist())

    @property
    def is_input(self) -> bool:
        """Whether these are corrupted images, or images with gaps."""
        return self.source.predictor == "corrupted-input"

    @property
    def is_oracle(self) -> bool:
        """Whether these are decoded clean tokens."""
        return self.source.predictor == "tokenizer-oracle"

    def images(self, task: str, image_ids: list[str]) -> list[np.ndarray]:
        """uint8 RGB arrays of `image_ids`, in their order."""
        wanted = [("task", "==", task), ("image_id", "in", image_ids)]
        table = read_parquet(self.path, columns=["image_id", "image"], filters=wanted)
        images = dict(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))
        return [decode_png(images[image_id]) for image_id in image_ids]


def common_images(files: list[ImageFile]) -> list[str]:
    """Image ids that every file holds, in the order of the first."""
    shared = set.intersection(*(set(file.image_ids) for file in files))
    return [image_id for image_id in files[0].image_ids if image_id in shared]


def choose(config: StageConfig, image_ids: list[T], source: Path, blocks: int = 1) -> list[T]:
    """Up to `make_figures.images` of `image_ids` (or rows), drawn with the experiment's seed, in their order.

    A figure that shows them in so many `blocks` has as many in all, and at least one in each.
    """
    if not image_ids:
        raise UserError(f"{source} has no image to show", "images that all inputs share", "delete it and run again")
    count = min(-(-config.make_figures.images // blocks), len(image_ids))
    rows = rng(config.seed, "figure", config.job["figure"]).choice(len(image_ids), count, replace=False)
    return [image_ids[row] for row in np.sort(rows)]


def originals(manifest: Manifest, image_ids: list[str], side: int) -> list[np.ndarray]:
    """The images as uint8 RGB squares of `side` pixels."""
    rows = manifest.rows_of(image_ids)
    return [np.asarray(square_image(load_image(manifest, row), side, manifest.fit)) for row in rows]
