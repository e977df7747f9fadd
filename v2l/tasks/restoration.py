"""Image restoration from local tokens (paper section 3.3, table 4): which prompts are asked, and who answers them."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from v2l.configuration.evaluation import Restoration
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import HELD_OUT, RELEASED
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata
from v2l.llm.batches import split_blocks
from v2l.llm.code_ids import code_ids, shown_codes, with_codes
from v2l.llm.journal import Journal
from v2l.llm.prompts import RestorationPrompt
from v2l.tasks.evaluation_task import EvaluationTask
from v2l.tasks.image_corruption import corruption_class, mask_positions
from v2l.tasks.restoration_sequences import (
    STEP_SCHEMA,
    CodeAnswer,
    RestorationQuestion,
    RestorationSequence,
    TokenMaps,
)
from v2l.tasks.simple_predictors import majority_vote
from v2l.tasks.token_maps import image_count, steps

CodePredictor = Callable[[list[RestorationQuestion]], list[CodeAnswer]]


class RestorationPrediction(EvaluationTask[list[str]]):
    """Blocks are image ids that are restored together, in every task of the section."""

    schema = STEP_SCHEMA

    def __init__(self, config: StageConfig, inputs: Inputs):
        super().__init__(config, inputs)
        self.section, protocol = config.evaluate_llm.restoration, self.source.protocol
        clean = Tokens.read(inputs["tokens"])
        codes: dict[tuple[str, str], np.ndarray] = {}
        for corruption in ["none", *(task for task in self.section.tasks if reads_corrupted(task, protocol))]:
            rows = Tokens.read(inputs["tokens"], corruption)
            codes.update(zip([(corruption, image_id) for image_id in rows.image_id], rows.local_NL, strict=True))
        self.tokenizer = clean.tokenizer
        self.shown_C = shown_codes(clean.tokenizer, parquet_metadata(inputs["tokens"])["vocabulary"], codes.values())
        self.maps = TokenMaps(
            protocol=protocol,
            grid=clean.grid,
            codebook_size=len(self.shown_C),
            global_tokens=0 if clean.global_NK is None else clean.global_NK.shape[1],
            image_ids=clean.image_id.tolist()[: image_count(self.section, config.job["tokenizer"], protocol)],
            codes={key: np.searchsorted(self.shown_C, code_L) for key, code_L in codes.items()},
        )
        self.blocks = image_blocks(self.section, self.maps)
        self.prompts = prompts_in(self.section, self.maps)

    def answering(self, journal: Journal) -> Callable[[list[str]], pa.Table]:
        predict = majority_predictor if self.source.predictor == "majority-vote" else self._language_model(journal)

        def answer(block: list[str]) -> pa.Table:
            table = restored(self.section, self.maps, block, predict, self.config.seed)
            return with_codes(table, ("predicted_codes", "target_codes"), self.shown_C)

        return answer

    def _language_model(self, journal: Journal) -> CodePredictor:
        """A predictor that shows codes to the language model as `v2l.llm.code_ids` says and takes ids back as codes."""
        from v2l.llm.engine import generate  # seconds to import, which the baselines need not pay
        from v2l.llm.language_model import llm_of
        from v2l.llm.token_budget import TokenBudget

        section = self.section
        model, tokenizer, words = llm_of(self.config, self.inputs)
        ids = code_ids(self.tokenizer, self.maps.codebook_size, words, self.inputs["vocabulary"])
        restrict = section.restrict_to_codebook
        if restrict is None:
            restrict = self.source.protocol != RELEASED
        if not restrict and len(ids) < words.size:
            raise UserError(
                f"`evaluate_llm.restoration.restrict_to_codebook` is false (as in protocol released), but the local "
                f"codebook of {self.config.job['tokenizer']} has {len(ids)} codes and the language model {words.size} "
                "ids",
                "a code for every id that can be generated",
                "set `evaluate_llm.restoration.restrict_to_codebook` to true",
            )
        named = words.named_ids(model)
        code_of = {number: code for code, number in enumerate(ids.tolist())}
        prompt, budget = RestorationPrompt(tokenizer, section.instruction), TokenBudget(model)

        def predict(asked: list[RestorationQuestion]) -> list[CodeAnswer]:
            counts = [question.answer_SM.shape[1] for question in asked]
            prompts = [
                prompt.ids(
                    zip(ids[question.example_SN].tolist(), ids[question.answer_SM].tolist(), strict=True),
                    ids[question.query_N].tolist(),
                    count,
                )
                for question, count in zip(asked, counts, strict=True)
            ]
            outputs = generate(
                model,
                prompts,
                counts,
                section.batch_size,
                allowed_ids=ids.tolist() if restrict else named,
                names=[question.name for question in asked],
                remedy="lower `context_tokens` or shorten `replacement_shares` in `evaluate_llm.restoration`",
                journal=journal,
                budget=budget,
            )
            return [CodeAnswer.of_ids(*found, code_of) for found in zip(prompts, outputs, strict=True)]

        return predict


def reads_corrupted(task: str, protocol: str) -> bool:
    """Whether prompts of `task` show the tokens of its corrupted images; masked positions need none (paper)."""
    return not corruption_class(task).is_masked or protocol == HELD_OUT


def image_blocks(section: Restoration, maps: TokenMaps) -> list[list[str]]:
    """Image ids that are restored together. Raises UserError for a task without tokens."""
    needed = {task for task in section.tasks if reads_corrupted(task, maps.protocol)}
    missing = sorted(needed - {task for task, _ in maps.codes})
    if missing:
        raise UserError(
            f"the tokens hold no images with corruption {', '.join(missing)}",
            "each task of `evaluate_llm.restoration.tasks`",
            "add it to `samples.restoration.corruptions` or leave the task out",
        )
    return split_blocks(maps.image_ids, section.batch_size, len(section.tasks))


def restored(section: Restoration, maps: TokenMaps, block: list[str], predict: CodePredictor, seed: int) -> pa.Table:
    """A table of STEP_SCHEMA for the images of `block`: by task, then image, then step.

    Steps of one image and task follow each other; all images and tasks of a block advance together, so that each
    call of `predict` fills its batches.
    """
    sequences = [
        RestorationSequence(section, maps, task, image_id, seed) for task in section.tasks for image_id in block
    ]
    for step in range(max(len(sequence.steps) for sequence in sequences)):
        active = [sequence for sequence in sequences if step < len(sequence.steps)]
        answers = predict([sequence.question() for sequence in active])
        for sequence, answer in zip(active, answers, strict=True):
            sequence.take(answer)
    return pa.Table.from_pylist([row for sequence in sequences for row in sequence.rows], schema=STEP_SCHEMA)


def prompts_in(section: Restoration, maps: TokenMaps) -> int:
    """How many questions `restored` will ask."""
    lengths = [len(steps(mask_positions(task, maps.grid), section.predicted_tokens)) for task in section.tasks]
    return sum(lengths) * len(maps.image_ids)


def majority_predictor(asked: list[RestorationQuestion]) -> list[CodeAnswer]:
    """The most frequent code of the examples' outputs at each position."""
    return [CodeAnswer([], [], majority_vote(question.answer_SM)) for question in asked]
