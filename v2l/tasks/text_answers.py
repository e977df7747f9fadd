"""What the tasks that are answered in text share: drawn examples and queries, prompts, and who answers them."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from v2l.configuration.evaluation import TextTask
from v2l.configuration.slices import StageConfig
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens, read_words
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.llm.batches import BLOCK, split_blocks
from v2l.llm.journal import Journal
from v2l.llm.prompts import answer_of, join_words, text_prompt
from v2l.llm.text_ids import TextIds
from v2l.runtime import rng
from v2l.tasks.evaluation_task import EvaluationTask
from v2l.tasks.simple_predictors import majority_vote, token_overlap

COLUMNS = [  # of the predictions, before the task's own
    ("image_id", pa.string()),
    ("context", pa.int32()),  # which draw of the examples
    ("example_images", pa.list_(pa.string())),
    ("example_answers", pa.list_(pa.string())),
    ("prompt_ids", pa.list_(pa.int32())),
    ("output_ids", pa.list_(pa.int32())),
    ("output", pa.string()),
    ("answer", pa.string()),
]


@dataclass(frozen=True)
class DescribedImage:
    """An image of the sample as the language model sees it."""

    image_id: str
    split: str
    codes: list[int]  # nearest first
    words: str


@dataclass(frozen=True)
class TextItem:
    """What can be asked, or shown as an example with `answer`."""

    name: str  # for messages
    image: DescribedImage
    heading: str  # the prompt's text before the answer
    answer: str
    tokens: frozenset  # what token-overlap compares
    columns: dict[str, Any]  # the task's own


@dataclass(frozen=True)
class TextQuery:
    """An item that is asked after the examples of a context."""

    context: int
    examples: list[TextItem]
    item: TextItem


TextPredictor = Callable[[list[TextQuery]], list[dict[str, Any]]]


class TextAnswering(EvaluationTask[list[TextQuery]]):
    """A task whose prompts are text. `instruction` is their first line; an answer ends at the first character of
    `marks`; `columns` are the task's own, after those of all."""

    name: ClassVar[str]
    instruction: ClassVar[str]
    marks: ClassVar[str]
    columns: ClassVar[list[tuple[str, pa.DataType]]]
    section: TextTask

    def __init__(self, config: StageConfig, inputs: Inputs):
        super().__init__(config, inputs)
        self.section = getattr(config.evaluate_llm, self.name)
        self.schema = pa.schema([*COLUMNS, *self.columns])
        queries = draw(self.name, self.section, self.items(self._images()), self.most_queries, config.seed)
        self.blocks = []
        for context in range(self.section.contexts):
            of_context = [query for query in queries if query.context == context]
            size = self.section.batch_size and BLOCK * self.section.batch_size
            self.blocks += split_blocks(of_context, size)
        self.prompts = len(queries)

    @abstractmethod
    def items(self, images: list[DescribedImage]) -> list[TextItem]:
        """Everything that can be asked or shown about the images."""

    @property
    @abstractmethod
    def most_queries(self) -> int:
        """How many queries are asked at most."""

    def answering(self, journal: Journal) -> Callable[[list[TextQuery]], pa.Table]:
        predict = PREDICTORS.get(self.source.predictor) or self._language_model(journal)

        def answer(block: list[TextQuery]) -> pa.Table:
            rows = [_row(query, found) for query, found in zip(block, predict(block), strict=True)]
            return pa.Table.from_pylist(rows, schema=self.schema)

        return answer

    def _images(self) -> list[DescribedImage]:
        """The sample's images, each with its nearest global codes. Raises UserError if there are too few of them."""
        tokens, wanted = Tokens.read(self.inputs["tokens"]), self.section.tokens
        there = 0 if tokens.worded_NK is None else tokens.worded_NK.shape[1]
        if tokens.worded_NK is None or wanted > there:
            tokenizer = self.config.job["tokenizer"]
            raise UserError(
                f"`evaluate_llm.{self.name}.tokens` is {wanted}, tokenizer {tokenizer} made {there} codes with words "
                "of each image",
                f"at most {there}" if there else "a tokenizer whose codes stand for words",
                "lower it, raise `train_tokenizer.global_tokens`, or choose other `tokenizers` for the task",
            )
        manifest, texts = Manifest.read(self.inputs["manifest"]), read_words(self.inputs["words"])
        splits = manifest.split[manifest.rows_of(tokens.image_id.tolist())]
        return [
            DescribedImage(image_id, split, codes, join_words(texts[code] for code in codes))
            for image_id, split, codes in zip(
                tokens.image_id, splits, tokens.worded_NK[:, :wanted].tolist(), strict=True
            )
        ]

    def _language_model(self, journal: Journal) -> TextPredictor:
        from v2l.llm.engine import generate  # seconds to import, which the baselines need not pay
        from v2l.llm.language_model import llm_of
        from v2l.llm.token_budget import TokenBudget

        model, tokenizer, words = llm_of(self.config, self.inputs)
        budget, texts = TokenBudget(model), TextIds(tokenizer)
        named = words.named_ids(model)

        def predict(queries: list[TextQuery]) -> list[dict[str, Any]]:
            prompts = []
            for query in queries:
                examples = [(item.heading, item.answer) for item in query.examples]
                prompts.append(texts.first(text_prompt(self.instruction, examples, query.item.heading)))
            outputs = generate(
                model,
                prompts,
                self.section.max_new_tokens,
                self.section.batch_size,
                stop_ids=words.stops(self.marks),
                allowed_ids=named,
                names=[f"{query.item.name} (with {len(query.examples)} examples)" for query in queries],
                remedy=f"lower `tokens` or `in_context_examples` in `evaluate_llm.{self.name}`",
                journal=journal,
                budget=budget,
            )
            answers = [words.answer_text(ids) for ids in outputs]
            return [
                {"prompt_ids": prompt, "output_ids": ids, "output": text, "answer": answer_of(text, self.marks)}
                for prompt, ids, text in zip(prompts, outputs, answers, strict=True)
            ]

        return predict


