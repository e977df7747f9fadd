"""Stage index_images: one manifest row per readable image of a data set, and the list of unreadable ones."""

import logging
import os
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow as pa
from PIL import Image
from tqdm import tqdm

from v2l.configuration.slices import StageConfig
from v2l.data.file_account import account
from v2l.data.images import FORMATS, open_image, passed_over
from v2l.data.layout import Listed, layout_of, list_images
from v2l.data.manifest import SCHEMA
from v2l.errors import UserError, printable
from v2l.io.csv_files import write_csv
from v2l.io.job_files import Inputs, Outputs
from v2l.io.overlap import mapped
from v2l.io.records import write_beside
from v2l.io.storage import write_parquet
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage

AHEAD = 1024  # pictures that are decoded while one waits to be counted
REJECTED_COLUMNS = ["dataset", "path", "reason"]
Size = tuple[int, int]  # width and height in pixels


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write the manifest and rejected.csv of data set `config.job["dataset"]`.

    Every image is decoded in full. Raises UserError if more than `index_images.max_rejected_share` of the files cannot
    be, and for a data set without images or whose layout keeps none of them.
    """
    name = config.job["dataset"]
    dataset = config.datasets[name]
    layout = layout_of(dataset)
    listing = list_images(layout)
    sizes, rejected, passed = _measure(Path(dataset.root), listing)
    _check_share(name, listing, rejected, config.index_images.max_rejected_share)
    for what, count in sorted(passed.items()):
        logging.warning("%d images %s", count, what)
    images = layout.divide([item for item in listing if item.image_id in sizes], name, config.seed)
    keys = sorted({item.key for item in images})
    names = layout.class_names(keys)
    label_of = {key: label for label, key in enumerate(keys)}
    labels = [label_of[item.key] for item in images]
    columns = {
        "image_id": [item.image_id for item in images],
        "split": [item.split for item in images],
        "label": labels,
        "class_name": [names[label] for label in labels],
        "captions": [item.captions for item in images],
        "questions": [item.questions for item in images],
        "width": [sizes[item.image_id][0] for item in images],
        "height": [sizes[item.image_id][1] for item in images],
    }
    record = provenance(config, inputs)
    reasons = [{"dataset": name, "path": printable(image_id), "reason": reason} for image_id, reason in rejected]
    write_csv(outputs["rejected"], REJECTED_COLUMNS, reasons)
    write_beside(outputs["rejected"], record)
    files = account(layout, [item.image_id for item in images], [image_id for image_id, _ in rejected])
    metadata = {"files": files, "dataset": {"name": name, "root": dataset.root, "fit": dataset.fit, "classes": names}}
    write_parquet(outputs["manifest"], pa.table(columns, schema=SCHEMA), record, metadata)
    split_sizes = sorted(Counter(item.split for item in images).items())
    counts = ", ".join(f"{count} {split}" for split, count in split_sizes)
    logging.info("%s: %d images (%s) in %d classes, %d rejected", name, len(images), counts, len(keys), len(rejected))


def _measure(root: Path, listing: list[Listed]) -> tuple[dict[str, Size], list[tuple[str, str]], Counter[str]]:
    """Size of every readable image by id, (id, reason) of the others, in the listing's order, and how many of the
    former hold what is passed over."""
    sizes: dict[str, Size] = {}
    rejected: list[tuple[str, str]] = []
    passed: Counter[str] = Counter()
    with closing(mapped(lambda item: _size_or_reason(root, item.image_id), listing, AHEAD)) as outcomes:
        for item, outcome in zip(listing, tqdm(outcomes, "decode", len(listing), disable=None), strict=True):
            if isinstance(outcome, str):
                rejected.append((item.image_id, outcome))
            else:
                sizes[item.image_id], notes = outcome
                passed.update(notes)
    return sizes, rejected, passed


def _size_or_reason(root: Path, image_id: str) -> tuple[Size, list[str]] | str:
    path = root / image_id
    try:
        image_id.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    try:
        return open_image(path).size, passed_over(path)
    except Exception as error:  # decoders raise many kinds; whichever it is, the image cannot be used
        if os.path.isfile(path) and Image.registered_extensions().get(path.suffix.lower()) not in (*FORMATS, "MPO"):
            return f"this installation reads no {path.suffix.lower()} files: convert it to PNG or JPEG"
        reason = f"{type(error).__name__}: {error}".replace(str(path), image_id)
        return printable(" ".join(reason.split()))


def _check_share(name: str, listing: list[Listed], rejected: list[tuple[str, str]], limit: float) -> None:
    for image_id, reason in rejected:
        logging.warning("rejected %s (%s)", printable(image_id), reason)
    share = len(rejected) / len(listing)
    if share > limit:
        first = "; ".join(f"{printable(image_id)} ({reason})" for image_id, reason in rejected[:5])
        raise UserError(
            f"data set {name}: {len(rejected)} of {len(listing)} images ({share:.1%}) cannot be read, first {first}",
            f"at most index_images.max_rejected_share = {limit:g}",
            "restore or remove the files (this stage's log lists all), or raise the limit",
        )


if __name__ == "__main__":
    run_stage(run)
