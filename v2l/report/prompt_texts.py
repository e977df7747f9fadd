"""Prompts and outputs as text, by the tokenizer of the language model that was asked."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from v2l.errors import UserError
from v2l.llm.tokenizer_files import load_tokenizer
from v2l.report.evidence import Evidence

if TYPE_CHECKING:
    import transformers


class PromptTexts:
    """Texts of the ids in one file of predictions, of `characters` at most."""

    def __init__(self, predictions: Evidence, characters: int):
        predictor = predictions.job["predictor"]
        entry = predictions.record["config"].get("llms", {}).get(predictor)
        self._tokenizer = _tokenizer(Path(entry["path"])) if entry else None
        self._characters = characters

    def text(self, ids: Sequence[int] | None) -> str:
        """The text of ids, all special tokens shown; the ids as numbers if the language model is not there any more."""
        if not ids:
            return ""
        text = self._tokenizer.decode(list(ids)) if self._tokenizer else f"token ids {' '.join(map(str, ids))}"
        return shortened(str(text), self._characters)


def shortened(text: str, characters: int) -> str:
    """The text, without its middle if it is longer; how much is left out stands there."""
    if len(text) <= characters:
        return text
    head, tail = characters // 2, characters - characters // 2
    return f"{text[:head]}\n[… {len(text) - characters} characters left out …]\n{text[-tail:]}"


@cache
def _tokenizer(path: Path) -> "transformers.PreTrainedTokenizerBase | None":
    try:
        return load_tokenizer(path)
    except UserError:
        return None
