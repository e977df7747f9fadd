"""A LLaMA of one layer as a GGUF file."""

from pathlib import Path

import gguf
import numpy as np
from transformers.convert_slow_tokenizer import bytes_to_unicode


def write_gguf(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """Write the file; returns its tokens and its weights by GGUF name."""
    tokens = ["<s>", "</s>", "<|endoftext|>", *bytes_to_unicode().values(), "ab"]
    width, heads, hidden = 16, 2, 24
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3] + [1] * (len(tokens) - 3))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (len(tokens), width), "output_norm": (width,)}
    square, block = (width, width), "blk.0."
    shapes |= {f"{block}attn_{part}": square for part in ("q", "k", "v", "output")}
    shapes |= {
        f"{block}ffn_gate": (hidden, width),
        f"{block}ffn_up": (hidden, width),
        f"{block}ffn_down": (width, hidden),
    }
    shapes |= {f"{block}attn_norm": (width,), f"{block}ffn_norm": (width,)}
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    for name, weight in weights.items():
        writer.add_tensor(f"{name}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tokens, weights
