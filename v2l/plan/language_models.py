"""Shape, FLOPs and memory of language models like LLaMA, from their config.json alone.

FLOPs are those of `torch.utils.flop_counter`: two for each factor of a product, attention over the whole context.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple, Self

from v2l.configuration.model_entries import LLM
from v2l.llm.memory import BYTES, parameters

# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads of the published models
LLAMA_2 = {"7b": (4096, 11008, 32, 32, 32), "13b": (5120, 13824, 40, 40, 40), "70b": (8192, 28672, 80, 64, 8)}
KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
VOCABULARY = 32_000


class LanguageModelShape(NamedTuple):
    """A config.json, and whether it is only `assumed` from the model's name."""

    config: dict[str, Any]
    assumed: bool

    @classmethod
    def of(cls, name: str, entry: LLM) -> Self:
        """Of a registry entry: its file, else LLaMA-2 of the size that name or path says, else of 7B."""
        try:
            config = json.loads((Path(entry.path) / "config.json").read_text())
            parameters(config)
            return cls(config, False)
        except (OSError, ValueError, KeyError):
            size = re.search(r"(?<!\d)(7|13|70)b", f"{name} {entry.path}".lower())
            known = LLAMA_2[size.group() if size else "7b"]
            return cls(dict(zip(KEYS, known, strict=True)) | {"vocab_size": VOCABULARY}, True)

    @property
    def head_channels(self) -> int:
        """Channels of an attention head."""
        return self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"]

    @property
    def vocabulary(self) -> int:
        """Ids that it embeds."""
        return self.config["vocab_size"]

    def forward(self, tokens: float, context: float, outputs: float = 1) -> float:
        """FLOPs of a pass over `tokens` new tokens that see `context` (cached ones and their own), logits of
        `outputs`."""
        return self._linear(tokens, outputs) + self._attention(tokens, context)

    def adaptation(self, tokens: float, outputs: float) -> float:
        """FLOPs of a pass over a text and of the backward pass, in which no weight but the adapters' has a gradient."""
        return 2 * self._linear(tokens, outputs) + 3 * self._attention(tokens, tokens)

    def _linear(self, tokens: float, outputs: float) -> float:
        config, head = self.config, self.head_channels
        heads, width = config["num_attention_heads"], config["hidden_size"]
        keys = config.get("num_key_value_heads") or heads
        layer = width * head * (2 * heads + 2 * keys) + 3 * width * config["intermediate_size"]
        return 2 * tokens * config["num_hidden_layers"] * layer + 2 * outputs * width * config["vocab_size"]

    def _attention(self, tokens: float, context: float) -> float:
        config = self.config
        return 4 * tokens * context * config["num_hidden_layers"] * config["num_attention_heads"] * self.head_channels

    def answer(self, prompt: float, cached: float, new_tokens: float) -> float:
        """FLOPs of a prompt, of which `cached` tokens need no computation, and of its greedy continuation."""
        first = self.forward(prompt - cached, prompt)
        return first + max(0, new_tokens - 1) * self.forward(1, prompt + new_tokens / 2)

    def weight_bytes(self, precision: str) -> float:
        """Bytes of the weights."""
        return parameters(self.config) * BYTES[precision]

    def cache_bytes(self, tokens: float, precision: str) -> float:
        """Bytes of the keys and values of so many tokens."""
        keys = self.config.get("num_key_value_heads") or self.config["num_attention_heads"]
        return 2 * tokens * self.config["num_hidden_layers"] * keys * self.head_channels * BYTES[precision]
