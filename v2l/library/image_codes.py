"""Images as codes: what `V2LTokenizer.encode` gives and `decode` takes."""

from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor

from v2l.errors import UserError
from v2l.library.code_vocabulary import CodeVocabulary


@dataclass(frozen=True)
class ImageCodes:
    """Codes of B images (paper section 3.2).

    local_ids: int64 (B, h, w), rows from the top, of the local codebook. global_ids: int64 (B, K), nearest first (spae:
    layer by layer), of the global codebook; None for tokenizers without one. `tokenizer` describes the one that made
    them, `vocabulary` what the codes are called.
    """

    local_ids: Tensor
    global_ids: Tensor | None
    tokenizer: dict[str, Any]
    vocabulary: CodeVocabulary

    def __len__(self) -> int:
        return len(self.local_ids)

    def __getitem__(self, images: slice) -> Self:
        shared = None if self.global_ids is None else self.global_ids[images]
        return replace(self, local_ids=self.local_ids[images], global_ids=shared)

    @property
    def words(self) -> list[list[str]]:
        """The words of each image, as they stand in a text: most begin with a space. B lists.

        Those of the global codes, K of them; of lqae the local codes', h * w. Raises UserError for tokenizers whose
        codes stand for no words (vqgan, v2l-local).
        """
        ids = {"global": self.global_ids, "local": self.local_ids.flatten(1)}.get(self.tokenizer["worded_ids"])
        if ids is None:
            raise UserError(
                f"the codes of tokenizer {self.tokenizer['name']} (method {self.tokenizer['method']}) stand for no "
                "words",
                "codes of v2l, v2l-subword, spae or lqae",
                "load such a tokenizer",
            )
        return [[self.vocabulary.words[code] for code in row] for row in ids.tolist()]

    @property
    def local_words(self) -> list[list[list[str]]]:
        """The subword of each local code, B lists of h rows of w. Raises UserError where these are no subwords."""
        if self.tokenizer["shown_as"] != "subword":
            raise UserError(
                f"the local codes of tokenizer {self.tokenizer['name']} are no subwords",
                "codes of v2l, v2l-local, v2l-subword or spae",
                "load such a tokenizer, or read `local_ids`",
            )
        return [[[self.vocabulary.subwords[code] for code in row] for row in rows] for rows in self.local_ids.tolist()]
