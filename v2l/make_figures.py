"""Stage make_figures: global tokens, captions and answers of images, restored and reconstructed images side by side."""

import logging
import textwrap
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq
from matplotlib.figure import Figure

from v2l.configuration.dataset_entries import TASKS
from v2l.configuration.protocols import split_run
from v2l.configuration.slices import StageConfig
from v2l.data.image_loading import load_image
from v2l.data.images import decode_png, square_image
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.figures.drawing import Column, captioned_images, image_grid
from v2l.io.atomic import atomic_path
from v2l.io.job_files import Inputs, Outputs
from v2l.io.provenance import write_beside
from v2l.io.storage import parquet_facts
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.runtime import rng

T = TypeVar("T")
PHOTO_SIDE = 224  # pixels of the pictures above the global tokens
WIDE_CELL = 1.4  # inches of an image in the reconstruction figure
LETTERS, ANSWER_LINES = 22, 5  # beneath an image
ORACLE = "restoration.tokenizer-oracle"
SOURCES = {
    "corrupted-input": "corrupted input",
    "restoration.majority-vote": "majority vote",
    ORACLE: "tokenizer oracle",
    "masked.corrupted-input": "input",
    "masked.most-frequent-code": "most frequent code",
    "masked.tokenizer-oracle": "tokenizer oracle",
}
METHODS = {
    "v2l": "V2L Tokenizer",
    "v2l-local": "V2L without global tokens",
    "v2l-subword": "V2L without expansion",
    "vqgan": "VQ-GAN",
    "lqae": "LQAE",
    "spae": "SPAE (our reading)",
}


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Draw `job.figure` as `pdf` and `png`, each with its provenance beside it; equal input gives equal bytes.

    global_tokens takes manifest, tokens and words; restoration and reconstruction take manifest and `images`, files
    of reconstruct_images; captioning_vqa takes `manifests` and `predictions`, one of each for each task. Raises
    UserError if there is nothing to show.
    """
    figure, count = FIGURES[config.job["figure"]](config, inputs)
    record = provenance(config, inputs)
    for name, metadata in (("pdf", {"CreationDate": None}), ("png", {})):
        with atomic_path(outputs[name]) as temporary:
            figure.savefig(temporary, dpi=config.make_figures.dpi, metadata=metadata)
        write_beside(outputs[name], record)
    logging.info("figure %s: %d images", config.job["figure"], count)


def global_tokens(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """Some images of the tokens' sample, each above its nearest global tokens."""
    tokens = Tokens.read(inputs["tokens"])
    words = config.make_figures.words
    found = 0 if tokens.global_NK is None else tokens.global_NK.shape[1]
    if found < words:
        raise UserError(
            f"{inputs['tokens']} holds {found} global tokens per image",
            f"at least `make_figures.words` = {words}",
            "lower words, raise train_tokenizer.global_tokens, or draw a tokenizer with a global codebook",
        )
    manifest = Manifest.read(inputs["manifest"])
    texts = pq.read_table(inputs["words"], columns=["text"])["text"].to_pylist()
    rows = {image_id: row for row, image_id in enumerate(tokens.image_id)}
    chosen = choose(config, list(rows), inputs["tokens"])
    captions = [[texts[code] for code in tokens.global_NK[rows[image_id], :words]] for image_id in chosen]
    return captioned_images(_originals(manifest, chosen, PHOTO_SIDE), captions, "Nearest global tokens"), len(chosen)


