"""Few-shot classification from global tokens (paper section 4.2, table 1)."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import transformers

from v2l.configuration.evaluation import Classification
from v2l.configuration.protocols import RELEASED
from v2l.configuration.slices import StageConfig
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens, read_words
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import read_tensors
from v2l.llm.batches import split_blocks
from v2l.llm.engine import generate
from v2l.llm.journal import Progress
from v2l.llm.language_model import llm_of
from v2l.llm.prompts import SEPARATOR, answer_of, classification_prompt, join_words, released_name
from v2l.tasks.baselines import clip_prototype, token_overlap
from v2l.tasks.episode_files import read_episodes
from v2l.tasks.episodes import Episode, sample_episodes

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

    def words(self, image: int, tokens: int, released: bool = False) -> str:
        """The joined words of an image's first `tokens` codes."""
        return join_words((self.text_V[code] for code in self.code_NK[image, :tokens]), "" if released else SEPARATOR)


Question = tuple[Cell, Episode]
Predictor = Callable[[list[Question]], list[Prediction]]


def prepare(config: StageConfig, inputs: Inputs) -> tuple[pa.Schema, Callable[[Progress], Iterator[pa.Table]], int]:
    """The table's schema, a function that yields its tables while it moves the progress bar, and the prompts in all."""
    section = config.evaluate_llm.classification.for_tokenizer(config.job["tokenizer"])
    predictor = config.job["predictor"]
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
        text_V=read_words(inputs["words"]),
    )
    questions = blocks(section, images, config.seed)

    def tables(progress: Progress):
        if predictor == "token-overlap":
            answer = overlap_predictor(images)
        elif predictor == "clip-prototype":
            features, _ = read_tensors(inputs["features"])
            answer = prototype_predictor(features["feature_ND"].numpy()[rows])
        else:
            answer = _llm_predictor(config, inputs, images, progress)
        for block in progress.mine(questions):
            answered = zip(block, answer(block), strict=True)
            yield pa.Table.from_pylist([_row(*question, images, made) for question, made in answered], schema=SCHEMA)

    return SCHEMA, tables, sum(map(len, questions))


def _llm_predictor(config: StageConfig, inputs: Inputs, images: Images, progress: Progress) -> Predictor:
    """A predictor that asks the language model.

    It writes up to the newline or end token. In protocol released it writes `max_new_tokens`, with task induction no
    more than the longest class name has, and its t-th token is one that some class name has there, or the end token.
    """
    section, released = config.evaluate_llm.classification, config.job["protocol"] == RELEASED
    model, tokenizer, words = llm_of(config, inputs)

    def predict(questions: list[Question]) -> list[Prediction]:
        prompts = [tokenizer(prompt_of(*question, images, released)).input_ids for question in questions]
        choices = limits = None
        if released:
            choices = [name_choices(tokenizer, *question, section.max_new_tokens) for question in questions]
            limits = [len(steps) if steps else section.max_new_tokens for steps in choices]
        outputs = generate(
            model,
            prompts,
            limits or section.max_new_tokens,
            section.batch_size,
            stop_ids=() if released else words.stops("\n"),
            choices=choices,
            names=[_name(*question) for question in questions],
            remedy="lower ways, tokens, inner_shots or repeats in `evaluate_llm.classification.grid` or `grid_of`",
            progress=progress,
        )
        texts = [tokenizer.decode([number for number in ids if number not in words.control]) for ids in outputs]
        return [
            Prediction(prompt, ids, text, answer_of(text))
            for prompt, ids, text in zip(prompts, outputs, texts, strict=True)
        ]

    return predict


def name_choices(
    tokenizer: transformers.PreTrainedTokenizerBase, cell: Cell, episode: Episode, limit: int
) -> list[set[int]] | None:
    """Ids that may come at each place (released): the class names' ids there and the end token; None: any id.

    Only prompts with task induction are masked. The mask does not follow one name, so that names may mix.
    """
    if not cell.induction:
        return None
    names = [tokenizer(released_name(name), add_special_tokens=False).input_ids for name in episode.class_names]
    return [
        {ids[place] for ids in names if place < len(ids)} | {tokenizer.eos_token_id}
        for place in range(min(limit, max(map(len, names))))
    ]


def _name(cell: Cell, episode: Episode) -> str:
    return (
        f"episode {episode.number} ({cell.ways}-way, {cell.inner_shots} inner shots, {cell.repeats} repeats, "
        f"{cell.tokens} tokens)"
    )


def cells(section: Classification) -> list[Cell]:
    """The cells of all grid blocks, each once, in the order of the config."""
    blocks = [product(grid.ways, grid.tokens, grid.induction, grid.inner_shots, grid.repeats) for grid in section.grid]
    return list(dict.fromkeys(Cell(*values) for block in blocks for values in block))


def blocks(section: Classification, images: Images, seed: int) -> list[list[Question]]:
    """Questions that are answered together: episodes of one cell.

    Raises UserError if the images have fewer global tokens than a cell shows, or if episodes cannot be drawn.
    """
    wanted, there = max(cell.tokens for cell in cells(section)), images.code_NK.shape[1]
    if wanted > there:
        raise UserError(
            f"`evaluate_llm.classification.grid` shows {wanted} tokens, each image has {there}",
            f"at most {there}",
            "raise `train_tokenizer.global_tokens` (spae: add a layer to its `pyramid`) or lower `tokens` in the grid "
            "(`grid_of` for one tokenizer)",
        )
    found = []
    for cell in cells(section):
        episodes = _episodes(section, images, cell, seed)
        found += split_blocks([(cell, episode) for episode in episodes], section.batch_size)
    return found


def _episodes(section: Classification, images: Images, cell: Cell, seed: int) -> list[Episode]:
    if section.episode_files:
        path = Path(section.episode_files.format(ways=cell.ways, inner_shots=cell.inner_shots))
        return read_episodes(path, images.image_id, images.class_name, cell.ways, cell.inner_shots)[: section.episodes]
    splits = (section.support_split, section.query_split)
    return sample_episodes(
        images.split, images.class_name, cell.ways, cell.inner_shots, section.episodes, *splits, seed
    )


def prompt_of(cell: Cell, episode: Episode, images: Images, released: bool = False) -> str:
    """The prompt text of an episode in a cell."""
    shown = [images.words(image, cell.tokens, released) for image in episode.support]
    names = [released_name(name) if released else name for name in episode.class_names]
    query = images.words(episode.query, cell.tokens, released)
    support = list(zip(shown, [names[label] for label in episode.support_labels], strict=True))
    return classification_prompt(names, support, query, cell.induction, cell.repeats, released)


def overlap_predictor(images: Images) -> Predictor:
    """The class of the support image with the largest token overlap."""

    def predict(questions: list[Question]) -> list[Prediction]:
        made = []
        for cell, episode in questions:
            code_NK = images.code_NK[:, : cell.tokens]
            nearest = token_overlap(code_NK[episode.query], code_NK[episode.support])
            made.append(_named(episode, episode.support_labels[nearest]))
        return made

    return predict


def prototype_predictor(feature_ND: np.ndarray) -> Predictor:
    """The class with the nearest mean image feature; rows of `feature_ND` are the images."""

    def predict(questions: list[Question]) -> list[Prediction]:
        return [
            _named(e, clip_prototype(feature_ND[e.query], feature_ND[e.support], e.support_labels))
            for _, e in questions
        ]

    return predict


def _named(episode: Episode, label: int) -> Prediction:
    return Prediction([], [], episode.class_names[label], episode.class_names[label])


def _row(cell: Cell, episode: Episode, images: Images, prediction: Prediction) -> dict:
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
