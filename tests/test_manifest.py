"""Rows of a data set's manifest by the name of their split."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from v2l.data.manifest import Manifest
from v2l.errors import UserError

SPLIT = np.array(["val", "train", "test", "train"], dtype=object)
NAMES = np.array(["a", "b", "c", "d"], dtype=object)
MANIFEST = Manifest(
    file=Path("toy.parquet"),
    root=Path("/pictures"),
    fit="crop",
    classes=[],
    image_id=NAMES,
    split=SPLIT,
    label=np.full(4, -1),
    class_name=np.full(4, ""),
)


@pytest.mark.parametrize(("split", "rows"), [("train", [1, 3]), (["train"], [1, 3]), (["train", "val"], [0, 1, 3])])
def test_rows_of_splits_are_in_the_files_order(split, rows):
    assert MANIFEST.split_rows(split, "filter_vocabulary.split").tolist() == rows


@pytest.mark.parametrize("split", ["dev", ["dev"], "tra", ["train", "dev"]])
def test_splits_without_images_are_refused_by_key_and_file(split):
    with pytest.raises(UserError) as caught:
        MANIFEST.split_rows(split, "extract.splits")
    said = str(caught.value)
    wrong = split if isinstance(split, str) else split[-1]
    assert f"`extract.splits` is {split!r}, but toy.parquet has no such images as {wrong!r}" in said
    assert "Expected: one of ['test', 'tra" in said
    assert "change `extract.splits`" in said


def test_a_file_without_questions_is_refused_by_name(tmp_path):
    path = tmp_path / "old.parquet"
    pq.write_table(pa.table({"image_id": NAMES.tolist()}), path)
    with pytest.raises(UserError, match=r"old\.parquet"):
        replace(MANIFEST, file=path).asked_in(["val"])
