"""What the tasks that are answered in text share: drawn examples and queries, prompts, and who answers them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from v2l.configuration.evaluation import TextTask
from v2l.configuration.slices import StageConfig
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens, read_words
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.llm.batches import split_blocks
from v2l.llm.engine import generate
from v2l.llm.journal import Progress
from v2l.llm.language_model import llm_of
from v2l.llm.prompts import answer_of, join_words, text_prompt
from v2l.runtime import rng
from v2l.tasks.baselines import majority_vote, token_overlap

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
class Image:
    """An image of the sample as the language model sees it."""

    image_id: str
    split: str
    codes: list[int]  # nearest first
    words: str


@dataclass(frozen=True)
class Item:
    """What can be asked, or shown as an example with `answer`."""

    name: str  # for messages
    image: Image
    heading: str  # the prompt's text before the answer
    answer: str
    tokens: frozenset  # what token-overlap compares
    columns: dict[str, Any]  # the task's own


@dataclass(frozen=True)
class Query:
    """An item that is asked after the examples of a context."""

    context: int
    examples: list[Item]
    item: Item


@dataclass(frozen=True)
class Task:
    """A task of section `evaluate_llm.<name>`: an answer ends at the first of the characters `marks`."""

    name: str
    instruction: str
    marks: str
    section: TextTask


def read_images(config: StageConfig, inputs: Inputs, task: Task) -> list[Image]:
    """The sample's images, each with its nearest global codes. Raises UserError if there are too few of them."""
    tokens, wanted = Tokens.read(inputs["tokens"]), task.section.tokens
    there = 0 if tokens.read_NK is None else tokens.read_NK.shape[1]
    if wanted > there:
        raise UserError(
            f"`evaluate_llm.{task.name}.tokens` is {wanted}, tokenizer {config.job['tokenizer']} made {there} codes "
            "with words of each image",
            f"at most {there}" if there else "a tokenizer whose codes stand for words",
            "lower it, raise `train_tokenizer.global_tokens`, or choose other `tokenizers` for the task",
        )
    manifest, texts = Manifest.read(inputs["manifest"]), read_words(inputs["words"])
    splits = manifest.split[manifest.rows_of(tokens.image_id.tolist())]
    return [
        Image(image_id, split, codes, join_words(texts[code] for code in codes))
        for image_id, split, codes in zip(tokens.image_id, splits, tokens.read_NK[:, :wanted].tolist(), strict=True)
    ]


def draw(task: Task, items: list[Item], count: int, seed: int) -> list[Query]:
    """At most `count` queries from `query_split`, in the order of `items`, spread over the contexts in turn.

    A context holds `in_context_examples` items of `support_split`, each of another image; no image of any context is
    ever asked about. Raises UserError if there are too few images.
    """
    section, examples = task.section, task.section.in_context_examples
    support = [item for item in items if item.image.split == section.support_split]
    contexts = []
    for context in range(section.contexts):
        drawn: dict[str, Item] = {}
        for index in rng(seed, task.name, "examples", context).permutation(len(support)):
            drawn.setdefault(support[index].image.image_id, support[index])
        contexts.append(list(drawn.values())[:examples])
    shown = {item.image.image_id for chosen in contexts for item in chosen}
    asked = [item for item in items if item.image.split == section.query_split and item.image.image_id not in shown]
    if len(contexts[0]) < examples or not asked:
        raise UserError(
            f"`samples.{task.name}` gives {len(contexts[0])} images for examples in split {section.support_split!r} "
            f"and {len(asked)} queries of others in split {section.query_split!r}",
            f"{examples} images with text and at least one query",
            f"name other splits or fewer `in_context_examples` in `evaluate_llm.{task.name}`, or enlarge the sample",
        )
    chosen = rng(seed, task.name, "queries").choice(len(asked), min(count, len(asked)), replace=False)
    return [
        Query(place % section.contexts, contexts[place % section.contexts], asked[index])
        for place, index in enumerate(np.sort(chosen).tolist())
    ]


def prepare(config: StageConfig, inputs: Inputs, task: Task, queries: list[Query], columns: list[tuple]):
    """Schema, `tables(progress)` and number of rows of the predictions of `job.predictor`, a table for each block."""
    schema = pa.schema([*COLUMNS, *columns])
    blocks = []
    for context in range(task.section.contexts):
        blocks += split_blocks([query for query in queries if query.context == context], task.section.batch_size)

    def tables(progress: Progress) -> Iterator[pa.Table]:
        answer = PREDICTORS.get(config.job["predictor"]) or _language_model(config, inputs, task, progress)
        for asked in progress.mine(blocks):
            rows = [_row(query, found) for query, found in zip(asked, answer(asked), strict=True)]
            yield pa.Table.from_pylist(rows, schema=schema)

    return schema, tables, len(queries)


def _language_model(config: StageConfig, inputs: Inputs, task: Task, progress: Progress) -> Callable:
    section = task.section
    model, tokenizer, words = llm_of(config, inputs)

    def answer(queries: list[Query]) -> list[dict]:
        prompts = []
        for query in queries:
            examples = [(item.heading, item.answer) for item in query.examples]
            prompts.append(tokenizer(text_prompt(task.instruction, examples, query.item.heading)).input_ids)
        outputs = generate(
            model,
            prompts,
            section.max_new_tokens,
            section.batch_size,
            stop_ids=words.stops(task.marks),
            names=[f"{query.item.name} (with {len(query.examples)} examples)" for query in queries],
            remedy=f"lower `tokens` or `in_context_examples` in `evaluate_llm.{task.name}`",
            progress=progress,
        )
        texts = [tokenizer.decode([number for number in ids if number not in words.control]) for ids in outputs]
        return [
            {"prompt_ids": prompt, "output_ids": ids, "output": text, "answer": answer_of(text, task.marks)}
            for prompt, ids, text in zip(prompts, outputs, texts, strict=True)
        ]

    return answer


def _nearest(queries: list[Query]) -> list[dict]:
    """The answer of the example with the largest token overlap."""
    nearest = [token_overlap(query.item.tokens, [item.tokens for item in query.examples]) for query in queries]
    return [_said(query.examples[index].answer) for query, index in zip(queries, nearest, strict=True)]


def _commonest(queries: list[Query]) -> list[dict]:
    """The commonest answer of the examples."""
    return [_said(majority_vote(np.array([[item.answer] for item in query.examples]))[0]) for query in queries]


PREDICTORS = {"token-overlap": _nearest, "majority-vote": _commonest}


def _said(answer: str) -> dict:
    return {"prompt_ids": [], "output_ids": [], "output": answer, "answer": answer}


def _row(query: Query, found: dict) -> dict:
    return {
        "image_id": query.item.image.image_id,
        "context": query.context,
        "example_images": [item.image.image_id for item in query.examples],
        "example_answers": [item.answer for item in query.examples],
        **found,
        **query.item.columns,
    }
