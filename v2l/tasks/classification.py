"""Few-shot classification from global tokens (paper section 4.2, table 1)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from v2l.baselines import clip_prototype, token_overlap
from v2l.config import Classification
from v2l.episodes import Episode, sample_episodes
from v2l.errors import UserError
from v2l.io.storage import read_tensors
from v2l.llm.engine import generate
from v2l.llm.loading import llm_of
from v2l.llm.prompts import answer_of, classification_prompt, join_words
from v2l.manifest import Manifest
from v2l.stage import Paths, StageConfig
from v2l.tokens import Tokens

SCHEMA = pa.schema(
    [
        ("ways", pa.int32()),
        ("tokens", pa.int32()),
        ("inner_shots", pa.int32()),
        ("repeats", pa.int32()),
        ("episode", pa.int32()),
        ("induction", pa.bool_()),
        ("query_image", pa.string()),
        ("class_names", pa.list_(pa.string())),
        ("support_images", pa.list_(pa.string())),
        ("support_labels", pa.list_(pa.int32())),
        ("target", pa.string()),
        ("prompt_ids", pa.list_(pa.int32())),
        ("output_ids", pa.list_(pa.int32())),
        ("output", pa.string()),
        ("answer", pa.string()),
    ]
)


class Cell(NamedTuple):
    """One cell of table 1."""

    ways: int
    tokens: int
    induction: bool
    inner_shots: int
    repeats: int


class Prediction(NamedTuple):
    """What a predictor says about an episode; the ids are empty without a language model."""

    prompt_ids: list[int]
    output_ids: list[int]
    output: str
    answer: str


@dataclass(frozen=True)
class Images:
    """The sample: one row per image, `code_NK` the codes that stand for words, `text_V` the words."""

    image_id: np.ndarray
    split: np.ndarray
    class_name: np.ndarray
    code_NK: np.ndarray
    text_V: list[str]

    def words(self, image: int, tokens: int) -> str:
        """The joined words of an image's first `tokens` codes."""
        return join_words(self.text_V[code] for code in self.code_NK[image, :tokens])


Predictor = Callable[[Cell, list[Episode]], list[Prediction]]


def prepare(config: StageConfig, inputs: Paths) -> tuple[pa.Schema, Callable[[tqdm], Iterator[pa.Table]], int]:
    """The table's schema, a function that yields its tables while it moves the progress bar, and the prompts in all."""
    section, predictor = config.evaluate_llm.classification, config.job["predictor"]
    manifest = Manifest.read(inputs["manifest"])
    tokens = Tokens.read(inputs["tokens"])
    if tokens.read_NK is None:
        raise UserError(
            f"tokenizer {config.job['tokenizer']} makes no tokens that stand for words, which classification reads",
            "a tokenizer with global tokens, or lqae",
            "leave it out of `evaluate_llm.classification.tokenizers`",
        )
    rows = manifest.rows_of(tokens.image_id.tolist())
    images = Images(
        image_id=manifest.image_id[rows],
        split=manifest.split[rows],
        class_name=manifest.class_name[rows],
        code_NK=tokens.read_NK,
        text_V=pq.read_table(inputs["words"], columns=["text"])["text"].to_pylist(),
    )

    def tables(progress: tqdm):
        if predictor == "token-overlap":
            answer = overlap_predictor(images)
        elif predictor == "clip-prototype":
            features, _ = read_tensors(inputs["features"])
            answer = prototype_predictor(features["feature_ND"].numpy()[rows])
        else:
            answer = _llm_predictor(config, inputs, images, progress)
        return predict(section, images, answer, config.seed)

    return SCHEMA, tables, section.episodes * len(cells(section))


