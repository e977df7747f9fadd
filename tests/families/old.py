"""The engine's batches equal each prompt alone, whatever the architecture counts: positions, slots, windows, chunks."""

import pytest
import torch
import transformers

from v2l.llm.engine import generate
from v2l.llm.row_layout import can_pad
from v2l.llm.token_budget import TokenBudget, bytes_needed

PLAIN = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,  # far from uniform logits, so that greedy choices are clear
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = PLAIN | {"num_key_value_heads": 2}
WINDOW = GROUPED | {"sliding_window": 8}
HALF_WINDOWS = WINDOW | {"layer_types": ["sliding_attention", "full_attention"]}
HEADS = {"head_dim": 8}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
FEW = {"vocab_size": 120, "hidden_size": 32, "initializer_range": 0.4}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
}

ARCHITECTURES = {
    "Llama": ("LlamaForCausalLM", "LlamaConfig", GROUPED),
    "Mistral": ("MistralForCausalLM", "MistralConfig", WINDOW),
    "Gemma2": ("Gemma2ForCausalLM", "Gemma2Config", WINDOW | HEADS),
    "Gemma3": ("Gemma3ForCausalLM", "Gemma3TextConfig", HALF_WINDOWS | HEADS),
    "Qwen2": ("Qwen2ForCausalLM", "Qwen2Config", GROUPED),
    "Qwen3": ("Qwen3ForCausalLM", "Qwen3Config", GROUPED | HEADS),
    "Phi3": ("Phi3ForCausalLM", "Phi3Config", WINDOW),
    "Phi3 beyond its first context": (
        "Phi3ForCausalLM",
        "Phi3Config",
        GROUPED | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 32},
    ),
    "GPT-2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": 120, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "initializer_range": 0.4}
        | {"bos_token_id": 1, "eos_token_id": 2},
    ),
    "GPT-NeoX": ("GPTNeoXForCausalLM", "GPTNeoXConfig", PLAIN),
    "OPT": (
        "OPTForCausalLM",
        "OPTConfig",
        {"vocab_size": 120, "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        | {"max_position_embeddings": 64, "init_std": 0.4, "word_embed_proj_dim": 32},
    ),
    "BLOOM": ("BloomForCausalLM", "BloomConfig", FEW | {"n_layer": 2, "n_head": 4}),
    "Falcon": ("FalconForCausalLM", "FalconConfig", FEW | {"num_hidden_layers": 2, "num_attention_heads": 4}),
    "Falcon with ALiBi": (
        "FalconForCausalLM",
        "FalconConfig",
        FEW | {"num_hidden_layers": 2, "num_attention_heads": 4, "alibi": True},
    ),
    "MPT": (
        "MptForCausalLM",
        "MptConfig",
        {"vocab_size": 120, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64, "initializer_range": 0.4},
    ),
    "GPT-Neo": (
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        FEW
        | {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8}
        | {"max_position_embeddings": 64, "bos_token_id": 1, "eos_token_id": 2},
    ),
    "Cohere2": ("Cohere2ForCausalLM", "Cohere2Config", HALF_WINDOWS),
    "OLMo-3": ("Olmo3ForCausalLM", "Olmo3Config", HALF_WINDOWS),
    "gpt-oss": (
        "GptOssForCausalLM",
        "GptOssConfig",
        WINDOW | HEADS | EXPERTS | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    ),
    "EXAONE-4": ("Exaone4ForCausalLM", "Exaone4Config", HALF_WINDOWS | {"sliding_window_pattern": 2}),
    "Mixtral": ("MixtralForCausalLM", "MixtralConfig", WINDOW | EXPERTS),
    "Llama-4": (
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        GROUPED
        | HEADS
        | {"attention_chunk_size": 8, "num_local_experts": 2, "intermediate_size_mlp": 64}
        | {"layer_types": ["chunked_attention", "full_attention"]},
    ),
    "LFM2": ("Lfm2ForCausalLM", "Lfm2Config", GROUPED | {"layer_types": ["conv", "full_attention"]}),
}


def model_of(name: str) -> transformers.PreTrainedModel:
    network, config, sizes = ARCHITECTURES[name]
    torch.manual_seed(0)
    return getattr(transformers, network)(getattr(transformers, config)(**sizes)).eval()


@torch.inference_mode()
def alone(model: transformers.PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """The greedy continuation of one prompt with the model's own cache."""
    cache, token_1T, made = transformers.DynamicCache(config=model.config), torch.tensor([prompt]), []
    while len(made) < count:
        token_1T = model(token_1T, past_key_values=cache, use_cache=True).logits[:, -1:].argmax(-1)
        made.append(int(token_1T))
    return made


@pytest.fixture(scope="module")
def prompts() -> list[list[int]]:
    """20 common tokens, then 1 to 28 of their own: more padding than prefix, and more than a window, in one batch."""
    generator = torch.Generator().manual_seed(3)
    head, *tails = (torch.randint(3, 120, (n,), generator=generator).tolist() for n in (20, 3, 9, 1, 28, 9, 17))
    return [head + tail for tail in tails]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_batches_equal_each_prompt_alone(name, prompts):
    model = model_of(name)
    expected = [alone(model, prompt, 5) for prompt in prompts]
    assert len({token for row in expected for token in row}) > 5
    for batch_size, tokens in ((1, 4096), (2, 4096), (3, 4096), (None, 4096), (None, 120), (None, 1)):
        budget = TokenBudget(model)
        budget.tokens = tokens
        assert generate(model, prompts, 5, batch_size, budget=budget) == expected, (batch_size, tokens)


def test_what_keeps_more_than_keys_of_tokens_runs_unpadded():
    unpadded = {name for name in ARCHITECTURES if not can_pad(model_of(name), 53)}
    assert unpadded == {"LFM2", "Phi3 beyond its first context"}
    assert can_pad(model_of("Phi3 beyond its first context"), 32)


def test_the_bytes_of_a_token_are_those_of_its_keys_and_values():
    cached, passing, logits = bytes_needed(model_of("Llama"))
    assert cached == 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, their width, float32
    assert passing == 8 * 64 * 4 and logits == 3 * 120 * 4
