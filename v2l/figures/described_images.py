"""Images with words beneath: their global tokens (paper figure 6), captions and answers (figure 5)."""

from pathlib import Path

import pyarrow.parquet as pq
from matplotlib.figure import Figure

from v2l.configuration.slices import StageConfig
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.figures.captioned import Captioned, Phrase, captioned_images
from v2l.figures.image_file import choose, originals
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata

PHOTO_SIDE = 224  # pixels of the pictures
KINDS = {  # of a vocabulary's entries: mark and colour
    "subword": ("●", "#0072B2"),
    "bigram": ("■", "#A34A00"),
    "trigram": ("▲", "#00694D"),
}
HEADINGS = {"captioning": "Captions", "vqa": "Answers to questions"}


def global_tokens_figure(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """Some images of the tokens' sample, each above its nearest global tokens, marked by how many subwords they have.

    Raises UserError if the tokens have fewer global ones than are to be shown.
    """
    tokens = Tokens.read(inputs["tokens"])
    words, global_NK = config.make_figures.words, tokens.global_NK
    found = 0 if global_NK is None else global_NK.shape[1]
    if global_NK is None or found < words:
        raise UserError(
            f"{inputs['tokens']} holds {found} global tokens per image",
            f"at least `make_figures.words` = {words}",
            "lower words, raise train_tokenizer.global_tokens, or draw a tokenizer with a global codebook",
        )
    phrases = word_phrases(inputs["words"], inputs["vocabulary"])
    rows = {image_id: row for row, image_id in enumerate(tokens.image_id)}
    chosen = choose(config, list(rows), inputs["tokens"])
    pictures = originals(Manifest.read(inputs["manifest"]), chosen, PHOTO_SIDE)
    captioned = [
        Captioned(picture, [phrases[code] for code in global_NK[rows[image_id], :words]])
        for picture, image_id in zip(pictures, chosen, strict=True)
    ]
    marks = {phrase.mark for shown in captioned for phrase in shown.phrases}
    legend = [Phrase(kind, mark, colour) for kind, (mark, colour) in KINDS.items() if mark in marks]
    return captioned_images([("", captioned)], legend), f"{len(chosen)} images"


def word_phrases(words: Path, vocabulary: Path) -> list[Phrase]:
    """The word of each code as it is drawn; without a mark where no vocabulary entry is known for it."""
    kinds = pq.read_table(vocabulary, columns=["kind"])["kind"].to_pylist()
    rows = pq.read_table(words, columns=["text", "entry"]).to_pylist()
    looks = [
        KINDS.get(kinds[row["entry"]], ("", "black")) if row["entry"] is not None else ("", "black") for row in rows
    ]
    return [Phrase(row["text"], *look) for row, look in zip(rows, looks, strict=True)]


def answers_figure(config: StageConfig, inputs: Inputs) -> tuple[Figure, str]:
    """Some images of each task, with the caption or with the question and its answer beneath (paper figure 5)."""
    blocks: list[tuple[str, list[Captioned]]] = []
    for path, manifest_path in zip(inputs.files("predictions"), inputs.files("manifests"), strict=True):
        rows = pq.read_table(path).to_pylist()
        chosen = choose(config, rows, path)
        pictures = originals(Manifest.read(manifest_path), [row["image_id"] for row in chosen], PHOTO_SIDE)
        job = parquet_metadata(path)["v2l"]["config"]["job"]
        heading = f"{HEADINGS.get(job['task'], job['task'])} by {job['predictor']}"
        blocks.append((heading, [Captioned(*shown) for shown in zip(pictures, map(_answer, chosen), strict=True)]))
    return captioned_images(blocks), f"{sum(len(captioned) for _, captioned in blocks)} images"


def _answer(row: dict[str, str]) -> list[Phrase]:
    if "question" in row:
        return [Phrase(row["question"], "Q", most=3), Phrase(row["answer"], "A", most=3)]
    return [Phrase(row["answer"], most=4)]
