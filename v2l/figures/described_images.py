"""Images with words beneath: their global tokens (paper figure 6), captions and answers (figure 5)."""

import textwrap

import numpy as np
from matplotlib.figure import Figure

from v2l.configuration.slices import StageConfig
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.figures.drawing import captioned_images
from v2l.figures.image_file import choose, originals
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, read_parquet

PHOTO_SIDE = 224  # pixels of the pictures
LETTERS, ANSWER_LINES = 22, 5  # beneath an image


def global_tokens_figure(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """Some images of the tokens' sample, each above its nearest global tokens."""
    tokens = Tokens.read(inputs["tokens"])
    words, global_NK = config.make_figures.words, tokens.global_NK
    found = 0 if global_NK is None else global_NK.shape[1]
    if global_NK is None or found < words:
        raise UserError(
            f"{inputs['tokens']} holds {found} global tokens per image",
            f"at least `make_figures.words` = {words}",
            "lower words, raise train_tokenizer.global_tokens, or draw a tokenizer with a global codebook",
        )
    manifest = Manifest.read(inputs["manifest"])
    texts = read_parquet(inputs["words"], columns=["text"])["text"].to_pylist()
    rows = {image_id: row for row, image_id in enumerate(tokens.image_id)}
    chosen = choose(config, list(rows), inputs["tokens"])
    captions = [[texts[code] for code in global_NK[rows[image_id], :words]] for image_id in chosen]
    return captioned_images(originals(manifest, chosen, PHOTO_SIDE), captions, "Nearest global tokens"), len(chosen)


def answers_figure(config: StageConfig, inputs: Inputs) -> tuple[Figure, int]:
    """Some images of each task, with the caption or with the question and its answer beneath (paper figure 5)."""
    pictures: list[np.ndarray] = []
    lines: list[list[str]] = []
    predictors: dict[str, None] = {}  # a set in order
    for path, manifest_path in zip(inputs.files("predictions"), inputs.files("manifests"), strict=True):
        rows = read_parquet(path).to_pylist()
        chosen = choose(config, rows, path)
        pictures += originals(Manifest.read(manifest_path), [row["image_id"] for row in chosen], PHOTO_SIDE)
        for row in chosen:
            asked = [f"Q: {row['question']}", f"A: {row['answer']}"] if "question" in row else [row["answer"]]
            lines.append([line for text in asked for line in textwrap.wrap(text, LETTERS)][:ANSWER_LINES])
        predictors[parquet_metadata(path)["v2l"]["config"]["job"]["predictor"]] = None
    title = f"Captions and answers by {' and '.join(predictors)}"
    return captioned_images(pictures, lines, title, config.make_figures.images), len(pictures)