def restoration(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """A row per image: for each task the corrupted input and the restorations, then tokenizer oracle and original."""
    files = sorted((ImageFile(path) for path in inputs.files("images")), key=ImageFile.rank)
    tasks = [task for task in TASKS if any(task in file.tasks for file in files)]
    missing = [f"{file.path} (task {task})" for file in files for task in tasks if task not in file.tasks]
    if missing:
        raise UserError(
            f"no images in {', '.join(missing)}", "every task in every file", "reconstruct the images again"
        )
    chosen = choose(config, common_images(files), files[0].path)
    columns: list[Column] = []
    groups = []
    for task in tasks:
        shown = [(file.label, file.images(task, chosen)) for file in files if file.source != ORACLE]
        columns, groups = columns + shown, [*groups, (task, len(shown))]
    reference = [(file.label, file.images(tasks[0], chosen)) for file in files if file.source == ORACLE]
    reference.append(("original", _originals(Manifest.read(inputs["manifest"]), chosen, files[0].size)))
    return image_grid(columns + reference, [*groups, ("reference", len(reference))]), len(chosen)


def captioning_vqa(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """Some images of each task, with the caption or with the question and its answer beneath (paper figure 5)."""
    pictures, lines, predictors = [], [], {}
    for path, manifest_path in zip(inputs.files("predictions"), inputs.files("manifests"), strict=True):
        rows = pq.read_table(path).to_pylist()
        chosen = choose(config, rows, path)
        pictures += _originals(Manifest.read(manifest_path), [row["image_id"] for row in chosen], PHOTO_SIDE)
        for row in chosen:
            asked = [f"Q: {row['question']}", f"A: {row['answer']}"] if "question" in row else [row["answer"]]
            lines.append([line for text in asked for line in textwrap.wrap(text, LETTERS)][:ANSWER_LINES])
        predictors[parquet_facts(path)["v2l"]["config"]["job"]["predictor"]] = None
    title = f"Captions and answers by {' and '.join(predictors)}"
    return captioned_images(pictures, lines, title, config.make_figures.images), len(pictures)


def masked(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """A row per image (paper figure 8): the input with its gaps, what fills them, tokenizer oracle, original."""
    files = [ImageFile(path) for path in inputs.files("images")]
    chosen = choose(config, common_images(files), files[0].path)
    columns = [(file.label, file.images("masked", chosen)) for file in files]
    columns.append(("original", _originals(Manifest.read(inputs["manifest"]), chosen, files[0].size)))
    return image_grid(columns, [("", len(columns))], WIDE_CELL), len(chosen)


def reconstruction(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """A row per image: the original, then each tokenizer's reconstruction in the order of the files."""
    files = [ImageFile(path) for path in inputs.files("images")]
    chosen = choose(config, common_images(files), files[0].path)
    originals = _originals(Manifest.read(inputs["manifest"]), chosen, files[0].size)
    columns = [("original", originals)]
    columns += [(METHODS.get(file.tokenizer, file.tokenizer), file.images("reconstruction", chosen)) for file in files]
    return image_grid(columns, [("", len(columns))], WIDE_CELL), len(chosen)


FIGURES = {
    "global_tokens": global_tokens,
    "restoration": restoration,
    "masked": masked,
    "reconstruction": reconstruction,
    "captioning_vqa": captioning_vqa,
}


class ImageFile:
    """An output of reconstruct_images: what made it, and its images one by one."""

    def __init__(self, path: Path):
        self.path = path
        facts = parquet_facts(path)
        job = facts["v2l"]["config"]["job"]
        self.size, self.tokenizer, self.source = facts["size"], job["tokenizer"], split_run(job["source"])[0]
        table = pq.read_table(path, columns=["image_id", "task"])
        self.image_ids = list(dict.fromkeys(table["image_id"].to_pylist()))
        self.tasks = set(table["task"].to_pylist())

    @property
    def label(self) -> str:
        """The source in words; of a language model its registry name."""
        return SOURCES.get(self.source) or self.source.partition(".")[2]

    def rank(self) -> tuple:
        """Order of columns: what needs no language model first."""
        known = list(SOURCES).index(self.source) if self.source in SOURCES else len(SOURCES)
        return known, self.source, self.tokenizer

    def images(self, task: str, image_ids: list[str]) -> list[np.ndarray]:
        """uint8 RGB arrays of `image_ids`, in their order."""
        wanted = [("task", "==", task), ("image_id", "in", image_ids)]
        table = pq.read_table(self.path, columns=["image_id", "image"], filters=wanted)
        images = dict(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))
        return [decode_png(images[image_id]) for image_id in image_ids]


def common_images(files: list[ImageFile]) -> list[str]:
    """Image ids that every file holds, in the order of the first."""
    shared = set.intersection(*(set(file.image_ids) for file in files))
    return [image_id for image_id in files[0].image_ids if image_id in shared]


def choose(config: StageConfig, image_ids: list[T], source: Path) -> list[T]:
    """Up to `make_figures.images` of `image_ids` (or rows), drawn with the experiment's seed, in their order."""
    if not image_ids:
        raise UserError(f"{source} has no image to show", "images that all inputs share", "delete it and run again")
    count = min(config.make_figures.images, len(image_ids))
    rows = rng(config.seed, "figure", config.job["figure"]).choice(len(image_ids), count, replace=False)
    return [image_ids[row] for row in np.sort(rows)]


def _originals(manifest: Manifest, image_ids: list[str], side: int) -> list[np.ndarray]:
    rows = manifest.rows_of(image_ids)
    return [np.asarray(square_image(load_image(manifest, row), side, manifest.fit)) for row in rows]


if __name__ == "__main__":
    run_stage(run)
