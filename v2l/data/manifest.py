"""The manifest of a data set: one row per readable image, sorted by `image_id`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from v2l.configuration.dataset_entries import Sample
from v2l.errors import UserError
from v2l.io.storage import parquet_metadata, read_leaf, read_parquet
from v2l.runtime import rng

QUESTION = pa.struct(
    [
        ("question_id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),  # the commonest, which in-context examples show
        ("answers", pa.list_(pa.string())),  # ten annotators' in VQAv2
        ("split", pa.string()),  # the question's own: splits may share images
    ]
)
SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),  # path relative to root, with forward slashes
        ("split", pa.string()),  # of an image that splits share: the first
        ("label", pa.int32()),  # index into `classes`
        ("class_name", pa.string()),  # empty when the data set has no classes
        ("captions", pa.list_(pa.string())),
        ("questions", pa.list_(QUESTION)),
        ("width", pa.int32()),
        ("height", pa.int32()),
    ]
)


def read_annotations(path: Path, column: str) -> dict[str, list]:
    """`captions` or `questions` of every image in the manifest at `path`, by image id; empty lists are left out."""
    table = read_parquet(path, columns=["image_id", column])
    pairs = zip(table["image_id"].to_pylist(), table[column].to_pylist(), strict=True)
    return {image_id: found for image_id, found in pairs if found}


@dataclass(frozen=True)
class Manifest:
    """A manifest in memory, columns as numpy arrays of one length N; rows follow the order of `file`."""

    file: Path
    root: Path
    fit: str
    classes: list[str]
    image_id: np.ndarray
    split: np.ndarray
    label: np.ndarray
    class_name: np.ndarray

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """The manifest that stage index_images wrote at `path`."""
        metadata = parquet_metadata(path)["dataset"]
        columns = ["image_id", "split", "label", "class_name"]
        table = read_parquet(path, columns=columns)
        arrays = {name: table[name].to_numpy(zero_copy_only=False) for name in columns}
        return cls(file=path, root=Path(metadata["root"]), fit=metadata["fit"], classes=metadata["classes"], **arrays)

    def path(self, row: int) -> Path:
        """The image file of a row."""
        return self.root / self.image_id[row]

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """Width and height of the images of `rows` in pixels, int64 N2, from the file."""
        table = read_parquet(self.file, columns=["width", "height"])
        return np.stack([table[name].to_numpy() for name in ("width", "height")], axis=1).astype(np.int64)[rows]

    def rows_of(self, image_ids: list[str]) -> np.ndarray:
        """Row numbers of image ids, in their order. Raises KeyError with the first unknown id."""
        where = {image_id: row for row, image_id in enumerate(self.image_id)}
        return np.array([where[image_id] for image_id in image_ids], dtype=np.int64)

    def split_rows(self, split: str | list[str], key: str) -> np.ndarray:
        """Rows of the split or splits that config key `key` names, ascending. Raises UserError if one has none."""
        splits = [split] if isinstance(split, str) else split
        if absent := [name for name in splits if name not in self.split]:
            raise UserError(
                f"`{key}` is {split!r}, but {self.file} has no such images as {absent[0]!r}",
                f"one of {sorted(set(self.split))}",
                f"change `{key}`, or check what index_images found",
            )
        return np.flatnonzero(np.isin(self.split, splits))

    def sample_rows(self, sample: Sample, seed: int) -> np.ndarray:
        """Sorted rows of a sample: all images of its splits, or a seeded choice of `sample.images` of them.

        An image is of every split that asks about it.
        """
        rows = np.flatnonzero(np.isin(self.split, sample.splits) | self.asked_in(sample.splits))
        if sample.images is not None and sample.images < len(rows):
            rows = rng(seed, "sample", *sample.splits).choice(rows, sample.images, replace=False)
        return np.sort(rows)

    def asked_in(self, splits: list[str]) -> np.ndarray:
        """is_asked_N: whether one of the splits has a question of the image."""
        column = read_leaf(self.file, "questions.list.element.split").combine_chunks()
        found = np.zeros(len(self.image_id), dtype=bool)
        split_of = pc.struct_field(pc.list_flatten(column), "split")
        chosen = pc.fill_null(pc.is_in(split_of, pa.array(splits, pa.string())), False).to_numpy(zero_copy_only=False)
        found[pc.list_parent_indices(column).to_numpy()[chosen]] = True
        return found
