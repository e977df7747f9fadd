"""Where transformers finds a language model's files, and its tokenizer alone."""

from __future__ import annotations  # transformers takes seconds to import what is only named

from pathlib import Path
from typing import TYPE_CHECKING, Any

from v2l.errors import UserError

if TYPE_CHECKING:
    import transformers


def loading_options(path: Path) -> tuple[Path, dict[str, Any]]:
    """The folder to load a model or tokenizer from and the arguments with it: nothing is downloaded."""
    options: dict[str, Any] = {"local_files_only": True}
    if path.suffix == ".gguf":
        return path.parent, options | {"gguf_file": path.name}
    return path, options


def load_tokenizer(path: Path) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of the language model at `path`, without its weights. Raises UserError if it cannot be loaded."""
    from transformers import AutoTokenizer

    if not path.exists():
        raise UserError(f"{path} is not there", "a language model's folder or GGUF file", "put it back")
    folder, options = loading_options(path)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, **options)
    except Exception as error:  # transformers raises whatever the files of users bring about
        problem = f"the tokenizer of {path} cannot be loaded ({type(error).__name__})"
        raise UserError(problem, "a language model's folder or GGUF file", "check that it is undamaged") from None
