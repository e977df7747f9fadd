"""Stage extract_tokens: global and local token ids of a sample's images, clean and corrupted."""

import logging
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from v2l.config import Network
from v2l.corruptions import corrupt
from v2l.encoders import load_encoder
from v2l.errors import UserError
from v2l.io.images import to_tensor
from v2l.io.provenance import provenance
from v2l.io.storage import ROWS_PER_GROUP, hash_tensor, parquet_facts, parquet_writer, read_tensors
from v2l.loading import load_batches, load_features
from v2l.manifest import Manifest
from v2l.models.tokenizer import VisionTokenizer, load_tokenizer
from v2l.runtime import device
from v2l.stage import Paths, StageConfig, run_stage
from v2l.tokens import schema


def run(config: StageConfig, inputs: Paths, outputs: Paths) -> None:
    """Write the token table (`v2l.tokens.schema`): for each corruption of `job.sample`, its images in manifest order.

    Clean rows take the stored image features; corrupted rows run the encoder on the corrupted tokenizer image.
    Facts: `tokenizer` (the weights'), `grid` [h, w] and `vocabulary`. Raises UserError if the weights were trained
    with another codebook, or the sample has no images.
    """
    name, sample = config.job["sample"], config.samples[config.job["sample"]]
    manifest = Manifest.read(inputs["manifest"])
    tokenizer = load_tokenizer(inputs["weights"], device())
    _check_codebook(tokenizer.facts, inputs)
    _check_global_tokens(tokenizer.facts, config.extract_tokens.global_tokens)
    rows = manifest.sample_rows(sample, config.seed)
    if not len(rows):
        raise UserError(
            f"`samples.{name}.splits` is {sample.splits}, but {inputs['manifest']} has no such images",
            f"some of {sorted(set(manifest.split))}",
            "change the splits",
        )
    extractor = Extractor(config, manifest, tokenizer, load_features(inputs["features"], manifest))
    grid = [extractor.network.grid] * 2
    columns = schema(grid[0] * grid[1], config.extract_tokens.global_tokens)
    facts = {"tokenizer": tokenizer.facts, "grid": grid, "vocabulary": parquet_facts(inputs["entries"])["vocabulary"]}
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
        self.network = Network.model_validate(tokenizer.facts["network"])
        corruptions = config.samples[config.job["sample"]].corruptions
        needs_encoder = tokenizer.has_global and corruptions != ["none"]
        self.encoder = load_encoder(config.encoders[config.encoder], device()) if needs_encoder else None

    def tables(self, rows: np.ndarray, corruption: str, columns: pa.Schema) -> Iterator[pa.Table]:
        """Tables of at most a row group each, for `rows` under `corruption`."""

        def transform(image: Image.Image, row: int) -> Image.Image:
            image_id = self.manifest.image_id[row]
            blur = self.settings.corruption
            return corrupt(image, corruption, self.network, self.manifest.fit, blur, self.config.seed, image_id)

        for start in range(0, len(rows), ROWS_PER_GROUP):
            group = rows[start : start + ROWS_PER_GROUP]
            batches = load_batches(self.manifest, group, transform, self.settings.batch_size)
            ids = [self._ids(batch, images, corruption) for batch, images in batches]
            global_ids = [codes for codes, _ in ids]
            yield pa.table(
                [
                    self.manifest.image_id[group],
                    self.manifest.split[group],
                    self.manifest.label[group],
                    np.full(len(group), corruption),
                    _fixed_lists(np.concatenate(global_ids)) if self.tokenizer.has_global else pa.nulls(len(group)),
                    _fixed_lists(np.concatenate([codes for _, codes in ids])),
                ],
                names=columns.names,
            ).cast(columns)

    @torch.inference_mode()
    def _ids(
        self, rows: np.ndarray, images: list[Image.Image], corruption: str
    ) -> tuple[np.ndarray | None, np.ndarray]:
        local_BL = self.tokenizer.encode(to_tensor(images).to(device()))
        if not self.tokenizer.has_global:
            return None, local_BL.cpu().numpy()
        stored = corruption == "none"
        feature_BD = self.feature_ND[rows] if stored else self.encoder.encode_images(images, self.manifest.fit)
        global_BK = self.tokenizer.global_ids(feature_BD.to(device()))[:, : self.settings.global_tokens]
        return global_BK.cpu().numpy(), local_BL.cpu().numpy()


def _fixed_lists(codes_NK: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(codes_NK.astype(np.int32).ravel()), codes_NK.shape[1])


def _check_codebook(tokenizer: dict, inputs: Paths) -> None:
    """The frozen codebooks must be this experiment's; a learned one (vqgan) lives in the weights alone."""
    tensors = read_tensors(inputs["codebook"])[0]
    trained = tokenizer["codebooks"]
    frozen = [] if tokenizer["method"] == "vqgan" else [kind for kind in ("local", "global") if trained[kind]]
    for kind in frozen:
        current = hash_tensor(tensors[f"{kind}_VD"])
        if trained[kind] != current:
            raise UserError(
                f"{inputs['weights']} was trained with another {kind} codebook than {inputs['codebook']} "
                f"(SHA-256 {trained[kind][:12]}, not {current[:12]})",
                "weights and codebook of one experiment",
                "train the tokenizer again, or restore the codebook it was trained with",
            )


def _check_global_tokens(tokenizer: dict, wanted: int) -> None:
    trained, size = tokenizer["global_tokens"], tokenizer["codebooks"]["global_size"]
    if size is not None and wanted > min(trained, size):
        raise UserError(
            f"`extract_tokens.global_tokens` is {wanted}",
            f"at most {min(trained, size)}: {tokenizer['name']} was trained with {trained}, its codebook has {size}",
            "lower it, or raise train_tokenizer.global_tokens",
        )


if __name__ == "__main__":
    run_stage(run)
