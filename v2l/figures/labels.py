"""What methods and sources are called in figures."""

from collections.abc import Sequence

from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.figures.image_file import ImageFile


def method_label(tokenizer: str) -> str:
    """The method in words of a tokenizer that is named for it; else its name."""
    entry = TOKENIZER_METHODS.get(tokenizer)
    return entry.labels.get(tokenizer, tokenizer) if entry else tokenizer


def column_titles(files: Sequence[ImageFile]) -> list[str]:
    """Of what a predictor made the method, where there are several, and the predictor, likewise; else the source."""
    predicted = [file for file in files if file.is_predicted]
    has_methods, has_predictors = (
        len({getattr(file, key) for file in predicted}) > 1 for key in ("tokenizer", "label")
    )
    titles = []
    for file in files:
        parts = [method_label(file.tokenizer)] * has_methods + [file.label] * has_predictors
        titles.append(", ".join(parts) if file.is_predicted and parts else file.label)
    return titles
