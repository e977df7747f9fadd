"""Stage reconstruct_images: the images that the tables score, decoded from token maps or made of pixels alone."""

import logging
from typing import Any

import pyarrow as pa
from tqdm import tqdm

from v2l.configuration.runs import CORRUPTED_INPUT, MEAN_IMAGE, Run
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.data.geometry import network_geometry
from v2l.io.job_files import Inputs, Outputs
from v2l.io.overlap import mapped
from v2l.io.storage import parquet_writer
from v2l.models.tokenizer_file import tokenizer_description
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.tasks.decoded_images import ImageRow, decoded_images, groups
from v2l.tasks.pixel_images import corrupted_inputs, mean_image

SCHEMA = pa.schema([("image_id", pa.string()), ("task", pa.string()), ("image", pa.binary())])
ROWS_PER_GROUP = 512  # images are large: about 30 kB each at 128 px
PIXEL_IMAGES = {MEAN_IMAGE: mean_image, CORRUPTED_INPUT: corrupted_inputs}


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write `image_id`, `task` and `image` (lossless PNG) for the images of `job.source`.

    Sources: `reconstruction` decodes clean tokens; `restoration.tokenizer-oracle` does so for every restoration task
    (upper bound); other restorations decode predicted maps. `masked.*` are the same for masked restoration, and
    `masked.corrupted-input` decodes zero vectors in place of masked codes (paper figure 8). With `job.tokenizer` =
    pixels: `reconstruction.mean-image`, the training split's mean for every image, and `restoration.corrupted-input`.
    Metadata: `tokenizer`, `protocol`, and how originals are to be read beside the images: `geometry`; of the tokenizer
    `note` and `global_tokens`.
    Raises UserError if predictions of an image are missing or incomplete.
    """
    asked = Run(config.job["tokenizer"], Source.parse(config.job["source"]))
    rows = PIXEL_IMAGES.get(asked, decoded_images)(config, inputs)
    made: dict[str, Any]
    if asked in PIXEL_IMAGES:
        geometry = network_geometry(config.train_tokenizer.network).model_dump()
        made = {"geometry": geometry, "note": "", "global_tokens": None}
    else:
        description = tokenizer_description(inputs["weights"])
        made = {key: description[key] for key in ("geometry", "note", "global_tokens")}
    metadata = {"tokenizer": asked.tokenizer, "protocol": asked.source.protocol} | made
    with parquet_writer(outputs["images"], SCHEMA, provenance(config, inputs), metadata) as writer:

        def write(group: list[ImageRow]) -> int:
            writer.write_table(pa.table(list(zip(*group, strict=True)), schema=writer.schema))
            return len(group)

        row_groups = groups(tqdm(rows, unit="image", disable=None), ROWS_PER_GROUP)
        count = sum(mapped(write, row_groups, 1, threads=1))
    logging.info("%s: %d images of %d px", asked, count, made["geometry"]["image_size"])


if __name__ == "__main__":
    run_stage(run)
