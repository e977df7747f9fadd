"""Tokenizers whose weights come from a file: instead of training, or as its start."""

from pathlib import Path
from typing import TypeGuard

from v2l.configuration.tokenizer_entries import CODEBOOK_FILES, TokenizerEntry, V2LEntry, VQGANEntry

DEMO_WEIGHTS = Path("weights/demo")


def is_imported(entry: TokenizerEntry) -> bool:
    """Whether the entry names weights that take the place of a training."""
    return has_checkpoint(entry) or bool(getattr(entry, "weights", None))


def has_checkpoint(entry: TokenizerEntry) -> TypeGuard[V2LEntry | VQGANEntry]:
    """Whether the entry names a published checkpoint."""
    return isinstance(entry, V2LEntry | VQGANEntry) and bool(getattr(entry, "checkpoint", None))


def imported_files(entry: TokenizerEntry) -> dict[str, list[Path]]:
    """The user's files that hold an entry's weights, or those that its training starts with, by key."""
    keys = ("checkpoint", "checkpoint_config", "weights", "start_from")
    named = {key: getattr(entry, key, None) for key in keys}
    files = {key: [Path(path)] for key, path in named.items() if path}
    if has_checkpoint(entry) and isinstance(entry, V2LEntry) and entry.codebooks:
        files["codebooks"] = codebook_files(entry)
    return files


def codebook_files(entry: V2LEntry) -> list[Path]:
    """The files of `codebooks` that the entry's method reads."""
    needed = CODEBOOK_FILES if entry.method == "v2l" else CODEBOOK_FILES[:1]
    return [Path(entry.codebooks or "") / name for name in needed]


def how_to_make(path: Path) -> str:
    """What makes the weights file `path`, for a message that it is not there."""
    if path.parent == DEMO_WEIGHTS:
        return "`make demo-training` makes it"
    parts = path.parts
    if len(parts) == 4 and (parts[0], parts[2], path.suffix) == ("results", "train_tokenizer", ".safetensors"):
        return f"`snakemake {path} --config experiment={parts[1]}` makes it"
    target = "results/<experiment>/train_tokenizer/<name>.safetensors"
    return f"`snakemake {target} --config experiment=<experiment>` makes such a file"
