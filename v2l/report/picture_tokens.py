"""What a tokenizer says of pictures: global words, and the word of each local token in its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from v2l.data.token_table import Tokens, read_words
from v2l.io.storage import read_parquet
from v2l.report.evidence import Evidence


@dataclass(frozen=True)
class PictureWords:
    """A picture's global words, nearest first, and the words of its local tokens row by row; empty without words."""

    tokenizer: str
    words: list[str]
    grid: list[list[str]]


class SampleTokens:
    """The tokens of one sample by one tokenizer, in words."""

    def __init__(self, evidence: Evidence, words: Path | None, vocabulary: Path | None):
        self.tokenizer, self.sample = evidence.job["tokenizer"], evidence.job["sample"]
        self.manifest = Path(evidence.record["inputs"]["manifest"][0]["path"])
        self._tokens = Tokens.read(evidence.path)
        self._rows = {str(image_id): row for row, image_id in enumerate(self._tokens.image_id)}
        description = self._tokens.tokenizer
        worded = read_words(words) if words else []
        self._global_words = worded if description["worded_ids"] == "global" else []
        self._local_words = worded if description["worded_ids"] == "local" else []
        if description["worded_ids"] != "local" and description["shown_as"] == "subword" and vocabulary:
            self._local_words = _subwords(vocabulary)

    @property
    def image_ids(self) -> list[str]:
        """The pictures of the sample, in its order."""
        return list(self._rows)

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._rows

    def words_of(self, image_id: str) -> PictureWords | None:
        """What the tokenizer says of a picture; None if it is not in the sample or nothing of it is words."""
        if image_id not in self._rows or not (self._global_words or self._local_words):
            return None
        row, width = self._rows[image_id], self._tokens.grid[1]
        global_NK = self._tokens.global_NK
        codes = global_NK[row] if global_NK is not None and self._global_words else []
        local = _texts(self._local_words, self._tokens.local_NL[row]) if self._local_words else []
        grid = [local[start : start + width] for start in range(0, len(local), width)]
        return PictureWords(self.tokenizer, _texts(self._global_words, codes), grid)


def _texts(words: Sequence[str], codes: Sequence[int]) -> list[str]:
    return [words[code] if code < len(words) else f"token {code}" for code in codes]


def _subwords(vocabulary: Path) -> list[str]:
    return read_parquet(vocabulary, columns=["text"], filters=[("kind", "==", "subword")])["text"].to_pylist()
