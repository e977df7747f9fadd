"""Tokenizers whose weights come from a published checkpoint instead of training."""

from pathlib import Path
from typing import TypeGuard

from v2l.configuration.tokenizer_entries import CODEBOOK_FILES, TokenizerEntry, V2LEntry, VQGANEntry


def is_imported(entry: TokenizerEntry) -> TypeGuard[V2LEntry | VQGANEntry]:
    """Whether the entry names a checkpoint."""
    return isinstance(entry, V2LEntry | VQGANEntry) and bool(getattr(entry, "checkpoint", None))


def imported_files(entry: TokenizerEntry) -> dict[str, list[Path]]:
    """The user's files that an entry is imported from, by key; none if it is trained."""
    if not is_imported(entry):
        return {}
    named = {key: getattr(entry, key, None) for key in ("checkpoint", "checkpoint_config")}
    files = {key: [Path(path)] for key, path in named.items() if path}
    if isinstance(entry, V2LEntry) and entry.codebooks:
        files["codebooks"] = codebook_files(entry)
    return files


def codebook_files(entry: V2LEntry) -> list[Path]:
    """The files of `codebooks` that the entry's method reads."""
    needed = CODEBOOK_FILES if entry.method == "v2l" else CODEBOOK_FILES[:1]
    return [Path(entry.codebooks or "") / name for name in needed]
