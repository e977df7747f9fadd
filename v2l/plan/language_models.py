"""Shape, FLOPs and memory of language models like LLaMA, from their config.json alone.

FLOPs are those of `torch.utils.flop_counter`: two for each factor of a product, attention over the whole context.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple, Self

from v2l.configuration.model_entries import LLM
from v2l.errors import UserError
from v2l.llm.model_facts import BYTES, UNKNOWN, layer_parameters, parameters, plain_shape, precision_of
from v2l.llm.weight_headers import read_object, size_of

# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads of the published models
LLAMA_2 = {"7b": (4096, 11008, 32, 32, 32), "13b": (5120, 13824, 40, 40, 40), "70b": (8192, 28672, 80, 64, 8)}
KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
VOCABULARY = 32_000


class LanguageModelShape(NamedTuple):
    """A config.json in LLaMA's names, whether it is only `assumed` from the model's name, the precision of the weights
    and the number of their values."""

    config: dict[str, Any]
    assumed: bool
    precision: str
    values: int

    @classmethod
    def of(cls, name: str, entry: LLM) -> Self:
        """Of a registry entry: its files, else LLaMA-2 of the size that name or path says, else of 7B."""
        path = Path(entry.path)
        try:
            config, precision = read_object(path / "config.json"), precision_of(entry)
            size = size_of(path)
            return cls(plain_shape(config), False, precision, size.values if size else parameters(config))
        except (UserError, KeyError):
            size_named = re.search(r"(?<!\d)(7|13|70)b", f"{name} {entry.path}".lower())
            known = LLAMA_2[size_named.group() if size_named else "7b"]
            config = dict(zip(KEYS, known, strict=True)) | {"vocab_size": VOCABULARY}
            return cls(plain_shape(config), True, entry.dtype or UNKNOWN, parameters(config))

    @property
    def head_channels(self) -> int:
        """Channels of an attention head."""
        return self.config["head_dim"] or self.config["hidden_size"] // self.config["num_attention_heads"]

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
        layer = layer_parameters(self.config, "experts_of_token")
        logits = self.config["hidden_size"] * self.config["vocab_size"]
        return 2 * tokens * self.config["num_hidden_layers"] * layer + 2 * outputs * logits

    def _attention(self, tokens: float, context: float) -> float:
        config = self.config
        return 4 * tokens * context * config["num_hidden_layers"] * config["num_attention_heads"] * self.head_channels

    def answer(self, prompt: float, cached: float, new_tokens: float) -> float:
        """FLOPs of a prompt, of which `cached` tokens need no computation, and of its greedy continuation."""
        first = self.forward(prompt - cached, prompt)
        return first + max(0, new_tokens - 1) * self.forward(1, prompt + new_tokens / 2)

    def weight_bytes(self, precision: str) -> float:
        """Bytes of the weights."""
        return self.values * BYTES[precision]

    def cache_bytes(self, tokens: float, precision: str) -> float:
        """Bytes of the keys and values of so many tokens."""
        keys = self.config["num_key_value_heads"] or self.config["num_attention_heads"]
        return 2 * tokens * self.config["num_hidden_layers"] * keys * self.head_channels * BYTES[precision]
