"""Images of a scored file in the manifest of their data set."""

from pathlib import Path

import numpy as np

from v2l.data.manifest import Manifest
from v2l.errors import UserError


def known_rows(manifest: Manifest, images: list[str], source: Path) -> np.ndarray:
    """Manifest rows of `images`; raises UserError with the first that `source` holds and the manifest does not."""
    try:
        return manifest.rows_of(images)
    except KeyError as error:
        raise UserError(
            f"{source} holds image {error.args[0]!r}, which the manifest does not",
            "files made from the same manifest",
            "run the stages from index_images on again",
        ) from None