def _llm_predictor(config: StageConfig, inputs: Paths, images: Images, progress: tqdm) -> Predictor:
    """A predictor that asks the language model and takes what it writes up to the newline or end token."""
    section = config.evaluate_llm.classification
    model, tokenizer, words = llm_of(config, inputs)
    newlines = {number for number, text in words.subwords() if "\n" in text}
    stop_ids = newlines | words.control

    def predict_cell(cell: Cell, episodes: list) -> list[Prediction]:
        prompts = [tokenizer(prompt_of(cell, episode, images)).input_ids for episode in episodes]
        what = f"{cell.ways}-way, {cell.inner_shots} inner shots, {cell.repeats} repeats, {cell.tokens} tokens"
        outputs = generate(
            model,
            prompts,
            section.max_new_tokens,
            section.batch_size,
            stop_ids=stop_ids,
            names=[f"episode {episode.number} ({what})" for episode in episodes],
            remedy="lower ways, tokens, inner_shots or repeats in `evaluate_llm.classification.grid`",
            progress=progress,
        )
        texts = [tokenizer.decode([number for number in ids if number not in words.control]) for ids in outputs]
        return [
            Prediction(prompt, ids, text, answer_of(text))
            for prompt, ids, text in zip(prompts, outputs, texts, strict=True)
        ]

    return predict_cell


def cells(section: Classification) -> list[Cell]:
    """The cells of all grid blocks, each once, in the order of the config."""
    blocks = [product(grid.ways, grid.tokens, grid.induction, grid.inner_shots, grid.repeats) for grid in section.grid]
    return list(dict.fromkeys(Cell(*values) for block in blocks for values in block))


def predict(section: Classification, images: Images, predictor: Predictor, seed: int) -> Iterator[pa.Table]:
    """A table of SCHEMA for each cell, a row for each episode.

    Raises UserError if the images have fewer global tokens than a cell shows, or if episodes cannot be drawn.
    """
    wanted, there = max(cell.tokens for cell in cells(section)), images.code_NK.shape[1]
    if wanted > there:
        raise UserError(
            f"`evaluate_llm.classification.grid` shows {wanted} tokens, each image has {there}",
            f"at most {there}",
            "raise `train_tokenizer.global_tokens` or lower `tokens` in the grid",
        )
    splits = (section.support_split, section.query_split)
    for cell in cells(section):
        episodes = sample_episodes(
            images.split, images.class_name, cell.ways, cell.inner_shots, section.episodes, *splits, seed
        )
        rows = zip(episodes, predictor(cell, episodes), strict=True)
        yield pa.Table.from_pylist([_row(cell, images, *pair) for pair in rows], schema=SCHEMA)


def prompt_of(cell: Cell, episode: Episode, images: Images) -> str:
    """The prompt text of an episode in a cell."""
    shown = [images.words(image, cell.tokens) for image in episode.support]
    names = [episode.class_names[label] for label in episode.support_labels]
    query = images.words(episode.query, cell.tokens)
    support = list(zip(shown, names, strict=True))
    return classification_prompt(episode.class_names, support, query, cell.induction, cell.repeats)


def overlap_predictor(images: Images) -> Predictor:
    """The class of the support image with the largest token overlap."""

    def predict_cell(cell: Cell, episodes: list[Episode]) -> list[Prediction]:
        code_NK = images.code_NK[:, : cell.tokens]
        nearest = [token_overlap(code_NK[episode.query], code_NK[episode.support]) for episode in episodes]
        return [_named(e, e.support_labels[index]) for e, index in zip(episodes, nearest, strict=True)]

    return predict_cell


def prototype_predictor(feature_ND: np.ndarray) -> Predictor:
    """The class with the nearest mean image feature; rows of `feature_ND` are the images."""

    def predict_cell(cell: Cell, episodes: list[Episode]) -> list[Prediction]:
        return [
            _named(e, clip_prototype(feature_ND[e.query], feature_ND[e.support], e.support_labels)) for e in episodes
        ]

    return predict_cell


def _named(episode: Episode, label: int) -> Prediction:
    return Prediction([], [], episode.class_names[label], episode.class_names[label])


def _row(cell: Cell, images: Images, episode: Episode, prediction: Prediction) -> dict:
    return (
        cell._asdict()
        | {
            "episode": episode.number,
            "query_image": images.image_id[episode.query],
            "class_names": episode.class_names,
            "support_images": [images.image_id[image] for image in episode.support],
            "support_labels": episode.support_labels,
            "target": episode.target,
        }
        | prediction._asdict()
    )
