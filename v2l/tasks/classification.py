"""Few-shot classification from global tokens (paper section 4.2, table 1)."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from v2l.configuration.evaluation import Classification
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import RELEASED
from v2l.data.image_loading import load_features
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens, read_words
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.llm.batches import BLOCK, split_blocks
from v2l.llm.journal import Journal
from v2l.llm.prompts import answer_of, classification_prompt, released_name
from v2l.llm.text_ids import TextIds
from v2l.tasks.cells import Cell, ShownImages, cells_of, further_columns, row
from v2l.tasks.episode_files import read_episodes
from v2l.tasks.episodes import Episode, sample_episodes
from v2l.tasks.evaluation_task import EvaluationTask
from v2l.tasks.simple_predictors import clip_prototype, token_overlap

if TYPE_CHECKING:
    import transformers

SCHEMA = [
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


class EpisodeQuestion(NamedTuple):
    """An episode asked in a cell."""

    cell: Cell
    episode: Episode

    def __str__(self) -> str:
        cell = self.cell
        shape = f"{cell.ways}-way, {cell.inner_shots} inner shots, {cell.repeats} repeats, {cell.tokens} tokens"
        return f"episode {self.episode.number} ({shape})"


class Prediction(NamedTuple):
    """What a predictor says about an episode; the ids are empty without a language model."""

    prompt_ids: list[int]
    output_ids: list[int]
    output: str
    answer: str


EpisodePredictor = Callable[[list[EpisodeQuestion]], list[Prediction]]


class ClassificationTask(EvaluationTask[list[EpisodeQuestion]]):
    """Blocks hold episodes of one cell."""

    def __init__(self, config: StageConfig, inputs: Inputs):
        super().__init__(config, inputs)
        self.schema = pa.schema([*SCHEMA, *further_columns()])
        self.section, tokenizer = config.evaluate_llm.classification, config.job["tokenizer"]
        manifest, tokens = Manifest.read(inputs["manifest"]), Tokens.read(inputs["tokens"])
        if tokens.worded_NK is None:
            raise UserError(
                f"tokenizer {tokenizer} makes no tokens that stand for words, which classification reads",
                "a tokenizer with global tokens, or lqae",
                "leave it out of `evaluate_llm.classification.tokenizers`",
            )
        self.manifest, self.rows = manifest, manifest.rows_of(tokens.image_id.tolist())
        self.images = ShownImages(
            image_id=manifest.image_id[self.rows],
            split=manifest.split[self.rows],
            class_name=manifest.class_name[self.rows],
            code_NK=tokens.worded_NK,
            text_V=read_words(inputs["words"]),
        )
        cells = cells_of(self.section.grid)
        self.blocks = questions(self.section, cells, self.images, config.seed)
        self.prompts = sum(map(len, self.blocks))

    def answering(self, journal: Journal) -> Callable[[list[EpisodeQuestion]], pa.Table]:
        predict = self._predictor(journal)

        def answer(block: list[EpisodeQuestion]) -> pa.Table:
            answered = zip(block, predict(block), strict=True)
            rows = [row(*question, self.images, found._asdict()) for question, found in answered]
            return pa.Table.from_pylist(rows, schema=self.schema)

        return answer

    def _predictor(self, journal: Journal) -> EpisodePredictor:
        if self.source.predictor == "token-overlap":
            return overlap_predictor(self.images)
        if self.source.predictor == "clip-prototype":
            feature_ND = load_features(self.inputs["features"], self.manifest)
            return prototype_predictor(feature_ND.numpy()[self.rows])
        return self._language_model(journal)

    def _language_model(self, journal: Journal) -> EpisodePredictor:
        """A predictor that asks the language model.

        It writes up to the newline or end token. In protocol released it writes `max_new_tokens`, with task induction
        no more than the longest class name has, and its t-th token is one that some class name has there, or the end
        token.
        """
        from v2l.llm.engine import generate  # seconds to import, which the baselines need not pay
        from v2l.llm.language_model import llm_of
        from v2l.llm.token_budget import TokenBudget

        released, most = self.source.protocol == RELEASED, self.section.max_new_tokens
        model, tokenizer, words = llm_of(self.config, self.inputs)
        budget, texts = TokenBudget(model), TextIds(tokenizer)
        named = words.named_ids(model)

        def predict(block: list[EpisodeQuestion]) -> list[Prediction]:
            prompts = [texts.first(prompt_of(question, self.images, released)) for question in block]
            choices = [name_choices(tokenizer, question, most) for question in block] if released else None
            outputs = generate(
                model,
                prompts,
                [len(steps) if steps else most for steps in choices] if choices else most,
                self.section.batch_size,
                stop_ids=() if released else words.stops("\n"),
                allowed_ids=named,
                choices=choices,
                names=[str(question) for question in block],
                remedy="lower ways, tokens, inner_shots or repeats in `evaluate_llm.classification.grid` or `grid_of`",
                journal=journal,
                budget=budget,
            )
            answers = [words.answer_text(ids) for ids in outputs]
            return [
                Prediction(prompt, ids, text, answer_of(text))
                for prompt, ids, text in zip(prompts, outputs, answers, strict=True)
            ]

        return predict


def name_choices(
    tokenizer: transformers.PreTrainedTokenizerBase, question: EpisodeQuestion, limit: int
) -> list[set[int]] | None:
    """Ids that may come at each place (released): the class names' ids there and the end token; None: any id.

    Only prompts with task induction are masked. The mask does not follow one name, so that names may mix.
    """
    if not question.cell.induction:
        return None
    named = question.episode.class_names
    texts = TextIds(tokenizer)
    names = [texts.further(released_name(name)) for name in named]
    end = set() if tokenizer.eos_token_id is None else {tokenizer.eos_token_id}
    return [
        {ids[place] for ids in names if place < len(ids)} | end for place in range(min(limit, max(map(len, names))))
    ]


def questions(
    section: Classification, cells: list[Cell], images: ShownImages, seed: int
) -> list[list[EpisodeQuestion]]:
    """Questions that are answered together: episodes of one cell.

    Raises UserError if the images have fewer global tokens than a cell shows, or if episodes cannot be drawn.
    """
    wanted, there = max(cell.tokens for cell in cells), images.code_NK.shape[1]
    if wanted > there:
        raise UserError(
            f"`evaluate_llm.classification.grid` shows {wanted} tokens, each image has {there}",
            f"at most {there}",
            "raise `train_tokenizer.global_tokens` (spae: add a layer to its `pyramid`) or lower `tokens` in the grid "
            "(`grid_of` for one tokenizer)",
        )
    found: list[list[EpisodeQuestion]] = []
    for cell in cells:
        asked = [EpisodeQuestion(cell, episode) for episode in _episodes(section, images, cell, seed)]
        found += split_blocks(asked, section.batch_size and BLOCK * section.batch_size)
    return found


def _episodes(section: Classification, images: ShownImages, cell: Cell, seed: int) -> list[Episode]:
    if section.episode_files:
        path = Path(section.episode_files.format(ways=cell.ways, inner_shots=cell.inner_shots))
        return read_episodes(path, images.image_id, images.class_name, cell.ways, cell.inner_shots)[: section.episodes]
    splits = (section.support_split, section.query_split)
    return sample_episodes(
        images.split, images.class_name, cell.ways, cell.inner_shots, section.episodes, *splits, seed
    )


def prompt_of(question: EpisodeQuestion, images: ShownImages, released: bool = False) -> str:
    """The prompt text of an episode in a cell."""
    cell, shown = question.cell, images.shown(*question, released)
    return classification_prompt(shown.class_names, shown.examples, shown.query, cell.induction, cell.repeats, released)


def overlap_predictor(images: ShownImages) -> EpisodePredictor:
    """The class of the support image with the largest token overlap."""

    def predict(block: list[EpisodeQuestion]) -> list[Prediction]:
        made = []
        for cell, episode in block:
            code_NK = images.code_NK[:, : cell.tokens]
            nearest = token_overlap(code_NK[episode.query], code_NK[episode.support])
            made.append(_named(episode, episode.support_labels[nearest]))
        return made

    return predict


def prototype_predictor(feature_ND: np.ndarray) -> EpisodePredictor:
    """The class with the nearest mean image feature; rows of `feature_ND` are the images."""

    def predict(block: list[EpisodeQuestion]) -> list[Prediction]:
        return [
            _named(e, clip_prototype(feature_ND[e.query], feature_ND[e.support], e.support_labels)) for _, e in block
        ]

    return predict


def _named(episode: Episode, label: int) -> Prediction:
    return Prediction([], [], episode.class_names[label], episode.class_names[label])
