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
    predicted = [file for file in files if file.source.is_predicted]
    has_methods = len({file.tokenizer for file in predicted}) > 1
    has_predictors = len({file.source.label for file in predicted}) > 1
    titles = []
    for file in files:
        parts = [method_label(file.tokenizer)] * has_methods + [file.source.label] * has_predictors
        titles.append(", ".join(parts) if file.source.is_predicted and parts else file.source.label)
    return titles
