"""Which ids of a language model show a tokenizer's local codes in a prompt.

Codes of codebooks that are the vocabulary's subwords are shown as these. Others (`shown_as` of their tokenizer:
ordinary token) have no words: code i is shown as the model's i-th ordinary token. Where the codebook has more codes
than the model has ordinary tokens, only the codes that occur in the maps are shown, in ascending order as its first
ordinary tokens.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from v2l.errors import UserError
from v2l.io.storage import read_parquet
from v2l.llm.vocabulary import Vocabulary


def shown_codes(tokenizer: dict, vocabulary: dict, codes: Iterable[np.ndarray]) -> np.ndarray:
    """The C codes that prompts may hold, ascending (int64).

    `tokenizer` and `vocabulary` are metadata of the tokens, `codes` the maps of the sample. Raises UserError if even
    the codes that occur are more than the language model has ordinary tokens.
    """
    size = tokenizer["codebooks"]["local_size"]
    if tokenizer["shown_as"] == "subword" or size <= vocabulary["ordinary"]:
        return np.arange(size)
    occurring_C = np.unique(np.concatenate([code_L.ravel() for code_L in codes]))
    if len(occurring_C) > vocabulary["ordinary"]:
        raise UserError(
            f"the maps of tokenizer {tokenizer['name']} hold {len(occurring_C)} different codes, "
            f"{vocabulary['llm']} has {vocabulary['ordinary']} ordinary tokens",
            "an ordinary token for every code that occurs",
            "lower `samples.restoration.images`, or evaluate a language model with more tokens",
        )
    return occurring_C


def code_ids(tokenizer: dict, count: int, words: Vocabulary, vocabulary: Path) -> np.ndarray:
    """The id that shows each of `count` codes (int64, C): of `words`' ordinary tokens or of `vocabulary`'s subwords.

    Raises UserError if the vocabulary has fewer subwords than the codebook has codes.
    """
    if tokenizer["shown_as"] == "ordinary token":
        return np.array([number for number, _ in words.subwords()[:count]], dtype=np.int64)
    table = read_parquet(vocabulary, columns=["token_ids"], filters=[("kind", "==", "subword")])
    subwords = [ids[0] for ids in table["token_ids"].to_pylist()]
    if count > len(subwords):
        raise UserError(
            f"tokenizer {tokenizer['name']} has {count} local codes, {vocabulary} has {len(subwords)} subwords",
            "the subwords that the tokenizer was trained with",
            "train it anew, or import it with the language model it was made for",
        )
    return np.array(subwords[:count], dtype=np.int64)


def all_code_ids(tokenizer: dict, words: Vocabulary, vocabulary: Path) -> np.ndarray:
    """The id that shows each code of the whole codebook, so that the samples of training and evaluation agree.

    Raises UserError if the codebook has more codes than the language model has ordinary tokens or subwords.
    """
    size = tokenizer["codebooks"]["local_size"]
    ids_C = code_ids(tokenizer, size, words, vocabulary)
    if len(ids_C) < size:
        raise UserError(
            f"tokenizer {tokenizer['name']} has {size} local codes, the language model {len(ids_C)} ordinary tokens",
            "an ordinary token for every code in masked restoration",
            "leave the tokenizer out of `evaluate_llm.masked.tokenizers`, or take a language model with more tokens",
        )
    return ids_C


def with_codes(table: pa.Table, columns: Iterable[str], shown_C: np.ndarray) -> pa.Table:
    """`table` with each index into `shown_C` in the list columns `columns` replaced by its code."""
    for name in columns:
        lists = table[name].combine_chunks()
        codes = pa.array(shown_C[lists.flatten().to_numpy()], lists.type.value_type)
        mapped = pa.ListArray.from_arrays(lists.offsets, codes)
        table = table.set_column(table.column_names.index(name), name, mapped)
    return table
