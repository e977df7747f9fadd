"""The words that a language model's token ids stand for, and a hash that tells two vocabularies apart."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import hashlib
import string
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.llm.token_kinds import CONTROL, REPLACEMENT, control_reason, text_reason

if TYPE_CHECKING:
    import transformers


class Vocabulary:
    """The ids of a tokenizer, 0 <= id < `size`, and the text of each.

    A text is what its ids add to a preceding word, so that byte-level BPE ("Ġcat") and SentencePiece ("▁cat") both give
    " cat": the space that begins a word is kept. SentencePiece byte tokens (<0x41>) become their character. The
    released code decodes an id alone, which drops the space in one of the two families. `control` are the ids that
    `v2l.llm.token_kinds` takes for control tokens, by their names and what the tokenizer says of them.
    """

    def __init__(self, tokenizer: transformers.PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab()
        self.size = max(ids.values()) + 1
        self.tokens: list[str | None] = [None] * self.size
        for token, number in ids.items():
            self.tokens[number] = token
        added = tokenizer.added_tokens_decoder
        special = {*tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)}
        reasons = {
            number: control_reason(token, number in special, number in added)
            for number, token in enumerate(self.tokens)
        }
        self._control_reasons = {number: reason for number, reason in reasons.items() if reason}
        self.control = set(self._control_reasons)
        self._anchor = self._found_anchor(ids)
        self._anchor_text = self._decode([self._anchor])

    def text(self, ids: list[int]) -> str:
        """The text of one or more ids after a word; U+FFFD where the bytes are not valid UTF-8."""
        return self._decode([self._anchor, *ids])[len(self._anchor_text) :]

    def answer_text(self, ids: list[int]) -> str:
        """The text of an answer, without control tokens."""
        return str(self._tokenizer.decode([number for number in ids if number not in self.control]))

    def subwords(self, reserved: bool = False) -> list[tuple[int, str]]:
        """Id and text of every ordinary id in id order, or of every id with a token if `reserved`.

        Ordinary is what `excluded` does not list.
        """
        if not reserved:
            return list(self._words.items())
        return [
            (number, self._words.get(number, token)) for number, token in enumerate(self.tokens) if token is not None
        ]

    def chosen(self, name: str, reserved: bool, most: int | None) -> tuple[list[tuple[int, str]], dict]:
        """The first `most` (None: all) of `subwords(reserved)`, and what metadata `vocabulary` say of them.

        That is the `identity` of the language model `name`, how many were chosen, and how many ids are ordinary.
        """
        pairs = self.subwords(reserved)[:most]
        return pairs, self.identity(name) | {"subwords": len(pairs), "ordinary": len(self._words)}

    def excluded(self) -> list[tuple[int, str | None, str]]:
        """Id, token and reason, in id order, of every id that is no ordinary subword."""
        return [(number, self.tokens[number], reason) for number, reason in sorted(self._reasons.items())]

    def summary(self) -> str:
        """How many ids are ordinary subwords, and how many are none for each reason."""
        counts = Counter(self._reasons.values())
        return ", ".join([f"{len(self._words):,} ordinary", *(f"{n:,} {reason}" for reason, n in counts.most_common())])

    def named_ids(self, model: transformers.PreTrainedModel) -> list[int] | None:
        """The ids that `model` may generate: those with a token. None: all of its outputs have one.

        Models round their vocabulary up, and the outputs beyond the tokenizer's last id stand for nothing.
        """
        named = [number for number, token in enumerate(self.tokens) if token is not None]
        head = model.get_output_embeddings() or model.get_input_embeddings()
        return named if len(named) < head.get_parameter("weight").shape[0] else None

    def stops(self, marks: str) -> set[int]:
        """Ids that end an answer: every control id, and those whose text holds one of the characters `marks`."""
        return self.control | {number for number, text in self._words.items() if set(marks) & set(text)}

    def identity(self, name: str) -> dict:
        """Name of the language model, number of ids and SHA-256 over the id -> token list."""
        digest = hashlib.sha256(canonical_json(self.tokens).encode()).hexdigest()
        return {"llm": name, "size": self.size, "sha256": digest}

    def require(self, name: str, expected: dict, path: object) -> None:
        """Raise UserError unless this is the vocabulary `expected`, metadata `vocabulary` of the file `path`."""
        found = self.identity(name)
        if (found["size"], found["sha256"]) != (expected["size"], expected["sha256"]):
            raise UserError(
                f"the vocabulary of language model {name} ({found['size']} ids, SHA-256 {found['sha256'][:12]}) "
                f"does not match the tokens of {path}",
                f"the vocabulary of {expected['llm']} ({expected['size']} ids, SHA-256 {expected['sha256'][:12]})",
                f"evaluate {expected['llm']}, or set `expand_vocabulary.llm` to {name} and make the tokens anew",
            )

    @cached_property
    def _texts(self) -> dict[int, str]:
        """Id -> text of everything that is no control token, decoded at once, which is thirty times as fast."""
        numbers = [number for number in range(self.size) if number not in self.control]
        texts = self._decoded([[self._anchor, number] for number in numbers])
        return {number: text[len(self._anchor_text) :] for number, text in zip(numbers, texts, strict=True)}

    @cached_property
    def _reasons(self) -> dict[int, str]:
        reasons = {number: text_reason(str(self.tokens[number]), text) for number, text in self._texts.items()}
        return self._control_reasons | {number: reason for number, reason in reasons.items() if reason}

    @cached_property
    def _words(self) -> dict[int, str]:
        return {number: text for number, text in self._texts.items() if number not in self._reasons}

    def _found_anchor(self, ids: dict[str, int]) -> int:
        """An id that other ids can follow like a word: a letter or digit, else the first whose text others go on."""
        letters = string.ascii_letters + string.digits
        anchor = next((ids[letter] for letter in letters if ids.get(letter) not in (None, *self.control)), None)
        if anchor is not None:
            return anchor
        numbers = [number for number in range(self.size) if number not in self.control]
        pairs = zip(self._decoded([[n] for n in numbers]), self._decoded([[n, n] for n in numbers]), strict=True)
        for number, (alone, twice) in zip(numbers, pairs, strict=True):
            if alone.strip() == alone != "" and REPLACEMENT not in twice and twice.startswith(alone) and twice != alone:
                return number
        raise UserError(
            f"none of the tokenizer's {self.size} ids stands for text ({', '.join(CONTROL)}, or bytes)",
            "a tokenizer of text",
            "choose a language model with such a tokenizer",
        )

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _decoded(self, sequences: Sequence[list[int]]) -> list[str]:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            return [self._decode(ids) for ids in sequences]
        return backend.decode_batch(sequences, skip_special_tokens=False)
