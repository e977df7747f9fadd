"""The table of language model families: architecture, settings at two layers, style of its tokenizer and verdict.

A line more tries another family in every test of this folder, and asks for its line in docs/bring-your-own.md.
"""

from typing import Any, NamedTuple

CONTEXT = 192
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.4,  # far from uniform logits, so that greedy choices are clear
}
PLAIN = SIZES | {"intermediate_size": 64}
GROUPED = PLAIN | {"num_key_value_heads": 2}
HEADS = GROUPED | {"head_dim": 8}
WINDOW = {"sliding_window": 8}
HALF_WINDOWS = WINDOW | {"layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8}
ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 16}
FEW_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT, "initializer_range": 0.4}
BERT = PLAIN | {"is_decoder": True}
LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
STATES = {"hidden_size": 32, "state_size": 8, "num_hidden_layers": 2, "initializer_range": 0.4}
MAMBA_HEADS = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}
BYTES = "byte-level BPE"
ADDED = "byte-level BPE with added tokens"
BYTES_BOS = "byte-level BPE with BOS"
EOS_FIRST = "byte-level BPE with EOS in front"
PIECES = "SentencePiece BPE"
CLOSED = "SentencePiece BPE, closed"
NO_PREFIX = "SentencePiece BPE without prefix"
UNIGRAM = "Unigram"
UNIGRAM_CLOSED = "Unigram, closed"
WORDPIECE = "WordPiece, closed"


class Family(NamedTuple):
    """`network` and `config` are classes of transformers; `context` is the most tokens, None without a limit."""

    network: str
    config: str
    sizes: dict[str, Any]
    tokenizer: str
    context: int | None = CONTEXT


