"""Masked image restoration (paper section 4.3, figure 8): a language model fine-tuned for it fills random gaps."""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from v2l.configuration.slices import StageConfig
from v2l.data.token_table import Tokens
from v2l.io.job_files import Inputs
from v2l.llm.batches import split_blocks
from v2l.llm.code_ids import all_code_ids
from v2l.llm.journal import Journal
from v2l.llm.prompts import MaskedPrompt
from v2l.tasks.evaluation_task import EvaluationTask
from v2l.tasks.restoration_sequences import STEP_SCHEMA, CodeAnswer, step_row
from v2l.tasks.token_maps import image_mask, steps


class GapQuestion(NamedTuple):
    """Which codes stand at `positions`, a gap of the map `seen_L`; `masked_L` are all gaps, filled or not (-1)."""

    name: str
    seen_L: np.ndarray
    masked_L: np.ndarray
    positions: np.ndarray


GapPredictor = Callable[[list[GapQuestion]], list[CodeAnswer]]


class MaskedPrediction(EvaluationTask[range]):
    """Blocks are rows of the tokens. A row of predictions is one gap: masked positions with no visible one between."""

    schema = STEP_SCHEMA

    def __init__(self, config: StageConfig, inputs: Inputs):
        super().__init__(config, inputs)
        self.section, self.tokens = config.evaluate_llm.masked, Tokens.read(inputs["tokens"])
        images, length = self.tokens.local_NL.shape
        masks = [image_mask(length, self.section.mask_share, config.seed, name) for name in self.tokens.image_id]
        self.masked_NL = np.stack(masks)
        self.blocks = split_blocks(range(images), self.section.batch_size)
        self.prompts = sum(len(gaps_of(masked_L)) for masked_L in self.masked_NL)

    def answering(self, journal: Journal) -> Callable[[range], pa.Table]:
        is_baseline = self.source.predictor == "most-frequent-code"
        predict = frequent_predictor if is_baseline else self._language_model(journal)
        return lambda block: filled(self.tokens, self.masked_NL, block, predict)

    def _language_model(self, journal: Journal) -> GapPredictor:
        """A predictor that shows codes to the language model as ids of its vocabulary and takes ids back as codes."""
        from v2l.llm.engine import generate  # seconds to import, which the baselines need not pay
        from v2l.llm.language_model import llm_of
        from v2l.llm.token_budget import TokenBudget

        model, tokenizer, words = llm_of(self.config, self.inputs)
        ids = all_code_ids(self.tokens.tokenizer, words, self.inputs["vocabulary"])
        code_of = {number: code for code, number in enumerate(ids.tolist())}
        prompt, budget = MaskedPrompt(tokenizer), TokenBudget(model)

        def predict(asked: list[GapQuestion]) -> list[CodeAnswer]:
            prompts = [prompt.ids(ids[q.seen_L], q.masked_L, int(q.positions[0])) for q in asked]
            outputs = generate(
                model,
                prompts,
                [len(q.positions) for q in asked],
                self.section.batch_size,
                allowed_ids=ids.tolist(),
                names=[q.name for q in asked],
                remedy=MaskedPrompt.REMEDY,
                journal=journal,
                budget=budget,
            )
            return [CodeAnswer.of_ids(*found, code_of) for found in zip(prompts, outputs, strict=True)]

        return predict


def filled(tokens: Tokens, masked_NL: np.ndarray, block: range, predict: GapPredictor) -> pa.Table:
    """A table of STEP_SCHEMA for the images of `block` (rows of `tokens`): by image, then gap.

    Gaps are filled in the map's order, each one's codes are seen when the next is asked for; the images of a block
    advance together, so that each call of `predict` fills its batches.
    """
    seen_BL = {image: np.where(masked_NL[image], -1, tokens.local_NL[image]) for image in block}
    gaps = {image: gaps_of(masked_NL[image]) for image in block}
    rows: dict[int, list[dict]] = {image: [] for image in block}
    for number in range(max(map(len, gaps.values()))):
        active = [image for image in block if number < len(gaps[image])]
        asked = [
            GapQuestion(
                f"image {tokens.image_id[image]}, gap {number}",
                seen_BL[image].copy(),
                masked_NL[image],
                gaps[image][number],
            )
            for image in active
        ]
        for image, question, answer in zip(active, asked, predict(asked), strict=True):
            positions = question.positions
            seen_BL[image][positions] = answer.codes
            row = step_row("masked", tokens.image_id[image], number, positions, answer, tokens.local_NL[image])
            rows[image].append(row)
    return pa.Table.from_pylist([row for image in block for row in rows[image]], schema=STEP_SCHEMA)


def frequent_predictor(asked: list[GapQuestion]) -> list[CodeAnswer]:
    """The most frequent visible code of the image; of equally frequent ones the first in the map."""
    winners = [Counter(q.seen_L[~q.masked_L].tolist()).most_common(1)[0][0] for q in asked]
    return [CodeAnswer([], [], [code] * len(q.positions)) for code, q in zip(winners, asked, strict=True)]


def gaps_of(masked_L: np.ndarray) -> list[np.ndarray]:
    """Masked positions that follow each other, one gap after the other."""
    return steps(np.flatnonzero(masked_L), len(masked_L))
