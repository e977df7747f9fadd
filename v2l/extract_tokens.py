"""Stage extract_tokens: global and local token ids of a sample's images, clean and corrupted."""

import logging
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from v2l.corruptions import corrupt
from v2l.encoders import load_encoder
from v2l.errors import UserError
from v2l.io.images import to_tensor
from v2l.io.provenance import provenance
from v2l.io.storage import ROWS_PER_GROUP, parquet_facts, parquet_writer
from v2l.loading import load_batches, load_features
from v2l.manifest import Manifest
from v2l.models.base import Codes, VisionTokenizer
from v2l.models.tokenizer import load_tokenizer
from v2l.runtime import device
from v2l.stage import Paths, StageConfig, run_stage
from v2l.tokens import schema


def run(config: StageConfig, inputs: Paths, outputs: Paths) -> None:
    """Write the token table (`v2l.tokens.schema`): for each corruption of `job.sample`, its images in manifest order.

    Clean rows take the stored image features; corrupted rows run the encoder on the corrupted tokenizer image.
    Facts: `tokenizer` (the weights'), `grid` [h, w] and `vocabulary`. Raises UserError if the sample has no images.
    """
    name, sample = config.job["sample"], config.samples[config.job["sample"]]
    manifest = Manifest.read(inputs["manifest"])
    tokenizer = load_tokenizer(inputs["weights"], device())
    rows = manifest.sample_rows(sample, config.seed)
    if not len(rows):
        raise UserError(
            f"`samples.{name}.splits` is {sample.splits}, but {inputs['manifest']} has no such images",
            f"some of {sorted(set(manifest.split))}",
            "change the splits",
        )
    extractor = Extractor(config, manifest, tokenizer, load_features(inputs["features"], manifest))
    grid = [tokenizer.geometry.grid] * 2
    columns = schema(grid[0] * grid[1], tokenizer.global_tokens)
    facts = {"tokenizer": tokenizer.facts, "grid": grid, "vocabulary": parquet_facts(inputs["words"])["vocabulary"]}
    used = np.zeros(tokenizer.facts["codebooks"]["local_size"], dtype=bool)
    with (
        parquet_writer(outputs["tokens"], columns, provenance(config, inputs), facts) as writer,
        tqdm(total=len(rows) * len(sample.corruptions), unit="image", disable=None) as progress,
    ):
        for corruption in sample.corruptions:
            for table in extractor.tables(rows, corruption, columns):
                writer.write_table(table)
                used[table["local_ids"].combine_chunks().flatten().to_numpy()] = True
                progress.update(table.num_rows)
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
        """Tables of at most a row group each, for `rows` under `corruption`."""

        def transform(image: Image.Image, row: int) -> Image.Image:
            image_id = self.manifest.image_id[row]
            blur = self.settings.corruption
            return corrupt(
                image, corruption, self.tokenizer.geometry, self.manifest.fit, blur, self.config.seed, image_id
            )

        for start in range(0, len(rows), ROWS_PER_GROUP):
            group = rows[start : start + ROWS_PER_GROUP]
            batches = load_batches(self.manifest, group, transform, self.settings.batch_size)
            codes = [self._ids(batch, images, corruption) for batch, images in batches]
            yield pa.table(
                [
                    self.manifest.image_id[group],
                    self.manifest.split[group],
                    self.manifest.label[group],
                    np.full(len(group), corruption),
                    _fixed_lists([ids.global_BK for ids in codes])
                    if self.tokenizer.has_global
                    else pa.nulls(len(group)),
                    _fixed_lists([ids.local_BL for ids in codes]),
                ],
                names=columns.names,
            ).cast(columns)

    @torch.inference_mode()
    def _ids(self, rows: np.ndarray, images: list[Image.Image], corruption: str) -> Codes:
        feature_BD = None
        if self.tokenizer.needs_features:
            stored = corruption == "none"
            feature_BD = self.feature_ND[rows] if stored else self.encoder.encode_images(images, self.manifest.fit)
            feature_BD = feature_BD.to(device())
        return self.tokenizer.encode(to_tensor(images).to(device()), feature_BD)


def _fixed_lists(batches: list[Tensor]) -> pa.FixedSizeListArray:
    codes_NK = torch.cat(batches).cpu().numpy()
    return pa.FixedSizeListArray.from_arrays(pa.array(codes_NK.astype(np.int32).ravel()), codes_NK.shape[1])


if __name__ == "__main__":
    run_stage(run)
