"""CLIP's tokenizer as open_clip has it, its pairs merged by a compiled library, and prompts as beginnings and tails."""

import re
from typing import Any
from unicodedata import category

import torch
from open_clip import SimpleTokenizer
from open_clip.tokenizer import get_clean_fn
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
SPECIAL = "_of_text>"
YPOGEGRAMMENI = "\u0345"  # a mark that case-insensitive patterns take for a letter, or do not
PLAIN_BEGINNING = re.compile(r"[ -%'-;=-~]*[a-z] ")


class ClipTokenizer:
    """Ids of texts, without start and end, equal to `SimpleTokenizer.encode`'s."""

    def __init__(self, tokenizer: SimpleTokenizer):
        self._reference = tokenizer
        self.start, self.end = tokenizer.sot_token_id, tokenizer.eot_token_id
        self.context_length = tokenizer.context_length
        merges = models.BPE(vocab=tokenizer.encoder, merges=list(tokenizer.bpe_ranks), end_of_word_suffix="</w>")
        self._merging = Tokenizer(merges)
        self._merging.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(WORDS), "removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )

    @staticmethod
    def reads_as(tokenizer: Any) -> bool:
        """Whether `tokenizer` is CLIP's own: lower case, two special tokens, no random choice among a text's tokens."""
        return (
            type(tokenizer) is SimpleTokenizer
            and tokenizer.clean_fn is get_clean_fn("lower")
            and tokenizer.reduction_fn is None
            and len(tokenizer.all_special_ids) == 2
        )

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text."""
        return self._encode_cleaned(texts, [self._clean(text) for text in texts])

    def padded(self, texts: list[str]) -> Tensor:
        """int64 ids_NT with start and end, cut at the context's length as open_clip cuts them, padded with 0."""
        sequences = [[self.start, *ids, self.end] for ids in self.encode(texts)]
        last = self.context_length - 1
        cut = [ids if len(ids) <= self.context_length else [*ids[:last], self.end] for ids in sequences]
        return pad_sequence([torch.tensor(ids) for ids in cut], batch_first=True)

    def ended(self, tails: list[list[int]]) -> tuple[Tensor, Tensor]:
        """int64 ids_NT of `tails` with an end token, padded with 0, and its position in each, that of the first."""
        ends = [ids.index(self.end) if self.end in ids else len(ids) for ids in tails]
        rows = [torch.tensor([*ids[:end], self.end]) for ids, end in zip(tails, ends, strict=True)]
        return pad_sequence(rows, batch_first=True), torch.tensor(ends)

    def tails(self, texts: list[str]) -> list[list[int] | None]:
        """The ids of each text behind any beginning that `is_plain`, so that a prompt's ids are the two in a row.

        Characters are repaired by what surrounds them: at most a letter and a space, which "a " stands for. None where
        the space is repaired, too.
        """
        prompts = [f"a {text}" for text in texts]
        cleaned = [self._clean(prompt) for prompt in prompts]
        ids = self._encode_cleaned(prompts, cleaned)
        return [
            tail[1:] if clean == "a" or clean.startswith("a ") else None
            for clean, tail in zip(cleaned, ids, strict=True)
        ]

    @staticmethod
    def is_plain(beginning: str) -> bool:
        """Whether nothing in a prompt's beginning is repaired, nor becomes one word with what follows."""
        return PLAIN_BEGINNING.fullmatch(beginning) is not None

    def _clean(self, text: str) -> str:
        if text.isascii() and text.isprintable() and "&" not in text:  # what ftfy and HTML leave as it is
            return " ".join(text.split()).lower()
        return self._reference.clean_fn(text)

    def _encode_cleaned(self, texts: list[str], cleaned: list[str]) -> list[list[int]]:
        encodings = self._merging.encode_batch_fast(cleaned, add_special_tokens=False)
        return [
            self._reference.encode(text) if _read_differently(clean) else encoding.ids
            for text, clean, encoding in zip(texts, cleaned, encodings, strict=True)
        ]


def _read_differently(text: str) -> bool:
    """Whether libraries may split `text` differently: special tokens, and characters newer than one's Unicode."""
    if SPECIAL in text:
        return True
    return not text.isascii() and any(letter == YPOGEGRAMMENI or category(letter) == "Cn" for letter in text)
