"""Prompts of the tasks: classification, captions and answers as text, restoration as spliced token ids."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from v2l.errors import UserError
from v2l.llm.text_ids import TextIds

if TYPE_CHECKING:
    import transformers

SEPARATOR = ", "


def join_words(texts: Iterable[str], separator: str = SEPARATOR) -> str:
    """Global tokens as one text, nearest first (released: without separator)."""
    return separator.join(text.strip() for text in texts)


def released_name(name: str) -> str:
    """A class name as the released code has it, which takes it from ImageNet's list of synsets."""
    return name.replace(" ", "_")


def classification_prompt(
    class_names: Sequence[str],
    support: Sequence[tuple[str, str]],
    query: str,
    induction: bool,
    repeats: int,
    released: bool = False,
) -> str:
    """The text that asks for the class of `query`, the joined words of an image.

    `support` holds (joined words, class name) of the in-context examples, shown `repeats` + 1 times as a block. Task
    induction is a sentence before them that lists the class names alphabetically. Example layout as released.
    With `released` the list has that code's brackets, one of them for each class, and the prompt ends in a space.
    """
    names = sorted(class_names)
    listed = " or ".join(f"['{name}'" for name in names) + "]" if released else ", ".join(names)
    head = f"Each list of words describes a picture. Name what it shows: {listed}.\n" if induction else ""
    examples = "".join(_example(words) + f" {name}\n" for words, name in support)
    return head + examples * (repeats + 1) + _example(query) + (" " if released else "")


def caption_heading(words: str) -> str:
    """What stands before the caption of an image, given as its joined words (paper section 3.3)."""
    return f"Input: {words}, output:"


def question_heading(words: str, question: str) -> str:
    """What stands before the answer to a question about an image (paper section 3.3)."""
    return f"Condition: {words}. Question: {question} Answer:"


def text_prompt(instruction: str, examples: Iterable[tuple[str, str]], query: str) -> str:
    """The text that asks for what follows heading `query`; `examples` are (heading, answer), a line each.

    The paper names an instruction without its words; both are ours.
    """
    lines = [instruction, *(f"{heading} {answer}" for heading, answer in examples), query]
    return "\n".join(lines)


def answer_of(output: str, marks: str = "\n") -> str:
    """What a generated text answers: everything up to the first of the characters `marks`, stripped."""
    return min((output.partition(mark)[0] for mark in marks), key=len).strip()


def _example(words: str) -> str:
    return f"###\nInput: < {words} >\nOutput:"


def instruction_text(instruction: str, count: int) -> str:
    """The instruction with `count` in place of {count}; other braces stand as they are."""
    return instruction.replace("{count}", str(count))


class RestorationPrompt:
    """Prompts whose examples are token ids, spliced between the pieces of text without tokenising anything twice.

    Paper section 3.3: an instruction, ten times "Input: ids, output: ids", then the input whose output is asked for.
    """

    def __init__(self, tokenizer: transformers.PreTrainedTokenizerBase, instruction: str):
        self._texts, self._instruction = TextIds(tokenizer), instruction
        self._input, self._output, self._end = map(self._texts.further, ("Input:", ", output:", "\n"))

    def ids(
        self, examples: Iterable[tuple[Sequence[int], Sequence[int]]], query: Sequence[int], count: int
    ) -> list[int]:
        """Ids of the prompt that asks for `count` tokens after `query`; `examples` are (input ids, output ids)."""
        prompt = self._texts.first(instruction_text(self._instruction, count))
        for shown, answer in examples:
            prompt += [*self._input, *shown, *self._output, *answer, *self._end]
        return [*prompt, *self._input, *query, *self._output]


class MaskedPrompt:
    """Prompts of masked restoration: a token map with gaps, then the whole map up to the tokens that are asked for.

    Nothing of the layout is known from the paper. Each gap is the model's unknown token or, without one, another that
    stands for no word, so that the second map can be read off the first wherever nothing is missing.
    """

    REMEDY = "take a language model with a longer context, or lower `train_tokenizer.network.image_size`"

    def __init__(self, tokenizer: transformers.PreTrainedTokenizerBase):
        texts = TextIds(tokenizer)
        self._head, self._middle = texts.first("Picture with gaps:"), texts.further("\nPicture:")
        self._gap = _gap_id(tokenizer)

    def ids(self, map_L: np.ndarray, masked_L: np.ndarray, end: int) -> list[int]:
        """Ids of the prompt that asks for what follows the first `end` ids of the map `map_L` (ids, row-major).

        `masked_L` says which positions are gaps; `map_L` holds what was predicted there so far.
        """
        shown_L = np.where(masked_L, self._gap, map_L)
        return [*self._head, *shown_L.tolist(), *self._middle, *map_L[:end].tolist()]


def _gap_id(tokenizer: transformers.PreTrainedTokenizerBase) -> int:
    """The unknown token, else the one that ends, pads, masks, separates or begins, else the last special one.

    Raises UserError for a tokenizer without any special token.
    """
    named = ("unk", "eos", "pad", "mask", "sep", "bos")
    ids = [getattr(tokenizer, f"{name}_token_id", None) for name in named]
    found = next((number for number in ids if number is not None), None)
    if found is None:
        special = [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
        if not special:
            raise UserError(
                "the tokenizer has no special token, so that nothing can stand for a gap",
                f"one of {', '.join(f'{name}_token' for name in named)} in its tokenizer_config.json",
                "name one there, or empty `evaluate_llm.masked.tokenizers`",
            )
        found = max(special)
    return found
