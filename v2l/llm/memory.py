"""How many GPUs a language model needs, from its configuration alone: nothing is loaded, torch is not even imported."""

import json
import math
from pathlib import Path

from v2l.configuration.model_entries import LLM

BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2, "float16": 2}
# Beside the weights: the cache of keys and values, activations, and GPUs that layers do not fill evenly.
HEADROOM = 1.25


def parameters(config: dict) -> int:
    """Parameters of a LLaMA-like model (RMS norms, gated MLP, grouped queries) with this config.json."""
    width, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    keys = config.get("num_key_value_heads") or heads
    attention = width * head * (2 * heads + 2 * keys)
    embeddings = config["vocab_size"] * width * (1 if config.get("tie_word_embeddings") else 2)
    return layers * (attention + 3 * width * config["intermediate_size"] + 2 * width) + embeddings + width


def megabytes(entry: LLM) -> int | None:
    """Memory of the weights in the entry's precision, or None while its config.json is not there or says too little."""
    try:
        config = json.loads((Path(entry.path) / "config.json").read_text())
        return math.ceil(parameters(config) * BYTES[entry.dtype] / 1e6)
    except (OSError, ValueError, KeyError):
        return None


def gpus(entry: LLM, gpu_memory_mb: int) -> int:
    """GPUs that hold the model with headroom; 1 for one whose size is not known yet."""
    return max(1, math.ceil((megabytes(entry) or 0) * HEADROOM / gpu_memory_mb))
