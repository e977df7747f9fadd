"""The steps in which one image is restored: what each prompt shows, and where its answer goes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from v2l.configuration.evaluation import Restoration
from v2l.configuration.sources import HELD_OUT, RELEASED
from v2l.errors import UserError
from v2l.runtime import rng
from v2l.tasks.image_corruption import corruption_class, mask_positions
from v2l.tasks.token_maps import context, noisy_variants, steps

STEP_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("image_id", pa.string()),
        ("step", pa.int32()),
        ("positions", pa.list_(pa.int32())),
        ("prompt_ids", pa.list_(pa.int32())),
        ("output_ids", pa.list_(pa.int32())),
        ("predicted_codes", pa.list_(pa.int32())),
        ("target_codes", pa.list_(pa.int32())),
    ]
)


@dataclass(frozen=True)
class RestorationQuestion:
    """One prompt in codes: S examples (most corrupted first) of input and output, and the input that is asked about."""

    name: str
    example_SN: np.ndarray
    answer_SM: np.ndarray
    query_N: np.ndarray


@dataclass(frozen=True)
class CodeAnswer:
    """Predicted codes; the ids are empty without a language model."""

    prompt_ids: list[int]
    output_ids: list[int]
    codes: list[int]

    @classmethod
    def of_ids(cls, prompt: list[int], output: list[int], code_of: dict[int, int]) -> "CodeAnswer":
        """The answer that a language model gave in ids, each of which stands for a code."""
        return cls(prompt, output, [code_of[number] for number in output])


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


class RestorationSequence:
    """The steps of one image and task. Predictions are fed back where later steps see them (masked tasks).

    Examples are the image's own map or, in protocol held-out, the maps of other images, one for each share.
    """

    def __init__(self, section: Restoration, maps: TokenMaps, task: str, image_id: str, seed: int):
        self.section, self.maps, self.task, self.image_id = section, maps, task, image_id
        self.is_masked = masked = corruption_class(task).is_masked
        held_out = maps.protocol == HELD_OUT
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

    def question(self) -> RestorationQuestion:
        """What is asked next."""
        step = self.steps[len(self.rows)]
        shown = context(self.is_masked, step, self.section.context_tokens, self.maps.protocol)
        return RestorationQuestion(
            name=f"{self.task} of {self.image_id}, step {len(self.rows)}",
            example_SN=self.variant_SML[:, 1, shown],
            answer_SM=self.variant_SML[:, 0, step],
            query_N=self.seen_L[shown],
        )

    def take(self, answer: CodeAnswer) -> None:
        """Keep the answer to `question`."""
        step = self.steps[len(self.rows)]
        if self.is_masked:
            self.seen_L[step] = answer.codes
        row = step_row(self.task, self.image_id, len(self.rows), step, answer, self.clean_L)
        self.rows.append(row)


def step_row(
    task: str, image_id: str, number: int, positions: np.ndarray, answer: CodeAnswer, clean_L: np.ndarray
) -> dict[str, Any]:
    """A row of predictions: what was answered for `positions` of the map `clean_L`."""
    return {
        "task": task,
        "image_id": image_id,
        "step": number,
        "positions": positions,
        "prompt_ids": answer.prompt_ids,
        "output_ids": answer.output_ids,
        "predicted_codes": answer.codes,
        "target_codes": clean_L[positions],
    }


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
