"""Stage reconstruct_images: the images that the tables score, decoded from token maps or made of pixels alone."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from PIL import Image
from tqdm import tqdm

from v2l.configuration.protocols import HELD_OUT, split_run
from v2l.configuration.slices import StageConfig
from v2l.configuration.tokenizer_training import Geometry
from v2l.data.image_loading import load_batches
from v2l.data.images import encode_png, to_uint8, tokenizer_image
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.io.job_files import Inputs, Outputs
from v2l.io.storage import parquet_writer
from v2l.models.tokenizer_file import load_tokenizer, tokenizer_facts
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.runtime import device
from v2l.tasks.corruptions import corrupt
from v2l.tasks.token_maps import assemble, image_count, image_mask, mask_positions

SCHEMA = pa.schema([("image_id", pa.string()), ("task", pa.string()), ("image", pa.binary())])
ROWS_PER_GROUP = 512  # images are large: about 30 kB each at 128 px
RECONSTRUCTION, MASKED = "reconstruction", "masked"
Row = tuple[str, str, bytes]  # image_id, task, PNG


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write `image_id`, `task` and `image` (lossless PNG) for the images of `job.source`.

    Sources: `reconstruction` decodes clean tokens; `restoration.tokenizer-oracle` does so for every restoration task
    (upper bound); `restoration.<run>` decodes predicted maps. A protocol other than `paper` stands behind an `@`.
    `masked.*` are the same for masked restoration, and `masked.corrupted-input` decodes zero vectors in place of masked
    codes (paper figure 8). With `job.tokenizer` = pixels: `mean-image`, the training split's mean for every image, and
    `corrupted-input`. Facts: `size` (side in pixels), `tokenizer` and `protocol`.
    Raises UserError if predictions of an image are missing or incomplete.
    """
    name, source = config.job["tokenizer"], config.job["source"]
    size = tokenizer_facts(inputs["weights"])["geometry"]["image_size"]
    if source == "mean-image":
        rows = mean_image(config, inputs)
    elif source == "corrupted-input":
        rows = corrupted_input(config, inputs)
    else:
        rows = decoded(config, inputs)
    count = 0
    facts = {"size": size, "tokenizer": name, "protocol": split_run(source)[1]}
    with parquet_writer(outputs["images"], SCHEMA, provenance(config, inputs), facts) as writer:
        for group in _groups(tqdm(rows, unit="image", disable=None), ROWS_PER_GROUP):
            writer.write_table(pa.table(list(zip(*group, strict=True)), schema=writer.schema))
            count += len(group)
    logging.info("%s/%s: %d images of %d px", name, source, count, size)


def decoded(config: StageConfig, inputs: Inputs) -> Iterator[Row]:
    """Images decoded by the tokenizer with the global codes of the clean image, in held-out those of the corrupted."""
    source, protocol = split_run(config.job["source"])
    kind, _, predictor = source.partition(".")
    tokens = Tokens.read(inputs["tokens"])
    tokenizer = load_tokenizer(inputs["weights"], device())
    rows, given = np.arange(len(tokens.image_id)), {kind: tokens}

    def positions(task: str, image_id: str) -> np.ndarray:
        if task != MASKED:
            return mask_positions(task, tokens.grid)
        share, length = config.evaluate_llm.masked.mask_share, tokens.local_NL.shape[1]
        return np.flatnonzero(image_mask(length, share, config.seed, image_id))

    if kind not in (RECONSTRUCTION, MASKED):
        settings = config.evaluate_llm.restoration
        rows = rows[: image_count(settings, config.job["tokenizer"], protocol)]
        given = {
            task: Tokens.read(inputs["tokens"], task) if protocol == HELD_OUT else tokens for task in settings.tasks
        }
    if "predictions" in inputs:
        maps = restored_maps(inputs["predictions"], given, rows, positions)
    elif protocol == HELD_OUT:
        maps = [(rows, tokens.local_NL[rows], shown, [task]) for task, shown in given.items()]
    else:
        maps = [(rows, tokens.local_NL[rows], tokens, list(given))]
    for rows, local_NL, shown, tasks in maps:
        visible_NL = np.ones(local_NL.shape, dtype=bool)
        if predictor == "corrupted-input":
            for visible_L, row in zip(visible_NL, rows, strict=True):
                visible_L[positions(kind, tokens.image_id[row])] = False
        for batch in _groups(range(len(rows)), config.reconstruct_images.batch_size):
            global_BK = None
            if tokenizer.has_global:
                global_BK = torch.from_numpy(shown.global_NK[rows[batch]]).to(device())
            local_BL, visible_BL = (torch.from_numpy(part[batch]).to(device()) for part in (local_NL, visible_NL))
            with torch.inference_mode():
                image_BCHW = tokenizer.decode(local_BL, global_BK, visible_BL)
            for row, pixels_HWC in zip(rows[batch], to_uint8(image_BCHW), strict=True):
                png = encode_png(pixels_HWC)
                yield from ((tokens.image_id[row], task, png) for task in tasks)


