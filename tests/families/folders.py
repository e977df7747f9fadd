"""Writes a family as the Hugging Face folder that a user would have."""

import json
from pathlib import Path

import torch
import transformers

from tests.families.architectures import Family
from tests.families.tokenizer_styles import STYLES

SPARE = 8  # rows of the embedding without a token, as releases have that pad it to a round number


def write(folder: Path, family: Family) -> Path:
    folder.mkdir(parents=True)
    size = write_tokenizer(folder, family.tokenizer)
    sizes = {"vocab_size": size + SPARE, "pad_token_id": 0} | family.sizes
    if "text_config" in sizes:
        sizes["text_config"] = sizes["text_config"] | {"vocab_size": sizes.pop("vocab_size")}
    config = getattr(transformers, family.config)(**sizes)
    torch.manual_seed(0)
    getattr(transformers, family.network)(config).save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path, style: str) -> int:
    """Write tokenizer.json and tokenizer_config.json; returns the number of ids."""
    tokenizer, entries = STYLES[style].build()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(entries))
    return tokenizer.get_vocab_size()
