"""What rows call a source: the key columns that name it, and its note."""

from v2l.configuration.sources import HELD_OUT, Source
from v2l.metrics.rows import Key, joined

LLM_NOTES = {  # tasks whose answers of language models need a word
    "restoration": "the ten examples are noised copies of the answer: majority-vote shows what copying alone earns",
    "masked": "language model fine-tuned with LoRA on training images",
}


def names_of(tokenizer: str, source: Source) -> dict[str, Key]:
    """`method` (the baseline, else the tokenizer), `tokenizer` and `llm`; None where none took part."""
    return {
        "method": source.predictor if source.baseline else tokenizer,
        "tokenizer": tokenizer if _reads_tokens(source) else None,
        "llm": source.predictor if source.by_language_model else None,
    }


def note_of(source: Source, tokenizer_note: str) -> str:
    """What is to be said of a source: of its predictor, then of the tokenizer where its tokens are read."""
    if source.baseline:
        own = source.baseline.note
    else:
        own = "" if source.protocol == HELD_OUT else LLM_NOTES.get(source.task, "")
    return joined(own, tokenizer_note if _reads_tokens(source) else "")


def _reads_tokens(source: Source) -> bool:
    return source.baseline is None or source.baseline.reads_tokens
