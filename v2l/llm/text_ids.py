"""Token ids of a prompt's texts: what begins a sequence as the model knows it, and never what ends one."""

from __future__ import annotations  # transformers takes seconds to import what is only named

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import transformers

# Tokenizers whose released models all begin with BOS, whether or not their settings say so.
BEGIN_WITH_BOS = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer")
PROBE = "a"


class TextIds:
    """Ids of texts for one tokenizer. `opening` are the ids before the first text: BOS, [CLS], or none."""

    def __init__(self, tokenizer: transformers.PreTrainedTokenizerBase):
        self._tokenizer = tokenizer
        self.opening = _opening(tokenizer)

    def first(self, text: str) -> list[int]:
        """Ids of a text that begins a sequence and goes on: no EOS, [SEP] or other closing id follows it."""
        return [*self.opening, *self.further(text)]

    def further(self, text: str) -> list[int]:
        """Ids of a text inside a sequence, without any id that marks a beginning or an end.

        Half of a surrogate pair, which JSON can hold, is read as U+FFFD: tokenizers take only valid text.
        """
        valid = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return list(self._tokenizer(valid, add_special_tokens=False).input_ids)


def _opening(tokenizer: transformers.PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer itself puts before a text; if that is nothing, BOS where settings or conventions ask for it.

    transformers drops `add_bos_token` beside a tokenizer.json, and has no default for it where there is none.
    """
    whole, plain = list(tokenizer(PROBE).input_ids), list(tokenizer(PROBE, add_special_tokens=False).input_ids)
    starts = [place for place in range(len(whole)) if whole[place : place + len(plain)] == plain]
    if starts and starts[0]:
        return whole[: starts[0]]
    if tokenizer.bos_token_id is None or not _begins_with_bos(tokenizer):
        return []
    return [tokenizer.bos_token_id]


def _begins_with_bos(tokenizer: transformers.PreTrainedTokenizerBase) -> bool:
    folder = Path(tokenizer.name_or_path or "nowhere")
    settings = _read(folder / "tokenizer_config.json") | tokenizer.init_kwargs
    stated = settings.get("add_bos_token")
    if stated is not None:
        return bool(stated)
    converted = _read(folder / "tokenizer.json")
    if "TemplateProcessing" in json.dumps(converted.get("post_processor")):
        return False  # the template says what begins a sequence
    by_class = type(tokenizer).__name__.removesuffix("Fast") in BEGIN_WITH_BOS
    return by_class or (not converted and "vocab_file" in settings and _is_sentencepiece_bpe(tokenizer))


def _is_sentencepiece_bpe(tokenizer: transformers.PreTrainedTokenizerBase) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return bool(getattr(getattr(backend, "model", None), "byte_fallback", False))


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
