"""Stage embed_images: one image feature for every row of a data set's manifest."""

import logging
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import torch
from tqdm import tqdm

from v2l.configuration.slices import StageConfig
from v2l.data.image_loading import load_batches
from v2l.data.manifest import Manifest
from v2l.encoders.image_text_encoder import require_features
from v2l.encoders.loader import load_encoder
from v2l.io.fitting_batches import FittingBatches
from v2l.io.job_files import Inputs, Outputs
from v2l.io.overlap import fetched
from v2l.io.storage import matrix, vectors, write_tensors
from v2l.pipeline.record import provenance
from v2l.pipeline.shards import sharded_tables
from v2l.pipeline.stage import run_stage
from v2l.runtime import device

IMAGES_AT_ONCE = 256


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write `feature_ND`, float32 of unit length, a row for each manifest row. Metadata: `encoder`, its registry
    name.

    Raises UserError on an image that has become unreadable since it was indexed, or that has no finite feature.
    """
    manifest, chosen = Manifest.read(inputs["manifest"]), config.embed_images.batch_size
    size = chosen or IMAGES_AT_ONCE
    count = len(manifest.image_id)
    blocks = [np.arange(start, min(start + size, count)) for start in range(0, count, size)]

    def features(blocks: Sequence[np.ndarray]) -> Iterator[pa.Table]:
        encoder = load_encoder(config.encoders[config.encoder], device())
        rows = np.concatenate(blocks)
        batches = load_batches(manifest, rows, lambda image, row: encoder.square(image, manifest.fit), size)
        fitting = FittingBatches("image encoding", "images", "embed_images.batch_size", chosen)
        with tqdm(total=len(rows), unit="image", disable=None) as progress:
            encoded = ((batch, [fitting(encoder.encode_squares, np.stack(squares))]) for batch, squares in batches)
            for batch, (feature_BD,) in fetched(encoded):
                require_features(feature_BD, manifest.image_id[batch])
                yield pa.table({"feature": vectors(feature_BD)})
                progress.update(len(batch))

    record = provenance(config, inputs)
    table = pa.concat_tables(sharded_tables(config, record, inputs, outputs, blocks, features))
    feature_ND = torch.tensor(matrix(table["feature"]))
    write_tensors(outputs["features"], {"feature_ND": feature_ND}, record, {"encoder": config.encoder})
    logging.info("embedded %d images of %s, %d channels", count, config.job["dataset"], feature_ND.shape[1])


if __name__ == "__main__":
    run_stage(run)
