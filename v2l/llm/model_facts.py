"""What a language model is, from its files alone: nothing is loaded, torch is not even imported."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from v2l.configuration.model_entries import LLM
from v2l.errors import UserError
from v2l.llm.weight_headers import read_object, size_of, weight_files

BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2, "float16": 2}
FALLBACK = "float32"  # of a folder that does not say in which precision its weights are
UNKNOWN = "float16"  # of a model that is not there yet
OTHER_NAMES = {"float64": "float32", "double": "float32", "float": "float32", "half": "float16"}
# What families call the same number, LLaMA's name first.
NAMES = {
    "hidden_size": ("n_embd", "d_model", "n_embed"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_kv_heads",),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"),
    "experts": ("num_local_experts", "num_experts", "n_routed_experts"),
    "experts_of_token": ("num_experts_per_tok", "moe_topk"),
    "context": ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length"),
}
TEXT_PARTS = ("text_config", "llm_config", "language_config", "decoder", "generator")


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config.json that describes the language model: of models of text and pictures, one inside it."""
    parts = [config[name] for name in TEXT_PARTS if isinstance(config.get(name), dict)]
    return parts[0] if parts else config


def number(config: Mapping[str, Any], name: str) -> int | None:
    """The whole number that a family calls `name` or one of NAMES; None if there is none above 0."""
    for key in (name, *NAMES.get(name, ())):
        value = config.get(key)
        if _is_positive(value) and value == int(value):
            return int(value)
    return None


def context_of(config: Mapping[str, Any]) -> int | None:
    """The most tokens of a sequence, by a whole config.json with the defaults of its class; None without a limit.

    ALiBi and recurrent models have none; a sliding window is none. Angles of kind YaRN count with their factor, which
    some models state beside the context of their first training.
    """
    part = text_part(config)
    if part.get("alibi") is True:
        return None
    context = number(part, "context")
    if context is None:
        return None
    for rope in (part.get("rope_parameters"), part.get("rope_scaling")):
        if isinstance(rope, dict) and rope.get("rope_type", rope.get("type")) == "yarn":
            first, factor = rope.get("original_max_position_embeddings"), rope.get("factor")
            if _is_positive(first) and _is_positive(factor) and _is_positive(first * factor):
                context = max(context, int(first * factor))
    return context


def precision_of(entry: LLM) -> str:
    """The precision of an entry's weights: its `dtype`, else the checkpoint's own.

    That is what config.json states, else that of most values in the weights. Quantised values of GGUF files become
    bfloat16. Raises UserError for files that cannot be read.
    """
    if entry.dtype:
        return entry.dtype
    path = Path(entry.path)
    if path.suffix != ".gguf":
        if not (path / "config.json").exists():
            return UNKNOWN
        config = read_object(path / "config.json")
        for part in (config, text_part(config)):
            stated = str(part.get("dtype") or part.get("torch_dtype")).removeprefix("torch.")
            if (stated := OTHER_NAMES.get(stated, stated)) in BYTES:
                return stated
    elif not path.exists():
        return UNKNOWN
    size = size_of(path)
    return (size and size.precision) or FALLBACK


def plain_shape(config: Mapping[str, Any]) -> dict[str, Any]:
    """LLaMA's names and the numbers of a config.json of any family; raises KeyError for one that says too little."""
    part = text_part(config)
    shape: dict[str, Any] = {name: number(part, name) for name in NAMES}
    shape |= {name: number(part, name) for name in ("head_dim", "vocab_size", "moe_intermediate_size")}
    shape["tie_word_embeddings"] = bool(part.get("tie_word_embeddings", config.get("tie_word_embeddings")))
    if not shape["intermediate_size"] and shape["hidden_size"]:
        shape["intermediate_size"] = 4 * shape["hidden_size"]
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if not shape[name]:
            raise KeyError(name)
    return shape


def layer_parameters(shape: Mapping[str, Any], experts: str) -> int:
    """Parameters of a layer's products with a plain shape, of `experts` (all) or `experts_of_token` (a token's)."""
    width, heads = shape["hidden_size"], shape["num_attention_heads"]
    head, keys = shape["head_dim"] or width // heads, shape["num_key_value_heads"] or heads
    hidden = (shape["experts"] and shape["moe_intermediate_size"]) or shape["intermediate_size"]
    routing = width * (shape["experts"] or 0)
    return width * head * (2 * heads + 2 * keys) + 3 * width * hidden * (shape[experts] or 1) + routing


def parameters(config: Mapping[str, Any]) -> int:
    """Parameters of a LLaMA-like model (RMS norms, gated MLP, grouped queries, experts) with this config.json."""
    shape = plain_shape(config)
    width, layers = shape["hidden_size"], shape["num_hidden_layers"]
    embeddings = shape["vocab_size"] * width * (1 if shape["tie_word_embeddings"] else 2)
    return layers * (layer_parameters(shape, "experts") + 2 * width) + embeddings + width


def weight_bytes(entry: LLM) -> int | None:
    """Bytes of an entry's weights in its precision; None while its files are not there or say too little.

    From the headers of the weights, else from the files' sizes, else from config.json. Raises UserError for files that
    cannot be read.
    """
    path, each = Path(entry.path), BYTES[precision_of(entry)]
    if size := size_of(path):
        return size.values * each
    if path.suffix == ".gguf":
        return None
    files = weight_files(path)
    if files and all(file.is_file() for file in files):
        own = precision_of(entry.model_copy(update={"dtype": None}))
        return math.ceil(sum(file.stat().st_size for file in files) * each / BYTES[own])
    try:
        return parameters(read_object(path / "config.json")) * each
    except (UserError, KeyError):
        return None


def _is_positive(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
