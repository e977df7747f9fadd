"""Stage embed_images: one image feature for every row of a data set's manifest."""

import logging

import numpy as np
import torch
from tqdm import tqdm

from v2l.encoders import load_encoder
from v2l.io.provenance import provenance
from v2l.io.storage import write_tensors
from v2l.loading import load_batches
from v2l.manifest import Manifest
from v2l.runtime import device
from v2l.stage import Paths, StageConfig, run_stage


def run(config: StageConfig, inputs: Paths, outputs: Paths) -> None:
    """Write `feature_ND`, float32 of unit length, a row for each manifest row. Fact: `encoder`, its registry name.

    Raises UserError on an image that has become unreadable since it was indexed.
    """
    manifest = Manifest.read(inputs["manifest"])
    encoder = load_encoder(config.encoders[config.encoder], device())
    rows = np.arange(len(manifest.image_id))
    feature_ND = torch.empty(len(rows), encoder.dimension)
    batches = load_batches(
        manifest, rows, lambda image, row: encoder.square(image, manifest.fit), config.embed_images.batch_size
    )
    with tqdm(total=len(rows), unit="image", disable=None) as progress:
        for batch, squares in batches:
            feature_ND[batch] = encoder.encode_squares(np.stack(squares)).cpu()
            progress.update(len(batch))
    facts = {"encoder": config.encoder}
    write_tensors(outputs["features"], {"feature_ND": feature_ND}, provenance(config, inputs), facts)
    logging.info("embedded %d images of %s, %d channels", len(rows), config.job["dataset"], encoder.dimension)


if __name__ == "__main__":
    run_stage(run)