SUPPORTED = {
    "Llama": Family("LlamaForCausalLM", "LlamaConfig", GROUPED, PIECES),
    "Llama, closing tokenizer": Family("LlamaForCausalLM", "LlamaConfig", GROUPED, CLOSED),
    "Llama 3": Family("LlamaForCausalLM", "LlamaConfig", GROUPED, BYTES_BOS),
    "Mistral": Family("MistralForCausalLM", "MistralConfig", GROUPED | WINDOW, PIECES),
    "Ministral": Family("MinistralForCausalLM", "MinistralConfig", HEADS | HALF_WINDOWS, BYTES_BOS),
    "Mixtral": Family("MixtralForCausalLM", "MixtralConfig", GROUPED | EXPERTS, PIECES),
    "Gemma": Family("GemmaForCausalLM", "GemmaConfig", HEADS, NO_PREFIX),
    "Gemma 2": Family("Gemma2ForCausalLM", "Gemma2Config", HEADS | WINDOW, NO_PREFIX),
    "Gemma 3": Family("Gemma3ForCausalLM", "Gemma3TextConfig", HEADS | HALF_WINDOWS, NO_PREFIX),
    "Gemma 3 with pictures": Family(
        "Gemma3ForConditionalGeneration",
        "Gemma3Config",
        {"text_config": HEADS | HALF_WINDOWS, "vision_config": VISION, "mm_tokens_per_image": 4},
        NO_PREFIX,
    ),
    "Qwen 2": Family("Qwen2ForCausalLM", "Qwen2Config", GROUPED, ADDED),
    "Qwen 2 MoE": Family(
        "Qwen2MoeForCausalLM", "Qwen2MoeConfig", GROUPED | FEW_EXPERTS | {"shared_expert_intermediate_size": 16}, ADDED
    ),
    "Qwen 3": Family("Qwen3ForCausalLM", "Qwen3Config", HEADS, ADDED),
    "Qwen 3 MoE": Family("Qwen3MoeForCausalLM", "Qwen3MoeConfig", HEADS | FEW_EXPERTS, ADDED),
    "Qwen 3 Next": Family(
        "Qwen3NextForCausalLM",
        "Qwen3NextConfig",
        HEADS | FEW_EXPERTS | LINEAR | {"shared_expert_intermediate_size": 16},
        ADDED,
    ),
    "Qwen 3.5": Family("Qwen3_5ForCausalLM", "Qwen3_5TextConfig", HEADS | LINEAR, ADDED),
    "Phi": Family("PhiForCausalLM", "PhiConfig", PLAIN, BYTES),
    "Phi 3": Family("Phi3ForCausalLM", "Phi3Config", GROUPED | WINDOW, PIECES),
    "Phi 3 with longrope": Family(
        "Phi3ForCausalLM",
        "Phi3Config",
        GROUPED | {"rope_parameters": LONGROPE, "original_max_position_embeddings": 32},
        PIECES,
    ),
    "Phi 3.5 MoE": Family("PhimoeForCausalLM", "PhimoeConfig", GROUPED | EXPERTS, PIECES),
    "GPT-2": Family("GPT2LMHeadModel", "GPT2Config", GPT, BYTES),
    "GPT-Neo": Family(
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]]}
        | {"window_size": 8, "max_position_embeddings": CONTEXT, "initializer_range": 0.4},
        BYTES,
    ),
    "GPT-J": Family("GPTJForCausalLM", "GPTJConfig", GPT | {"rotary_dim": 4}, BYTES),
    "GPT-NeoX": Family("GPTNeoXForCausalLM", "GPTNeoXConfig", PLAIN, BYTES),
    "GPT-BigCode": Family("GPTBigCodeForCausalLM", "GPTBigCodeConfig", GPT, BYTES),
    "CodeGen": Family("CodeGenForCausalLM", "CodeGenConfig", GPT | {"rotary_dim": 4}, BYTES),
    "OPT": Family(
        "OPTForCausalLM",
        "OPTConfig",
        {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "init_std": 0.4}
        | {"max_position_embeddings": CONTEXT, "word_embed_proj_dim": 32},
        EOS_FIRST,
    ),
    "BLOOM": Family(
        "BloomForCausalLM",
        "BloomConfig",
        {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.4},
        BYTES,
        None,
    ),
    "Falcon": Family("FalconForCausalLM", "FalconConfig", SIZES, BYTES),
    "Falcon with ALiBi": Family("FalconForCausalLM", "FalconConfig", SIZES | {"alibi": True}, BYTES, None),
    "Falcon, new decoder": Family(
        "FalconForCausalLM", "FalconConfig", SIZES | {"new_decoder_architecture": True, "num_kv_heads": 2}, BYTES
    ),
    "MPT": Family(
        "MptForCausalLM",
        "MptConfig",
        {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": CONTEXT, "initializer_range": 0.4},
        BYTES,
    ),
    "StableLM": Family("StableLmForCausalLM", "StableLmConfig", GROUPED, BYTES),
    "StarCoder 2": Family("Starcoder2ForCausalLM", "Starcoder2Config", GROUPED | WINDOW, BYTES),
    "Cohere": Family("CohereForCausalLM", "CohereConfig", GROUPED, BYTES_BOS),
    "Cohere 2": Family("Cohere2ForCausalLM", "Cohere2Config", GROUPED | HALF_WINDOWS, BYTES_BOS),
    "OLMo": Family("OlmoForCausalLM", "OlmoConfig", GROUPED, BYTES),
    "OLMo 2": Family("Olmo2ForCausalLM", "Olmo2Config", GROUPED, BYTES),
    "OLMo 3": Family("Olmo3ForCausalLM", "Olmo3Config", GROUPED | HALF_WINDOWS, BYTES),
    "OLMoE": Family("OlmoeForCausalLM", "OlmoeConfig", GROUPED | {"num_experts": 4, "num_experts_per_tok": 2}, BYTES),
    "Granite": Family("GraniteForCausalLM", "GraniteConfig", GROUPED, BYTES),
    "Granite MoE": Family("GraniteMoeForCausalLM", "GraniteMoeConfig", GROUPED | EXPERTS, BYTES),
    "gpt-oss": Family(
        "GptOssForCausalLM",
        "GptOssConfig",
        HEADS | WINDOW | EXPERTS | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
        ADDED,
    ),
    "EXAONE 4": Family("Exaone4ForCausalLM", "Exaone4Config", GROUPED | HALF_WINDOWS, ADDED),
    "DeepSeek-V2": Family(
        "DeepseekV2ForCausalLM",
        "DeepseekV2Config",
        PLAIN | LATENT | ROUTED | {"first_k_dense_replace": 1, "topk_group": 1, "n_group": 1},
        BYTES_BOS,
    ),
    "DeepSeek-V3": Family(
        "DeepseekV3ForCausalLM",
        "DeepseekV3Config",
        PLAIN | LATENT | ROUTED | {"first_k_dense_replace": 1, "topk_group": 1, "n_group": 1},
        BYTES_BOS,
    ),
    "GLM 4": Family("Glm4ForCausalLM", "Glm4Config", HEADS, ADDED),
    "SmolLM 3": Family("SmolLM3ForCausalLM", "SmolLM3Config", GROUPED, BYTES_BOS),
    "Nemotron": Family("NemotronForCausalLM", "NemotronConfig", GROUPED, PIECES),
    "Persimmon": Family("PersimmonForCausalLM", "PersimmonConfig", PLAIN, UNIGRAM),
    "XGLM": Family(
        "XGLMForCausalLM",
        "XGLMConfig",
        {"d_model": 32, "ffn_dim": 64, "num_layers": 2, "attention_heads": 4, "max_position_embeddings": CONTEXT}
        | {"init_std": 0.4},
        UNIGRAM,
    ),
    "BioGPT": Family("BioGptForCausalLM", "BioGptConfig", PLAIN, EOS_FIRST),
    "Llama 4": Family(
        "Llama4ForCausalLM",
        "Llama4TextConfig",
        HEADS
        | {"attention_chunk_size": 8, "num_local_experts": 2, "intermediate_size_mlp": 64}
        | {"layer_types": ["chunked_attention", "full_attention"]},
        BYTES_BOS,
    ),
    "Apertus": Family("ApertusForCausalLM", "ApertusConfig", GROUPED, ADDED),
    "Arcee": Family("ArceeForCausalLM", "ArceeConfig", GROUPED, BYTES_BOS),
    "Seed-OSS": Family("SeedOssForCausalLM", "SeedOssConfig", HEADS, ADDED),
    "MiniMax": Family(
        "MiniMaxForCausalLM",
        "MiniMaxConfig",
        HEADS | EXPERTS | {"layer_types": ["linear_attention", "full_attention"], "block_size": 8},
        ADDED,
    ),
    "RoFormer as decoder": Family("RoFormerForCausalLM", "RoFormerConfig", BERT, WORDPIECE),
    "BERT as decoder": Family("BertLMHeadModel", "BertConfig", BERT, WORDPIECE),
    "LFM 2": Family("Lfm2ForCausalLM", "Lfm2Config", GROUPED | {"layer_types": ["conv", "full_attention"]}, BYTES_BOS),
    "Mamba": Family("MambaForCausalLM", "MambaConfig", STATES, BYTES, None),
    "Mamba 2": Family(
        "Mamba2ForCausalLM", "Mamba2Config", STATES | {"num_heads": 8, "head_dim": 8, "n_groups": 1}, BYTES, None
    ),
    "Falcon-Mamba": Family("FalconMambaForCausalLM", "FalconMambaConfig", STATES, BYTES, None),
    "Jamba": Family(
        "JambaForCausalLM",
        "JambaConfig",
        GROUPED
        | {"mamba_d_state": 8, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2}
        | {"num_experts_per_tok": 1, "use_mamba_kernels": False},
        PIECES,
    ),
    "Bamba": Family("BambaForCausalLM", "BambaConfig", GROUPED | MAMBA_HEADS | {"attn_layer_indices": [1]}, BYTES_BOS),
    "Falcon H1": Family("FalconH1ForCausalLM", "FalconH1Config", GROUPED | MAMBA_HEADS | {"mamba_d_ssm": 64}, BYTES),
    "Granite 4 hybrid": Family(
        "GraniteMoeHybridForCausalLM",
        "GraniteMoeHybridConfig",
        GROUPED | EXPERTS | MAMBA_HEADS | {"layer_types": ["mamba", "attention"], "shared_intermediate_size": 16},
        BYTES,
    ),
    "Zamba 2": Family(
        "Zamba2ForCausalLM",
        "Zamba2Config",
        PLAIN
        | {"mamba_d_state": 8, "mamba_ngroups": 1, "n_mamba_heads": 8, "mamba_headdim": 8, "num_mem_blocks": 1}
        | {"layers_block_type": ["mamba", "hybrid"], "attention_head_dim": 16},
        PIECES,
    ),
    "RecurrentGemma": Family(
        "RecurrentGemmaForCausalLM",
        "RecurrentGemmaConfig",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
        | {"intermediate_size": 64, "lru_width": 32, "attention_window_size": 8, "initializer_range": 0.4}
        | {"block_types": ["recurrent", "attention"]},
        NO_PREFIX,
        None,
    ),
}
UNPADDED = {  # batches hold prompts of one length, which the model's own loop continues
    "Qwen 3 Next",
    "Qwen 3.5",
    "Phi 3 with longrope",
    "MiniMax",
    "RoFormer as decoder",
    "LFM 2",
    "Mamba",
    "Mamba 2",
    "Falcon-Mamba",
    "Jamba",
    "Bamba",
    "Falcon H1",
    "Granite 4 hybrid",
    "Zamba 2",
    "RecurrentGemma",
}
REFUSED = {  # family and what the message says
    "BERT": (Family("BertLMHeadModel", "BertConfig", PLAIN, WORDPIECE), "is not causal"),
    "RoBERTa": (Family("RobertaForCausalLM", "RobertaConfig", PLAIN, EOS_FIRST), "is not causal"),
    "RoBERTa as decoder": (
        Family("RobertaForCausalLM", "RobertaConfig", BERT, EOS_FIRST),
        "answers otherwise with a cache than without",
    ),
    "ELECTRA": (
        Family("ElectraForCausalLM", "ElectraConfig", PLAIN | {"embedding_size": 32}, WORDPIECE),
        "is not causal",
    ),
    "XLNet": (
        Family("XLNetLMHeadModel", "XLNetConfig", {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64}, UNIGRAM),
        "is not causal",
    ),
    "RWKV": (
        Family(
            "RwkvForCausalLM",
            "RwkvConfig",
            {"hidden_size": 32, "num_hidden_layers": 2, "attention_hidden_size": 32, "context_length": CONTEXT},
            BYTES,
        ),
        "answers otherwise with a cache than without",
    ),
    "T5": (
        Family(
            "T5ForConditionalGeneration",
            "T5Config",
            {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
            UNIGRAM_CLOSED,
        ),
        "holds a model of an encoder and a decoder",
    ),
    "BART": (
        Family(
            "BartForConditionalGeneration",
            "BartConfig",
            {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
            | {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": CONTEXT},
            EOS_FIRST,
        ),
        "holds a model of an encoder and a decoder",
    ),
    "LLaVA": (
        Family(
            "LlavaForConditionalGeneration",
            "LlavaConfig",
            {
                "text_config": GROUPED | {"model_type": "llama"},
                "vision_config": VISION | {"model_type": "siglip_vision_model"},
            },
            PIECES,
        ),
        "not as a causal language model",
    ),
}
QUANTISED = {  # the entries of config.json, and what the message says
    "GPTQ": ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantization_config: gptq"),
    "AWQ": ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "quantization_config: awq"),
    "bitsandbytes": ({"quantization_config": {"load_in_4bit": True}}, "quantization_config: bitsandbytes"),
    "compressed-tensors": (
        {"quantization_config": {"quant_method": "compressed-tensors"}},
        "quantization_config: compressed-tensors",
    ),
    "FP8": ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config: fp8"),
    "MXFP4 (gpt-oss as released)": ({"quantization_config": {"quant_method": "mxfp4"}}, "quantization_config: mxfp4"),
}
