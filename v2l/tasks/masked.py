"""Masked image restoration (paper section 4.3, figure 8): a language model fine-tuned for it fills random gaps."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from v2l.configuration.slices import StageConfig
from v2l.data.token_table import Tokens
from v2l.io.job_files import Inputs
from v2l.llm.code_ids import all_code_ids
from v2l.llm.engine import generate
from v2l.llm.journal import Progress
from v2l.llm.language_model import llm_of
from v2l.llm.prompts import MaskedPrompt
from v2l.tasks.restoration import SCHEMA, Answer
from v2l.tasks.token_maps import image_mask, steps


class Question(NamedTuple):
    """Which codes stand at `positions`, a gap of the map `seen_L`; `masked_L` are all gaps, filled or not (-1)."""

    name: str
    seen_L: np.ndarray
    masked_L: np.ndarray
    positions: np.ndarray


Predictor = Callable[[list[Question]], list[Answer]]


def prepare(config: StageConfig, inputs: Inputs) -> tuple[pa.Schema, Callable[[Progress], Iterator[pa.Table]], int]:
    """The table's schema, a function that yields its tables while it moves the progress bar, and the prompts in all.

    A row is one gap: masked positions that follow each other without a visible one between them.
    """
    section, tokens = config.evaluate_llm.masked, Tokens.read(inputs["tokens"])
    length = tokens.local_NL.shape[1]
    masked_NL = np.stack([image_mask(length, section.mask_share, config.seed, name) for name in tokens.image_id])

    starts = range(0, len(masked_NL), section.batch_size)
    blocks = [range(start, min(start + section.batch_size, len(masked_NL))) for start in starts]

    def tables(progress: Progress) -> Iterator[pa.Table]:
        answer = frequent_predictor
        if config.job["predictor"] != "most-frequent-code":
            answer = _llm_predictor(config, inputs, tokens, progress)
        right = count = 0
        for block in progress.mine(blocks):
            table = predict(tokens, masked_NL, block, answer)
            predicted, target = (table[name].combine_chunks().flatten() for name in ("predicted_codes", "target_codes"))
            right, count = right + pc.sum(pc.equal(predicted, target)).as_py(), count + len(target)
            yield table
        logging.info("masked: %d of %d masked tokens are the image's own", right, count)

    return SCHEMA, tables, sum(len(_gaps(masked_L)) for masked_L in masked_NL)


def predict(tokens: Tokens, masked_NL: np.ndarray, block: range, predictor: Predictor) -> pa.Table:
    """A table of SCHEMA for the images of `block` (rows of `tokens`): by image, then gap.

    Gaps are filled in the map's order, each one's codes are seen when the next is asked for; the images of a block
    advance together, so that each call of `predictor` fills its batches.
    """
    seen_BL = {image: np.where(masked_NL[image], -1, tokens.local_NL[image]) for image in block}
    gaps = {image: _gaps(masked_NL[image]) for image in block}
    rows: dict[int, list[dict]] = {image: [] for image in block}
    for number in range(max(map(len, gaps.values()))):
        active = [image for image in block if number < len(gaps[image])]
        questions = [
            Question(
                f"image {tokens.image_id[image]}, gap {number}",
                seen_BL[image].copy(),
                masked_NL[image],
                gaps[image][number],
            )
            for image in active
        ]
        for image, question, answer in zip(active, questions, predictor(questions), strict=True):
            seen_BL[image][question.positions] = answer.codes
            rows[image].append(
                {
                    "task": "masked",
                    "image_id": tokens.image_id[image],
                    "start": number,
                    "positions": question.positions,
                    "prompt_ids": answer.prompt_ids,
                    "output_ids": answer.output_ids,
                    "predicted_codes": answer.codes,
                    "target_codes": tokens.local_NL[image][question.positions],
                }
            )
    return pa.Table.from_pylist([row for image in block for row in rows[image]], schema=SCHEMA)


def frequent_predictor(questions: list[Question]) -> list[Answer]:
    """The most frequent visible code of the image; of equally frequent ones the first in the map."""
    winners = [Counter(q.seen_L[~q.masked_L].tolist()).most_common(1)[0][0] for q in questions]
    return [Answer([], [], [code] * len(q.positions)) for code, q in zip(winners, questions, strict=True)]


def _llm_predictor(config: StageConfig, inputs: Inputs, tokens: Tokens, progress: Progress) -> Predictor:
    """A predictor that shows codes to the language model as ids of its vocabulary and takes ids back as codes."""
    section = config.evaluate_llm.masked
    model, tokenizer, words = llm_of(config, inputs)
    ids = all_code_ids(tokens.tokenizer, words, inputs["vocabulary"])
    code_of = {number: code for code, number in enumerate(ids.tolist())}
    prompt = MaskedPrompt(tokenizer)

    def predict_gaps(questions: list[Question]) -> list[Answer]:
        prompts = [prompt.ids(ids[q.seen_L], q.masked_L, int(q.positions[0])) for q in questions]
        outputs = generate(
            model,
            prompts,
            [len(q.positions) for q in questions],
            section.batch_size,
            allowed_ids=ids.tolist(),
            names=[q.name for q in questions],
            remedy=MaskedPrompt.REMEDY,
            progress=progress,
        )
        return [
            Answer(shown, made, [code_of[number] for number in made])
            for shown, made in zip(prompts, outputs, strict=True)
        ]

    return predict_gaps


def _gaps(masked_L: np.ndarray) -> list[np.ndarray]:
    return steps(np.flatnonzero(masked_L), len(masked_L))
