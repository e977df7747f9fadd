"""The words that a language model's token ids stand for, and a hash that tells two vocabularies apart."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import hashlib
import re
import string
import unicodedata
from typing import TYPE_CHECKING

from v2l.errors import UserError
from v2l.io.canonical import canonical_json

if TYPE_CHECKING:
    import transformers

RESERVED = re.compile(r"[<\[]\|?(unused|reserved)[^>\]]*[>\]]", re.IGNORECASE)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Vocabulary:
    """The ids of a tokenizer, 0 <= id < `size`, and the text of each.

    A text is what its ids add to a preceding word, so that byte-level BPE ("Ġcat") and SentencePiece ("▁cat") both give
    " cat": the space that begins a word is kept. SentencePiece byte tokens (<0x41>) become their character. The
    released code decodes an id alone, which drops the space in one of the two families.
    """

    def __init__(self, tokenizer: transformers.PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        ids = tokenizer.get_vocab()
        self.size = max(ids.values()) + 1
        self.tokens: list[str | None] = [None] * self.size
        for token, number in ids.items():
            self.tokens[number] = token
        letters = string.ascii_letters + string.digits
        anchor = next((ids[letter] for letter in letters if letter in ids), None)
        if anchor is None:
            raise UserError(
                "the tokenizer has no token for a single letter",
                "a byte-level BPE or SentencePiece tokenizer",
                "choose a language model with such a tokenizer",
            )
        self._anchor, self._anchor_text = anchor, self._decode([anchor])
        special = set(tokenizer.all_special_ids)
        special |= {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
        self.control = {
            number
            for number, token in enumerate(self.tokens)
            if token is None or number in special or RESERVED.fullmatch(token)
        }

    def text(self, ids: list[int]) -> str:
        """The text of one or more ids after a word; U+FFFD where the bytes are not valid UTF-8."""
        return self._decode([self._anchor, *ids])[len(self._anchor_text) :]

    def answer_text(self, ids: list[int]) -> str:
        """The text of an answer, without control tokens."""
        return str(self._tokenizer.decode([number for number in ids if number not in self.control]))

    def subwords(self, reserved: bool = False) -> list[tuple[int, str]]:
        """Id and text of every ordinary id in id order, or of every id with a token if `reserved`.

        Ordinary is what is no control, reserved or unused token and by itself valid, non-empty text without control
        characters other than white space.
        """
        pairs = []
        for number, token in enumerate(self.tokens):
            if number in self.control:
                if reserved and token is not None:
                    pairs.append((number, token))
                continue
            text = self.text([number])
            if _is_text(text):
                pairs.append((number, text))
            elif reserved and token is not None:
                pairs.append((number, token))
        return pairs

    def stops(self, marks: str) -> set[int]:
        """Ids that end an answer: every control id, and those whose text holds one of the characters `marks`."""
        return self.control | {number for number, text in self.subwords() if set(marks) & set(text)}

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

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _is_text(text: str) -> bool:
    if not text or REPLACEMENT in text:
        return False
    return all(character.isspace() or unicodedata.category(character) not in ("Cc", "Cs") for character in text)
