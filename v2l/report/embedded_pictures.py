"""Pictures inside the page, as WebP of bounded size."""

import io
from functools import cache
from pathlib import Path

import pyarrow as pa
from PIL import Image

from v2l.data.image_loading import load_image
from v2l.data.images import square_image
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.storage import open_parquet, read_parquet
from v2l.report.evidence import Evidence
from v2l.report.html_page import data_uri

SIDE = 256  # pixels at most
QUALITY = 88


class DecodedPictures:
    """The pictures of one file of reconstruct_images, by task and image; read when asked for, some at a time."""

    def __init__(self, evidence: Evidence):
        self.run = evidence.run
        self._file = open_parquet(evidence.path)
        self._rows: dict[tuple[str, str], tuple[int, int]] = {}  # row group and row in it
        for group in range(self._file.num_row_groups):
            names = self._file.read_row_group(group, columns=["task", "image_id"])
            pairs = zip(names["task"].to_pylist(), names["image_id"].to_pylist(), strict=True)
            self._rows |= {name: (group, row) for row, name in enumerate(pairs)}
        self.tasks = list(dict.fromkeys(task for task, _ in self._rows))
        self._held: tuple[int, pa.ChunkedArray] | None = None

    def of(self, task: str, image_id: str) -> str:
        """The picture as a data URI; '' if there is none."""
        if (task, image_id) not in self._rows:
            return ""
        group, row = self._rows[task, image_id]
        if self._held is None or self._held[0] != group:
            self._held = group, self._file.read_row_group(group, columns=["image"])["image"]
        return _uri(Image.open(io.BytesIO(self._held[1][row].as_py())))


class OriginalPictures:
    """The pictures of a data set as their users have them, cut or padded to squares as the tokenizers see them."""

    def __init__(self, manifest: Path):
        self._manifest = Manifest.read(manifest)
        self._rows = {image_id: row for row, image_id in enumerate(self._manifest.image_id)}

    def said_of(self, image_id: str) -> str:
        """Class and captions of a picture, whatever it has of them."""
        path, wanted = self._manifest.file, [("image_id", "==", image_id)]
        (captions,) = read_parquet(path, columns=["captions"], filters=wanted)["captions"].to_pylist()
        return "; ".join(dict.fromkeys(filter(None, [self._manifest.class_name[self._rows[image_id]], *captions])))

    def of(self, image_id: str) -> str:
        """The picture as a data URI; '' if it is not there any more."""
        try:
            image = load_image(self._manifest, self._rows[image_id])
        except UserError:
            return ""
        return _uri(square_image(image, min(SIDE, *image.size), self._manifest.fit))


@cache
def original_pictures(manifest: Path) -> OriginalPictures:
    """The pictures of a manifest, read once."""
    return OriginalPictures(manifest)


def _uri(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE))
    encoded = io.BytesIO()
    image.save(encoded, "WEBP", quality=QUALITY, method=4)
    return data_uri(encoded.getvalue(), "webp")