def draw(name: str, section: TextTask, items: list[TextItem], count: int, seed: int) -> list[TextQuery]:
    """At most `count` queries from `query_split`, in the order of `items`, spread over the contexts in turn.

    A context holds `in_context_examples` items of `support_split`, each of another image; no image of any context is
    ever asked about. Raises UserError if task `name` has too few images.
    """
    examples = section.in_context_examples
    support = [item for item in items if item.image.split == section.support_split]
    contexts = []
    for context in range(section.contexts):
        drawn: dict[str, TextItem] = {}
        for index in rng(seed, name, "examples", context).permutation(len(support)):
            drawn.setdefault(support[index].image.image_id, support[index])
        contexts.append(list(drawn.values())[:examples])
    shown = {item.image.image_id for chosen in contexts for item in chosen}
    asked = [item for item in items if item.image.split == section.query_split and item.image.image_id not in shown]
    if len(contexts[0]) < examples or not asked:
        raise UserError(
            f"`samples.{name}` gives {len(contexts[0])} images for examples in split {section.support_split!r} "
            f"and {len(asked)} queries of others in split {section.query_split!r}",
            f"{examples} images with text and at least one query",
            f"name other splits or fewer `in_context_examples` in `evaluate_llm.{name}`, or enlarge the sample",
        )
    chosen = rng(seed, name, "queries").choice(len(asked), min(count, len(asked)), replace=False)
    return [
        TextQuery(place % section.contexts, contexts[place % section.contexts], asked[index])
        for place, index in enumerate(np.sort(chosen).tolist())
    ]


def _nearest(queries: list[TextQuery]) -> list[dict[str, Any]]:
    """The answer of the example with the largest token overlap."""
    nearest = [token_overlap(query.item.tokens, [item.tokens for item in query.examples]) for query in queries]
    return [_said(query.examples[index].answer) for query, index in zip(queries, nearest, strict=True)]


def _commonest(queries: list[TextQuery]) -> list[dict[str, Any]]:
    """The commonest answer of the examples."""
    return [_said(majority_vote(np.array([[item.answer] for item in query.examples]))[0]) for query in queries]


PREDICTORS: dict[str, TextPredictor] = {"token-overlap": _nearest, "majority-vote": _commonest}


def _said(answer: str) -> dict[str, Any]:
    return {"prompt_ids": [], "output_ids": [], "output": answer, "answer": answer}


def _row(query: TextQuery, found: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_id": query.item.image.image_id,
        "context": query.context,
        "example_images": [item.image.image_id for item in query.examples],
        "example_answers": [item.answer for item in query.examples],
        **found,
        **query.item.columns,
    }
