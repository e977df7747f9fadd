"""Stage decode_images: the pictures of a data set as a training sees them, decoded once, in one file."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from v2l.configuration.slices import StageConfig
from v2l.data.geometry import Geometry
from v2l.data.image_loading import load_batches
from v2l.data.images import tokenizer_image
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.claims import require_claim
from v2l.io.folder_locks import in_use, sweep_other_runs
from v2l.io.job_files import Inputs, Outputs
from v2l.io.pixel_files import create_pixels, write_pixels
from v2l.io.records import write_beside
from v2l.pipeline.record import provenance, run_key
from v2l.pipeline.shards import PART, sharded_tables
from v2l.pipeline.stage import run_stage

PIXELS = "pixels.npy"


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write `images`: uint8 image_NHWC, a row for each manifest row, as .npy; its provenance stands beside it.

    Job: image_size and resize_via ("-via-224", or "" for none), those of a network. Pixels are written in a hidden
    folder beside the output until all are there. Raises UserError if the disk has no room for them, and on an image
    that has become unreadable since it was indexed.
    """
    manifest, size = Manifest.read(inputs["manifest"]), config.decode_images.batch_size
    side, via = int(config.job["image_size"]), config.job["resize_via"].removeprefix("-via-")
    geometry = Geometry(image_size=side, resize_via=int(via) if via else None, grid=1)  # tokens are not made here
    count = len(manifest.image_id)
    blocks = [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
    record = provenance(config, inputs)
    if PART in outputs:
        folder = outputs[PART].parent
    else:
        folder = prepared(outputs["images"], run_key(config, record), (count, side, side, 3))

    def written(blocks: Sequence[np.ndarray]) -> Iterator[pa.Table]:
        rows = np.concatenate(blocks)
        batches = load_batches(
            manifest, rows, lambda image, row: np.asarray(tokenizer_image(image, geometry, manifest.fit)), size
        )
        with open(folder / PIXELS, "rb") as file, tqdm(total=len(rows), unit="image", disable=None) as progress:
            for batch, images in batches:
                write_pixels(folder / PIXELS, batch, np.stack(images))
                progress.update(len(batch))
                yield pa.table({"row": batch})
            os.fsync(file.fileno())

    with in_use(folder):
        for _ in sharded_tables(config, record, inputs, outputs, blocks, written, folder):
            pass
    write_beside(outputs["images"], record, hashed=False)  # each image has a checksum of its own
    require_claim(outputs["images"])
    os.replace(folder / PIXELS, outputs["images"])
    shutil.rmtree(folder, ignore_errors=True)
    logging.info("decoded %d images of %s at %d pixels", count, config.job["dataset"], side)


def prepared(output: Path, key: str, shape: tuple[int, ...]) -> Path:
    """The folder of run `key` beside `output`, with an empty file of pixels unless an earlier start has left one.

    Folders of other runs go, unless they are in use. Raises UserError if the pixels do not fit on the disk.
    """
    folder = output.with_name(f".{output.name}.{key}")
    sweep_other_runs(folder)
    output.parent.mkdir(parents=True, exist_ok=True)
    path = folder / PIXELS
    there = path.stat().st_blocks * 512 if path.exists() else 0
    needed, free = int(np.prod(shape)), shutil.disk_usage(output.parent).free + there
    logging.info("%d images need %.1f GB of disk, %.1f GB are free", shape[0], needed / 1e9, free / 1e9)
    if needed > free:
        raise UserError(
            f"{output} needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free in {output.parent}",
            "room for the decoded images",
            "free some, or set `train_tokenizer.decoded_images: false`",
        )
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)  # parts tell of pixels that are gone
        folder.mkdir()
        create_pixels(path, shape)
    return folder


if __name__ == "__main__":
    run_stage(run)
