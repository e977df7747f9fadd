"""Image restoration from local tokens (paper section 3.3, table 4): which prompts are asked, in which order."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from v2l.configuration.evaluation import Restoration
from v2l.configuration.protocols import HELD_OUT, RELEASED
from v2l.configuration.slices import StageConfig
from v2l.data.token_table import Tokens
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_facts
from v2l.llm.code_ids import code_ids, shown_codes, with_codes
from v2l.llm.engine import generate
from v2l.llm.journal import Progress
from v2l.llm.language_model import llm_of
from v2l.llm.prompts import RestorationPrompt
from v2l.runtime import rng
from v2l.tasks.baselines import majority_vote
from v2l.tasks.token_maps import MASKED_TASKS, context, image_count, mask_positions, noisy_variants, steps

SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("image_id", pa.string()),
        ("start", pa.int32()),
        ("positions", pa.list_(pa.int32())),
        ("prompt_ids", pa.list_(pa.int32())),
        ("output_ids", pa.list_(pa.int32())),
        ("predicted_codes", pa.list_(pa.int32())),
        ("target_codes", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class Question:
    """One prompt in codes: S examples (most corrupted first) of input and output, and the input that is asked about."""

    name: str
    example_SN: np.ndarray
    answer_SM: np.ndarray
    query_N: np.ndarray


@dataclass(frozen=True)
class Answer:
    """Predicted codes; the ids are empty without a language model."""

    prompt_ids: list[int]
    output_ids: list[int]
    codes: list[int]


Predictor = Callable[[list[Question]], list[Answer]]


@dataclass(frozen=True)
class TokenMaps:
    """Local codes (row-major) of images: `codes[corruption, image_id]` of a `grid` = (h, w).

    Codes are indices into those that prompts may hold (`v2l.llm.code_ids.shown_codes`), `codebook_size` of them.
    `image_ids` are restored; `codes` holds the whole sample, whose other images are examples in protocol held-out.
    """

    protocol: str
    grid: tuple[int, int]
    codebook_size: int
    global_tokens: int  # per image, beside the local ones
    image_ids: list[str]
    codes: dict[tuple[str, str], np.ndarray]


def reads(task: str, protocol: str) -> bool:
    """Whether prompts of `task` show the tokens of its corrupted images; masked positions need none (paper)."""
    return task not in MASKED_TASKS or protocol == HELD_OUT


def prepare(config: StageConfig, inputs: Inputs) -> tuple[pa.Schema, Callable[[Progress], Iterator[pa.Table]], int]:
    """The table's schema, a function that yields its tables while it moves the progress bar, and the prompts in all."""
    section, protocol = config.evaluate_llm.restoration, config.job["protocol"]
    clean = Tokens.read(inputs["tokens"])
    codes = {}
    for corruption in ["none", *(task for task in section.tasks if reads(task, protocol))]:
        rows = Tokens.read(inputs["tokens"], corruption)
        codes.update(zip([(corruption, image_id) for image_id in rows.image_id], rows.local_NL, strict=True))
    shown_C = shown_codes(clean.tokenizer, parquet_facts(inputs["tokens"])["vocabulary"], codes.values())
    maps = TokenMaps(
        protocol=protocol,
        grid=clean.grid,
        codebook_size=len(shown_C),
        global_tokens=0 if clean.global_NK is None else clean.global_NK.shape[1],
        image_ids=clean.image_id.tolist()[: image_count(section, config.job["tokenizer"], protocol)],
        codes={key: np.searchsorted(shown_C, code_L) for key, code_L in codes.items()},
    )

    def tables(progress: Progress):
        answer = majority_predictor
        if config.job["predictor"] != "majority-vote":
            answer = _llm_predictor(config, inputs, clean.tokenizer, maps, progress)
        for block in progress.mine(blocks(section, maps)):
            table = predict(section, maps, block, answer, config.seed)
            yield with_codes(table, ("predicted_codes", "target_codes"), shown_C)

    return SCHEMA, tables, prompts_in(section, maps)


def _llm_predictor(config: StageConfig, inputs: Inputs, facts: dict, maps: TokenMaps, progress: Progress) -> Predictor:
    """A predictor that shows codes to the language model as `v2l.llm.code_ids` says and takes ids back as codes."""
    section = config.evaluate_llm.restoration
    model, tokenizer, words = llm_of(config, inputs)
    ids = code_ids(facts, maps.codebook_size, words, inputs["vocabulary"])
    restrict = section.restrict_to_codebook
    if restrict is None:
        restrict = maps.protocol != RELEASED
    if not restrict and len(ids) < words.size:
        raise UserError(
            f"`evaluate_llm.restoration.restrict_to_codebook` is false (as in protocol released), but the local "
            f"codebook of {config.job['tokenizer']} has {len(ids)} codes and the language model {words.size} ids",
            "a code for every id that can be generated",
            "set `evaluate_llm.restoration.restrict_to_codebook` to true",
        )
    code_of = {number: code for code, number in enumerate(ids.tolist())}
    prompt = RestorationPrompt(tokenizer, section.instruction)

    def predict_step(questions: list[Question]) -> list[Answer]:
        counts = [question.answer_SM.shape[1] for question in questions]
        prompts = [
            prompt.ids(
                zip(ids[question.example_SN].tolist(), ids[question.answer_SM].tolist(), strict=True),
                ids[question.query_N].tolist(),
                count,
            )
            for question, count in zip(questions, counts, strict=True)
        ]
        outputs = generate(
            model,
            prompts,
            counts,
            section.batch_size,
            allowed_ids=ids.tolist() if restrict else None,
            names=[question.name for question in questions],
            remedy="lower `context_tokens` or shorten `replacement_shares` in `evaluate_llm.restoration`",
            progress=progress,
        )
        return [
            Answer(shown, made, [code_of[number] for number in made])
            for shown, made in zip(prompts, outputs, strict=True)
        ]

    return predict_step


