"""Vocabularies of released language models, from assets that `make test` fetches."""

import base64
import re
import struct
from pathlib import Path

from transformers import AutoTokenizer, LlamaTokenizer, PreTrainedTokenizerBase

ASSETS = Path("assets")
NAMES = (
    "llama-tokenizer-js",
    *(f"tokenizer-{name}" for name in ("llama3", "qwen3", "gemma3", "gptoss", "deepseek-v3")),
)


def are_there() -> bool:
    return all((ASSETS / name / ".asset.json").is_file() for name in NAMES)


def published_tokenizer(name: str) -> PreTrainedTokenizerBase:
    return (
        llama_2()
        if name == "llama-tokenizer-js"
        else AutoTokenizer.from_pretrained(ASSETS / name, trust_remote_code=False)
    )


def llama_2() -> PreTrainedTokenizerBase:
    """LLaMA-2's tokenizer. The package holds its entries, a line each, and its merges as pairs of 16-bit ids."""
    source = (ASSETS / "llama-tokenizer-js" / "llama-tokenizer.js").read_text()
    entries, merges = (
        base64.b64decode(re.search(rf'{name} *= *["\']([\w+/=]+)["\']', source).group(1))
        for name in ("llama_vocab_base64", "llama_merges_binary")
    )
    tokens = entries.decode().split("\n")
    parts = struct.unpack(f"<{len(merges) // 2}H", merges)
    pairs = [(tokens[first], tokens[second]) for first, second in zip(parts[::2], parts[1::2], strict=True)]
    return LlamaTokenizer(vocab={token: number for number, token in enumerate(tokens)}, merges=pairs)