def restored_maps(
    predictions: Path,
    given: dict[str, Tokens],
    rows: np.ndarray,
    positions: Callable[[str, str], np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray, Tokens, list[str]]]:
    """(token rows, restored maps local_NL, given tokens, [task]) of each task; `predictions` is a file of evaluate_llm.

    `given` tokens stand where nothing is predicted: those of the clean image or, in held-out, of the corrupted one.
    `positions(task, image_id)` are those that the task masks.
    """
    columns = ["task", "image_id", "positions", "predicted_codes"]
    table = pq.read_table(predictions, columns=columns)
    for task, tokens in given.items():
        of_task = table.filter(pc.field("task") == task)
        steps_of: dict[str, list] = {}
        for image_id, *step in zip(*(of_task[name].to_pylist() for name in columns[1:]), strict=True):
            steps_of.setdefault(image_id, []).append(step)
        size = tokens.tokenizer["codebooks"]["local_size"]
        maps = []
        for row in rows:
            image_id = tokens.image_id[row]
            try:
                where = positions(task, image_id)
                maps.append(assemble(tokens.local_NL[row], where, steps_of.get(image_id, []), size))
            except ValueError as error:
                raise UserError(
                    f"{predictions} does not restore image {image_id} for task {task}: {error}",
                    "one code of the tokenizer for each masked position",
                    "delete the file and run evaluate_llm again",
                ) from None
        yield rows, np.stack(maps), tokens, [task]


def mean_image(config: StageConfig, inputs: Inputs) -> Iterator[Row]:
    """The rounded mean of the training split's tokenizer images, once for each image of sample `reconstruction`."""
    geometry = Geometry.model_validate(tokenizer_facts(inputs["weights"])["geometry"])
    training = Manifest.read(inputs["train_manifest"])
    split = config.job["training_split"]
    rows = np.flatnonzero(training.split == split)
    if not len(rows):
        raise UserError(
            f"`train_tokenizer.split` is {split!r}, but {inputs['train_manifest']} has no such images",
            f"one of {sorted(set(training.split))}",
            "change the split",
        )

    def pixels(image: Image.Image, row: int) -> np.ndarray:
        return np.asarray(tokenizer_image(image, geometry, training.fit))

    total_HWC = np.zeros((geometry.image_size, geometry.image_size, 3), dtype=np.int64)
    batches = load_batches(training, rows, pixels, config.reconstruct_images.batch_size)
    for _, images in tqdm(
        batches, total=-(-len(rows) // config.reconstruct_images.batch_size), unit="batch", disable=None
    ):
        total_HWC += np.stack(images).sum(axis=0, dtype=np.int64)
    png = encode_png(np.round(total_HWC / len(rows)).astype(np.uint8))
    manifest = Manifest.read(inputs["manifest"])
    for row in manifest.sample_rows(config.samples["reconstruction"], config.seed):
        yield manifest.image_id[row], RECONSTRUCTION, png


def corrupted_input(config: StageConfig, inputs: Inputs) -> Iterator[Row]:
    """The corrupted tokenizer images of sample `restoration`, one for each task (lower bound)."""
    geometry = Geometry.model_validate(tokenizer_facts(inputs["weights"])["geometry"])
    manifest = Manifest.read(inputs["manifest"])
    tasks, settings = config.evaluate_llm.restoration.tasks, config.extract_tokens.corruption

    def corrupted(image: Image.Image, row: int) -> list[Row]:
        image_id = manifest.image_id[row]
        images = [corrupt(image, task, geometry, manifest.fit, settings, config.seed, image_id) for task in tasks]
        return [(image_id, task, encode_png(np.asarray(made))) for task, made in zip(tasks, images, strict=True)]

    rows = manifest.sample_rows(config.samples["restoration"], config.seed)
    for _, images in load_batches(manifest, rows, corrupted, config.reconstruct_images.batch_size):
        for image in images:
            yield from image


def _groups(items: Iterable, size: int) -> Iterator[list]:
    """Consecutive lists of up to `size` items."""
    group = []
    for item in items:
        group.append(item)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


if __name__ == "__main__":
    run_stage(run)
