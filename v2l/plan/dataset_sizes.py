"""How many pictures a data set has: from its manifest, else as it is distributed."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from v2l.configuration.config import Config
from v2l.configuration.dataset_entries import Dataset
from v2l.io.storage import read_parquet

# Of each kind: pictures of each split as distributed, and the mean size of a file in bytes.
KNOWN: dict[str, tuple[dict[str, int], int]] = {
    "imagenet": ({"train": 1_281_167, "val": 50_000}, 110_000),
    "mini_imagenet": ({"train": 38_400, "val": 9_600, "test": 12_000}, 110_000),
    "coco_captions": ({"train": 82_783, "val": 40_504}, 163_000),
    "vqa_v2": ({"train": 82_783, "val": 40_504}, 163_000),
    "easy_vqa": ({"train": 4_000, "test": 1_000}, 600),
    "emoji": ({"train": 685, "val": 123}, 20_000),
}
UNKNOWN: tuple[dict[str, int], int] = ({"train": 8_500, "val": 1_500}, 110_000)  # a folder that was never indexed


class DatasetSize(NamedTuple):
    """Pictures by split, bytes of a file, and whether they are only `assumed`."""

    splits: dict[str, int]
    file_bytes: int
    assumed: bool

    def images(self, splits: Iterable[str] | None = None) -> int:
        """Pictures of some splits; None: of all."""
        return sum(self.splits.values()) if splits is None else sum(self.splits.get(name, 0) for name in splits)


def dataset_size(config: Config, name: str, results: Path) -> DatasetSize:
    """The size of data set `name`; its manifest lies below the experiment's `results` once it is indexed."""
    entry, manifest = config.datasets[name], results / "index_images" / f"{name}.parquet"
    _, file_bytes = KNOWN.get(entry.kind, UNKNOWN)
    if manifest.exists():
        return DatasetSize(
            dict(Counter(read_parquet(manifest, columns=["split"])["split"].to_pylist())), file_bytes, False
        )
    return DatasetSize(_distributed(entry), file_bytes, True)


def sample_images(config: Config, sample: str, results: Path) -> int:
    """Pictures of a sample, in one corruption."""
    entry = config.samples[sample]
    there = dataset_size(config, entry.dataset, results).images(entry.splits)
    return min(there, entry.images or there)


def _distributed(entry: Dataset) -> dict[str, int]:
    splits, _ = KNOWN.get(entry.kind, UNKNOWN)
    limit = getattr(entry, "images_per_split", None)
    used = getattr(entry, "splits", None) or splits
    return {name: min(count, limit or count) for name, count in splits.items() if name in used}
