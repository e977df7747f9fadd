"""How many GPUs a language model needs, from its files alone: nothing is loaded, torch is not even imported."""

import math

from v2l.configuration.model_entries import LLM
from v2l.errors import UserError
from v2l.llm.model_facts import weight_bytes

# Beside the weights: the cache of keys and values, activations, and GPUs that layers do not fill evenly.
HEADROOM = 1.25


def megabytes(entry: LLM) -> int | None:
    """Memory of the weights in the entry's precision, or None while its files are not there, or are not readable."""
    try:
        size = weight_bytes(entry)
    except (UserError, OSError):
        return None
    return None if size is None else math.ceil(size / 1e6)


def gpus(entry: LLM, gpu_memory_mb: int) -> int:
    """GPUs that hold the model with headroom; 1 for one whose size is not known yet."""
    return max(1, math.ceil((megabytes(entry) or 0) * HEADROOM / gpu_memory_mb))
