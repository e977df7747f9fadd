"""Stage index_images: one manifest row per readable image of a data set, and the list of unreadable ones."""

import csv
import logging
import os
from collections import Counter
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from v2l.configuration.dataset_entries import FolderDataset
from v2l.configuration.slices import StageConfig
from v2l.data.annotations import Listed
from v2l.data.images import open_image
from v2l.data.layouts import class_names, list_images
from v2l.data.manifest import SCHEMA
from v2l.errors import UserError
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.provenance import write_beside
from v2l.io.storage import write_parquet
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.runtime import rng

REJECTED_COLUMNS = ["dataset", "path", "reason"]


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write the manifest and rejected.csv of data set `config.job["dataset"]`.

    Every image is decoded in full. Raises UserError if more than `index_images.max_rejected_share` of the files cannot
    be, and for a data set without images or without a class of `min_images`.
    """
    name = config.job["dataset"]
    dataset = config.datasets[name]
    listing = list_images(dataset)
    sizes, rejected = _measure(Path(dataset.root), listing)
    _check_share(name, listing, rejected, config.index_images.max_rejected_share)
    readable = [item for item in listing if item.image_id in sizes]
    if dataset.kind == "folder":
        readable = _large_classes(name, dataset, readable)
        splits = _draw_splits(readable, dataset.train_share, config.seed)
    else:
        splits = [item.split for item in readable]
    keys = sorted({item.key for item in readable})
    names = class_names(dataset, keys)
    label_of = {key: label for label, key in enumerate(keys)}
    labels = [label_of[item.key] for item in readable]
    columns = {
        "image_id": [item.image_id for item in readable],
        "split": splits,
        "label": labels,
        "class_name": [names[label] for label in labels],
        "captions": [item.captions for item in readable],
        "questions": [item.questions for item in readable],
        "width": [sizes[item.image_id][0] for item in readable],
        "height": [sizes[item.image_id][1] for item in readable],
    }
    record = provenance(config, inputs)
    with atomic_path(outputs["rejected"]) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([REJECTED_COLUMNS, *([name, image_id, reason] for image_id, reason in rejected)])
    write_beside(outputs["rejected"], record)
    facts = {"dataset": {"name": name, "root": dataset.root, "fit": dataset.fit, "classes": names}}
    write_parquet(outputs["manifest"], pa.table(columns, schema=SCHEMA), record, facts)
    counts = ", ".join(f"{count} {split}" for split, count in sorted(Counter(splits).items()))
    logging.info("%s: %d images (%s) in %d classes, %d rejected", name, len(splits), counts, len(keys), len(rejected))


def _measure(root: Path, listing: list[Listed]) -> tuple[dict[str, tuple[int, int]], list[tuple[str, str]]]:
    """Width and height of every readable image by id, and (id, reason) of the others, in the listing's order."""
    sizes, rejected = {}, []
    with ThreadPool(_workers()) as pool:
        outcomes = pool.imap(lambda item: _size_or_reason(root, item.image_id), listing, chunksize=16)
        for item, outcome in zip(listing, tqdm(outcomes, "decode", len(listing), disable=None), strict=True):
            if isinstance(outcome, str):
                rejected.append((item.image_id, outcome))
            else:
                sizes[item.image_id] = outcome
    return sizes, rejected


def _size_or_reason(root: Path, image_id: str) -> tuple[int, int] | str:
    path = root / image_id
    try:
        return open_image(path).size
    except Exception as error:  # decoders raise many kinds; whichever it is, the image cannot be used
        reason = f"{type(error).__name__}: {error}".replace(str(path), image_id)
        return " ".join(reason.split())


def _workers() -> int:
    """Decoding threads: the job's processors, at most OMP_NUM_THREADS (Snakemake: the rule's threads)."""
    processors = len(os.sched_getaffinity(0))
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(processors, int(limit))) if limit.isdecimal() else processors


def _check_share(name: str, listing: list[Listed], rejected: list[tuple[str, str]], limit: float) -> None:
    for image_id, reason in rejected:
        logging.warning("rejected %s (%s)", image_id, reason)
    share = len(rejected) / len(listing)
    if share > limit:
        first = "; ".join(f"{image_id} ({reason})" for image_id, reason in rejected[:5])
        raise UserError(
            f"data set {name}: {len(rejected)} of {len(listing)} images ({share:.1%}) cannot be read, first {first}",
            f"at most index_images.max_rejected_share = {limit:g}",
            "restore or remove the files (this stage's log lists all), or raise the limit",
        )


def _large_classes(name: str, dataset: FolderDataset, readable: list[Listed]) -> list[Listed]:
    """Images of the classes that have `min_images` readable ones."""
    counts = Counter(item.key for item in readable)
    kept = [item for item in readable if counts[item.key] >= dataset.min_images]
    if not kept:
        problem = f"data set {name}: no class has datasets.{name}.min_images = {dataset.min_images} images"
        largest = ", ".join(f"{key}: {count}" for key, count in counts.most_common(3)) or "none"
        remedy = "lower min_images, or correct root, class_depth and exclude"
        raise UserError(problem, f"at least one such class (largest here: {largest})", remedy)
    return kept


def _draw_splits(images: list[Listed], train_share: float, seed: int) -> list[str]:
    """`train` or `val` for each image: train_share of each class, rounded, but always one image in `val`."""
    members: dict[str, list[str]] = {}
    for item in images:
        members.setdefault(item.key, []).append(item.image_id)
    train = set()
    for key, image_ids in members.items():
        count = min(round(train_share * len(image_ids)), len(image_ids) - 1)
        chosen = rng(seed, "split", key).permutation(len(image_ids))[:count]
        train.update(image_ids[index] for index in chosen)
    return ["train" if item.image_id in train else "val" for item in images]


if __name__ == "__main__":
    run_stage(run)
