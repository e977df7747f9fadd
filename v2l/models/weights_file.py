"""A file of weights that stage train_tokenizer wrote, whole or compact, as a user names it: read and checked.

Metadata beside `tokenizer` (its description) and `v2l` (provenance): `training` (seed, steps and images seen),
`vocabulary` (language model, number of subwords, SHA-256 of their texts), `encoder`, and `words`, the texts of the
codes that the experiment's pictures chose. A compact file has `compact` too (see `v2l.models.compact`).
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from v2l.configuration.imported_weights import how_to_make
from v2l.errors import UserError
from v2l.io.canonical import canonical_json
from v2l.io.digests import DamagedFile
from v2l.io.file_kinds import kind_of
from v2l.io.provenance import KEY, hash_path
from v2l.io.storage import parquet_metadata, read_parquet, read_tensors
from v2l.models.vision_tokenizer import CodeWords, VisionTokenizer

PROBE = "probe."  # before the key of a table that is left out: some of its rows
PROBE_ROWS = 64
KINDS: dict[str, type | tuple[type, ...]] = {
    "training": dict,
    "vocabulary": dict,
    "encoder": (str, type(None)),
    "words": list,
}
MADE = ("command", "machine", "hours")  # what the command that makes a compact file is told
EXPECTED = "a weights file of stage train_tokenizer"


class WeightsFile(NamedTuple):
    """Tensors and metadata of a weights file; `probes` are rows of tables that it leaves out, by the tables' keys."""

    path: Path
    tensors: dict[str, Tensor]
    probes: dict[str, Tensor]
    metadata: dict[str, Any]

    @property
    def tokenizer(self) -> dict:
        """Description of the tokenizer that was trained."""
        return self.metadata["tokenizer"]

    @property
    def left_out(self) -> dict[str, str]:
        """SHA-256 of each tensor that a compact file leaves out; empty for a whole one."""
        return self.metadata.get("compact", {}).get("left_out", {})

    @property
    def training(self) -> dict:
        """How its weights were made, as far as it says: seed, steps, images; command, machine and hours if compact."""
        said = {key: value for key, value in self.metadata.get("compact", {}).items() if key in MADE}
        return self.metadata["training"] | said

    def line(self) -> dict:
        """What metrics.jsonl says of a tokenizer that is imported from it."""
        record = self.metadata[KEY]
        work = Path(str(record.get("config", {}).get("job", {}).get("work", ""))).parts
        experiment = work[1] if len(work) == 4 and work[0] == "work" else None
        commit = record["commit"]
        if commit == "unknown":  # trained where there was no repository
            commit = self.metadata.get("compact", record)["commit"]
        made = {"trained_as": self.tokenizer["name"], "experiment": experiment, "commit": commit}
        return {"imported": str(self.path), "sha256": hash_path(self.path)} | made | self.training


def read_weights_file(path: Path) -> WeightsFile:
    """Raises UserError for a file that is not there, none of this pipeline, damaged, or without what it should say."""
    if not path.is_file():
        raise UserError(f"{path} is not there", EXPECTED, f"{how_to_make(path)}, or name another file")
    try:
        if kind := kind_of(path):
            raise UserError(f"{path} is {kind}", EXPECTED, "name such a file, or get it again")
        tensors, metadata = read_tensors(path)
    except (DamagedFile, OSError) as error:
        reason = error.reason if isinstance(error, DamagedFile) else error
        raise UserError(f"{path} cannot be read ({reason})", EXPECTED, "name such a file, or get it again") from None
    described = metadata.get("tokenizer") if isinstance(metadata, dict) else None
    if not isinstance(described, dict) or not {"name", "method", "geometry", "build"} <= set(described):
        held = ", ".join(sorted(metadata)) if isinstance(metadata, dict) and metadata else "none"
        raise UserError(
            f"{path} describes no tokenizer (its metadata: {held})",
            EXPECTED,
            "name such a file; published checkpoints go into `checkpoint` (docs/import.md)",
        )
    if not isinstance(metadata.get(KEY), dict) or "commit" not in metadata[KEY]:
        raise UserError(
            f"{path} does not say what made it: metadata `{KEY}` is {metadata.get(KEY)!r}",
            "a file with its provenance: configuration, commit and inputs",
            "train it here; nobody could tell what such weights are",
        )
    kinds = KINDS | ({"compact": dict} if "compact" in metadata else {})
    if lacking := [key for key, kind in kinds.items() if not isinstance(metadata.get(key, ...), kind)]:
        raise UserError(
            f"{path} was written by another version: its metadata lacks {', '.join(lacking)}",
            f"metadata {', '.join(KINDS)}",
            "train it again with this version",
        )
    probes = {key.removeprefix(PROBE): rows for key, rows in tensors.items() if key.startswith(PROBE)}
    own = {key: tensor for key, tensor in tensors.items() if not key.startswith(PROBE)}
    return WeightsFile(path, own, probes, metadata)


def weights_metadata(
    tokenizer: VisionTokenizer, words: CodeWords, vocabulary: Path, encoder: str | None, training: dict
) -> dict:
    """What a weights file says beside description and provenance, from `training` and the stage's inputs."""
    texts = words.texts if tokenizer.chosen_parts else []
    return {
        "training": training,
        "vocabulary": vocabulary_identity(vocabulary),
        "encoder": encoder,
        "words": texts,
    }


def vocabulary_identity(path: Path) -> dict:
    """Language model, number of subwords and SHA-256 of their texts in order, of a vocabulary file."""
    said = parquet_metadata(path)["vocabulary"]
    texts = read_parquet(path, columns=["text"])["text"].slice(0, said["subwords"]).to_pylist()
    digest = hashlib.sha256(canonical_json(texts).encode()).hexdigest()
    return {"llm": said["llm"], "subwords": said["subwords"], "sha256": digest}


def probe_rows(size: int) -> Tensor:
    """The rows of a table of `size` rows that its probe holds, evenly spaced from the first to the last (int64)."""
    return torch.linspace(0, size - 1, min(PROBE_ROWS, size), dtype=torch.float64).round().long()
