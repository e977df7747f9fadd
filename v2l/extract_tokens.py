"""Stage extract_tokens: global and local token ids of a sample's images, clean and corrupted."""

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from v2l.configuration.slices import StageConfig
from v2l.data.image_loading import load_batches, load_features
from v2l.data.images import to_tensor
from v2l.data.manifest import Manifest
from v2l.data.token_table import schema
from v2l.encoders.loader import load_encoder
from v2l.errors import UserError, require_each_finite
from v2l.io.job_files import Inputs, Outputs
from v2l.io.overlap import fetched, sent
from v2l.io.storage import ROWS_PER_GROUP, parquet_metadata, parquet_writer, regrouped, vectors
from v2l.memory_errors import out_of_memory
from v2l.models.tokenizer_file import load_tokenizer
from v2l.models.vision_tokenizer import NO_CODE, Codes, VisionTokenizer
from v2l.pipeline.record import provenance
from v2l.pipeline.shards import sharded_tables
from v2l.pipeline.stage import run_stage
from v2l.precision import computed_in
from v2l.runtime import device
from v2l.tasks.image_corruption import corrupted

REMEDY = "set `extract_tokens.precision: float32`; if it is, the tokenizer's weights are damaged: make them anew"


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write the token table (`v2l.data.token_table`): for each corruption of `job.sample`, its images in order.

    Clean rows take the stored image features; corrupted rows run the encoder on the corrupted tokenizer image.
    Metadata: `tokenizer` (the weights'), `grid` [h, w] and `vocabulary`. Raises UserError if the sample has no images,
    its features are not as wide as the global codes, or an image has no finite feature or vector.
    """
    name, sample = config.job["sample"], config.samples[config.job["sample"]]
    manifest = Manifest.read(inputs["manifest"])
    tokenizer = load_tokenizer(inputs["weights"], device())
    without_questions = [split for split in sample.splits if not manifest.asked_in([split]).any()]
    manifest.split_rows(without_questions, f"samples.{name}.splits")
    rows = manifest.sample_rows(sample, config.seed)
    feature_ND = load_features(inputs["features"], manifest)
    global_VD = tokenizer.codebooks[1] if tokenizer.needs_features else None
    if global_VD is not None and feature_ND.shape[1] != global_VD.shape[1]:
        raise UserError(
            f"tokenizer {tokenizer.name} has global codes of width {global_VD.shape[1]}, the image features of "
            f"{inputs['features']} width {feature_ND.shape[1]}",
            "features of the encoder that its codebook was made with",
            "set `encoder` to that encoder; the authors' weights need CLIP ViT-L/14",
        )
    size = config.extract_tokens.batch_size
    starts = range(0, len(rows), size)
    blocks = [(corruption, rows[start : start + size]) for corruption in sample.corruptions for start in starts]
    grid = [tokenizer.geometry.grid] * 2
    columns = schema(grid[0] * grid[1], tokenizer.global_tokens)
    metadata = {
        "tokenizer": tokenizer.description,
        "grid": grid,
        "vocabulary": parquet_metadata(inputs["words"])["vocabulary"],
    }
    used = np.zeros(tokenizer.description["codebooks"]["local_size"], dtype=bool)
    record = provenance(config, inputs)

    def extracted(blocks: Sequence[tuple[str, np.ndarray]]) -> Iterator[pa.Table]:
        extractor, images = Extractor(config, manifest, tokenizer, feature_ND), sum(len(batch) for _, batch in blocks)
        with tokenizer.codes_fixed(), tqdm(total=images, unit="image", disable=None) as progress:
            for corruption, group in groupby(blocks, itemgetter(0)):
                for table in extractor.tables(np.concatenate([batch for _, batch in group]), corruption, columns):
                    yield table
                    progress.update(table.num_rows)

    tables = sharded_tables(config, record, inputs, outputs, blocks, extracted)
    with parquet_writer(outputs["tokens"], columns, record, metadata) as writer:
        for table in regrouped(tables, ROWS_PER_GROUP):
            writer.write_table(table.cast(writer.schema))
            used[table["local_ids"].combine_chunks().flatten().to_numpy()] = True
    logging.info(
        "%s: %d images, %d corruption(s); %d of %d local codes used",
        *(config.job["tokenizer"], len(rows), len(sample.corruptions), used.sum(), len(used)),
    )


class Extractor:
    """Token ids of manifest rows by one tokenizer; `feature_ND` are the clean images' stored features."""

    def __init__(self, config: StageConfig, manifest: Manifest, tokenizer: VisionTokenizer, feature_ND: Tensor):
        self.config, self.manifest, self.tokenizer, self.feature_ND = config, manifest, tokenizer, feature_ND
        self.settings = config.extract_tokens
        corruptions = config.samples[config.job["sample"]].corruptions
        needs_encoder = tokenizer.needs_features and corruptions != ["none"]
        self.encoder = load_encoder(config.encoders[config.encoder], device()) if needs_encoder else None

    def tables(self, rows: np.ndarray, corruption: str, columns: pa.Schema) -> Iterator[pa.Table]:
        """A table for each batch of `rows` under `corruption`."""

        def transform(image: Image.Image, row: int) -> Image.Image:
            image_id = self.manifest.image_id[row]
            settings = None if corruption == "none" else self.settings.corruption
            geometry = self.tokenizer.geometry
            return corrupted(image, corruption, geometry, self.manifest.fit, settings, self.config.seed, image_id)

        batches = load_batches(self.manifest, rows, transform, self.settings.batch_size)
        ids = fetched((batch, self._ids(batch, images, corruption)) for batch, images in batches)
        for batch, (local_BL, global_BK) in ids:
            image_id_B = self.manifest.image_id[batch]
            has_codes_B = (local_BL != NO_CODE).all(1).tolist()
            what = f"vectors or features of tokenizer {self.tokenizer.name} in {self.settings.precision}"
            require_each_finite(what, image_id_B.tolist(), has_codes_B, REMEDY)
            values = [
                image_id_B,
                self.manifest.split[batch],
                self.manifest.label[batch],
                np.full(len(batch), corruption),
                pa.nulls(len(batch)) if global_BK is None else vectors(global_BK),
                vectors(local_BL),
            ]
            yield pa.table(values, names=columns.names).cast(columns)

    @torch.inference_mode()
    def _ids(self, rows: np.ndarray, images: list[Image.Image], corruption: str) -> Codes:
        with out_of_memory("extract_tokens", "extract_tokens.batch_size", f"{len(rows)} images"):
            feature_BD = None
            if self.encoder and corruption != "none":
                feature_BD = self.encoder.encode_images(images, self.manifest.fit).to(device())
            elif self.tokenizer.needs_features:
                feature_BD = sent(self.feature_ND[rows], device())
            with computed_in(self.settings.precision):
                return self.tokenizer.encode(sent(to_tensor(images), device()), feature_BD)


if __name__ == "__main__":
    run_stage(run)
