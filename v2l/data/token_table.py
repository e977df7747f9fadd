"""The token table of a sample, `tokens.parquet`: one row per image and corruption."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from v2l.io.storage import matrix, parquet_metadata, read_parquet


def schema(length: int, global_tokens: int) -> pa.Schema:
    """Columns of the table for maps of `length` local tokens; `global_ids` is null without a global path."""
    return pa.schema(
        [
            ("image_id", pa.string()),
            ("split", pa.string()),
            ("label", pa.int32()),
            ("corruption", pa.string()),  # none or a restoration task
            ("global_ids", pa.list_(pa.int32(), global_tokens)),  # global codes, nearest first or layer by layer
            ("local_ids", pa.list_(pa.int32(), length)),  # codes of the local codebook, row-major
        ]
    )


WORDS_SCHEMA = pa.schema(
    [
        ("code", pa.int32()),
        ("text", pa.string()),  # what a language model reads for the code
        ("entry", pa.int32()),  # row of the vocabulary with that text; null if it is not in the vocabulary
    ]
)


def read_words(path: Path) -> list[str]:
    """What a language model reads for each code, from a table of WORDS_SCHEMA."""
    return read_parquet(path, columns=["text"])["text"].to_pylist()


@dataclass(frozen=True)
class Tokens:
    """Rows of one corruption in memory, in the sample's order.

    image_id: N ids; local_NL: int64 local codes; global_NK: int64 global codes or None; tokenizer: its
    description, copied from the weights; grid: (h, w) with h * w = L.
    """

    image_id: np.ndarray
    local_NL: np.ndarray
    global_NK: np.ndarray | None
    tokenizer: dict
    grid: tuple[int, int]

    @classmethod
    def read(cls, path: Path, corruption: str = "none") -> "Tokens":
        """The rows of `corruption` in the table that stage extract_tokens wrote at `path`."""
        metadata = parquet_metadata(path)
        columns = ["image_id", "global_ids", "local_ids"]
        table = read_parquet(path, columns=columns, filters=[("corruption", "==", corruption)])
        image_id = table["image_id"].to_numpy(zero_copy_only=False)
        has_global = table["global_ids"].null_count == 0
        return cls(
            image_id=image_id,
            local_NL=matrix(table["local_ids"]).astype(np.int64),
            global_NK=matrix(table["global_ids"]).astype(np.int64) if has_global else None,
            tokenizer=metadata["tokenizer"],
            grid=tuple(metadata["grid"]),
        )

    @property
    def worded_NK(self) -> np.ndarray | None:
        """The codes that stand for words and are read by a language model; None if no codes of the tokenizer do."""
        return {"global": self.global_NK, "local": self.local_NL, None: None}[self.tokenizer["worded_ids"]]