class _Sequence:
    """The steps of one image and task. Predictions are fed back where later steps see them (masked tasks).

    Examples are the image's own map or, in protocol held-out, the maps of other images, one for each share.
    """

    def __init__(self, section: Restoration, maps: TokenMaps, task: str, image_id: str, seed: int):
        self.section, self.maps, self.task, self.image_id = section, maps, task, image_id
        masked, held_out = task in MASKED_TASKS, maps.protocol == HELD_OUT
        self.clean_L = maps.codes["none", image_id]
        self.seen_L = maps.codes["none" if masked and not held_out else task, image_id].copy()
        positions = mask_positions(task, maps.grid)
        if masked:
            self.seen_L[positions] = -1
        self.steps = steps(positions, section.predicted_tokens)
        shares, noise = section.replacement_shares, rng(seed, "restoration", task, image_id)
        shown = _others(maps, image_id, len(shares), seed) if held_out else [image_id]
        source_IML = np.stack(
            [[maps.codes["none", name], maps.codes["none" if masked else task, name]] for name in shown]
        )
        further = maps.global_tokens if maps.protocol == RELEASED else 0
        arguments = (maps.codebook_size, noise, further)
        if held_out:
            pairs = zip(source_IML, shares, strict=True)
            self.variant_SML = np.concatenate([noisy_variants(codes, [share], *arguments) for codes, share in pairs])
        else:
            self.variant_SML = noisy_variants(source_IML[0], shares, *arguments)
        self.rows: list[dict] = []

    def question(self) -> Question:
        step = self.steps[len(self.rows)]
        shown = context(self.task, step, self.section.context_tokens, self.maps.protocol)
        return Question(
            name=f"{self.task} of {self.image_id}, step {len(self.rows)}",
            example_SN=self.variant_SML[:, 1, shown],
            answer_SM=self.variant_SML[:, 0, step],
            query_N=self.seen_L[shown],
        )

    def take(self, answer: Answer) -> None:
        step = self.steps[len(self.rows)]
        if self.task in MASKED_TASKS:
            self.seen_L[step] = answer.codes
        self.rows.append(
            {
                "task": self.task,
                "image_id": self.image_id,
                "start": len(self.rows),
                "positions": step,
                "prompt_ids": answer.prompt_ids,
                "output_ids": answer.output_ids,
                "predicted_codes": answer.codes,
                "target_codes": self.clean_L[step],
            }
        )


def _others(maps: TokenMaps, image_id: str, count: int, seed: int) -> list[str]:
    """`count` images other than `image_id`, drawn with the seed; each is taken once before one comes again."""
    others = [name for corruption, name in maps.codes if corruption == "none" and name != image_id]
    if not others:
        raise UserError(
            "protocol held-out takes its examples from other images, and the sample has one",
            "at least two images",
            "raise `samples.restoration.images` or leave the protocol out of `evaluate_llm.restoration.protocols`",
        )
    order = rng(seed, "held-out", image_id).permutation(len(others))
    return [others[order[number % len(others)]] for number in range(count)]


def blocks(section: Restoration, maps: TokenMaps) -> list[list[str]]:
    """Image ids that are restored together, `batch_size` of them. Raises UserError for a task without tokens."""
    needed = {task for task in section.tasks if reads(task, maps.protocol)}
    missing = sorted(needed - {task for task, _ in maps.codes})
    if missing:
        raise UserError(
            f"the tokens hold no images with corruption {', '.join(missing)}",
            "each task of `evaluate_llm.restoration.tasks`",
            "add it to `samples.restoration.corruptions` or leave the task out",
        )
    starts = range(0, len(maps.image_ids), section.batch_size)
    return [maps.image_ids[start : start + section.batch_size] for start in starts]


def predict(section: Restoration, maps: TokenMaps, block: list[str], predictor: Predictor, seed: int) -> pa.Table:
    """A table of SCHEMA for the images of `block`: by task, then image, then step.

    Steps of one image and task follow each other; all images and tasks of a block advance together, so that each
    call of `predictor` fills its batches.
    """
    sequences = [_Sequence(section, maps, task, image_id, seed) for task in section.tasks for image_id in block]
    for step in range(max(len(sequence.steps) for sequence in sequences)):
        active = [sequence for sequence in sequences if step < len(sequence.steps)]
        answers = predictor([sequence.question() for sequence in active])
        for sequence, answer in zip(active, answers, strict=True):
            sequence.take(answer)
    return pa.Table.from_pylist([row for sequence in sequences for row in sequence.rows], schema=SCHEMA)


def prompts_in(section: Restoration, maps: TokenMaps) -> int:
    """How many questions `predict` will ask."""
    lengths = [len(steps(mask_positions(task, maps.grid), section.predicted_tokens)) for task in section.tasks]
    return sum(lengths) * len(maps.image_ids)


def majority_predictor(questions: list[Question]) -> list[Answer]:
    """The most frequent code of the examples' outputs at each position."""
    return [Answer([], [], majority_vote(question.answer_SM)) for question in questions]
