"""Restoring a picture's codes with any language model of their vocabulary (paper section 3.3, table 4)."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch

from v2l.configuration.evaluation import Restoration
from v2l.configuration.sources import HELD_OUT
from v2l.errors import UserError
from v2l.library.image_codes import ImageCodes
from v2l.llm.prompts import RestorationPrompt
from v2l.llm.vocabulary import Vocabulary
from v2l.tasks.image_corruption import corruption_class, mask_positions
from v2l.tasks.restoration_sequences import CodeAnswer, RestorationSequence, TokenMaps
from v2l.tasks.token_maps import assemble

if TYPE_CHECKING:
    import transformers


class RestorationStep(NamedTuple):
    """One prompt: its token ids, and how many ids the answer has."""

    prompt_ids: list[int]
    answer_length: int


class ImageRestoration:
    """The prompts that restore one picture, one after the other: `step`, then `take` the answer, until `step` is None.

    The examples of a prompt are noised copies of the picture's own codes (protocol paper) or codes of the other
    pictures (held-out). `allowed_ids` are the ids that stand for codes: generate no others.
    """

    def __init__(
        self,
        tokenizer: transformers.PreTrainedTokenizerBase,
        clean: ImageCodes,
        task: str,
        *,
        corrupted: ImageCodes | None = None,
        image: int = 0,
        protocol: Literal["paper", "held-out"] = "paper",
        context_tokens: int = 16,
        predicted_tokens: int = 2,
        seed: int = 0,
    ):
        """`tokenizer`: the language model's. `clean`: codes of pictures, of which `image` (an index) is restored.

        `task`: inpainting and outpainting hide codes of the clean picture; deblurring, shift, rotation and all tasks in
        protocol held-out read those of the `corrupted` pictures, in the order of `clean`. `context_tokens` and
        `predicted_tokens` are the paper's n and m. Raises UserError for another vocabulary, an unknown task, and codes
        that are missing or do not fit.
        """
        self._clean, self._image, self._task = clean, image, task
        ids = _code_ids(tokenizer, clean)
        self._ids, self.allowed_ids = np.array(ids), sorted(ids)
        self._code_of = {number: code for code, number in enumerate(ids)}
        if not 0 <= image < len(clean):
            raise UserError(f"`image` is {image}", f"0..{len(clean) - 1}, the pictures of `clean`", "name one of them")
        codes = {("none", str(place)): map_L for place, map_L in enumerate(_maps(clean))}
        if not corruption_class(task).is_masked or protocol == HELD_OUT:
            if corrupted is None or corrupted.local_ids.shape != clean.local_ids.shape:
                raise UserError(
                    f"`corrupted` is not given, or not as many pictures as `clean` ({len(clean)})",
                    f"codes of the corrupted pictures, which {task} in protocol {protocol} reads",
                    "encode them with the same tokenizer",
                )
            codes |= {(task, str(place)): map_L for place, map_L in enumerate(_maps(corrupted))}
        grid = (clean.local_ids.shape[1], clean.local_ids.shape[2])
        maps = TokenMaps(protocol, grid, len(ids), 0, [str(image)], codes)
        section = Restoration(llms=[], tokenizers=[], context_tokens=context_tokens, predicted_tokens=predicted_tokens)
        self._sequence = RestorationSequence(section, maps, task, str(image), seed)
        self._prompt = RestorationPrompt(tokenizer, section.instruction)
        self._given = corrupted if protocol == HELD_OUT and corrupted is not None else clean

    def step(self) -> RestorationStep | None:
        """The prompt that is to be answered next; None when the picture is restored."""
        if len(self._sequence.rows) == len(self._sequence.steps):
            return None
        question = self._sequence.question()
        count = question.answer_SM.shape[1]
        shown, answers = self._ids[question.example_SN].tolist(), self._ids[question.answer_SM].tolist()
        examples = zip(shown, answers, strict=True)
        return RestorationStep(self._prompt.ids(examples, self._ids[question.query_N].tolist(), count), count)

    def take(self, output_ids: Sequence[int]) -> None:
        """The ids that the language model gave for `step`. Raises UserError for too many or few, and for no codes."""
        asked = self.step()
        if asked is None:
            raise UserError("the picture is restored already", "no further answer", "read `codes`")
        strange = [number for number in output_ids if number not in self._code_of]
        if len(output_ids) != asked.answer_length or strange:
            found = f"{len(output_ids)} ids, of which {len(strange)} stand for no code"
            raise UserError(
                f"the answer has {found}", f"{asked.answer_length} of `allowed_ids`", "generate these alone"
            )
        self._sequence.take(CodeAnswer.of_ids(asked.prompt_ids, list(output_ids), self._code_of))

    @property
    def codes(self) -> ImageCodes:
        """The restored picture's codes, for `decode`. Raises UserError before the last answer."""
        if self.step() is not None:
            left = len(self._sequence.steps) - len(self._sequence.rows)
            raise UserError(f"{left} prompts are not answered", "an answer to each", "go on with `step` and `take`")
        positions = mask_positions(self._task, self._sequence.maps.grid)
        rows = [(row["positions"], row["predicted_codes"]) for row in self._sequence.rows]
        given = self._given[self._image : self._image + 1]
        map_L = assemble(_maps(given)[0], positions, rows, len(self._ids))
        return replace(given, local_ids=torch.from_numpy(map_L).view(given.local_ids.shape))


def _code_ids(tokenizer: transformers.PreTrainedTokenizerBase, codes: ImageCodes) -> list[int]:
    """The language model's id that shows each local code (`v2l.llm.code_ids`)."""
    words, made_by, vocabulary = Vocabulary(tokenizer), codes.tokenizer, codes.vocabulary
    if made_by["shown_as"] == "subword":
        said = dict(vocabulary.language_model)
        words.require(str(tokenizer.name_or_path), said, f"tokenizer {made_by['name']}")
        return vocabulary.subword_ids
    size = made_by["codebooks"]["local_size"]
    ids = [number for number, _ in words.subwords()[:size]]
    if len(ids) < size:
        raise UserError(
            f"tokenizer {made_by['name']} has {size} local codes, the language model {len(ids)} ordinary tokens",
            "an ordinary token for every code",
            "take a language model with more tokens",
        )
    return ids


def _maps(codes: ImageCodes) -> np.ndarray:
    return codes.local_ids.flatten(1).numpy()
