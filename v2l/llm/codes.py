"""The ids under which a language model sees local codes."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from v2l.errors import UserError


def code_ids(vocabulary: Path, codebook_size: int, tokenizer_name: str) -> np.ndarray:
    """The LLM's id of each local code: the only id of the i-th subword."""
    table = pq.read_table(vocabulary, columns=["token_ids"], filters=[("kind", "==", "subword")])
    subwords = [ids[0] for ids in table["token_ids"].to_pylist()]
    if codebook_size > len(subwords):
        raise UserError(
            f"tokenizer {tokenizer_name} has {codebook_size} local codes, {vocabulary} has {len(subwords)} subwords",
            "a subword for every code",
            "raise `expand_vocabulary.max_subwords` or lower `train_tokenizer.network.learned_codebook_size`",
        )
    return np.array(subwords[:codebook_size], dtype=np.int64)
