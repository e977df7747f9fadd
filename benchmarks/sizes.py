"""How large the random models are and how much they are asked: the paper's sizes, and smaller ones."""

from dataclasses import dataclass, field
from typing import Any

from v2l.configuration.tokenizer_training import Network

LLAMA_7B = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
}
LLAMA_SMALL = LLAMA_7B | {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
LLAMA_TINY = LLAMA_SMALL | {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 2000,
}
CLIP_TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@dataclass(frozen=True)
class Asked:
    """How many items the pipeline's own path and the published procedure get in a round."""

    own: int
    published: int


@dataclass(frozen=True)
class Sizes:
    """Models, precisions of each stage and items."""

    llama: dict[str, Any]
    train_batch: int
    images: Asked
    squares: Asked
    entries: Asked
    templates: int
    filtered: Asked
    tokenized: Asked
    scored: Asked
    subwords: Asked
    prompts: Asked
    finetuned: Asked
    train_precisions: tuple[str, ...] = ("float32",)
    encoder_precisions: tuple[str, ...] = ("float32",)
    tokenizer_precisions: tuple[str, ...] = ("float32",)
    llm_precision: str = "float32"
    finetune_precision: str = "float32"
    network: Network = field(default_factory=Network)
    global_tokens: int = 21
    local_codes: int = 32_000
    global_codes: int = 11_908
    vocabulary: int = 96_000
    clip: str | dict[str, Any] = "ViT-L-14"
    feature_width: int = 768
    frechet: str = "inception-v3-fid"


GPU = Sizes(
    llama=LLAMA_7B,
    train_batch=64,
    images=Asked(512, 512),
    squares=Asked(512, 512),
    entries=Asked(256, 8),
    templates=80,
    filtered=Asked(16_384, 16_384),
    tokenized=Asked(512, 32),
    scored=Asked(512, 64),
    subwords=Asked(4096, 32),
    prompts=Asked(256, 8),
    finetuned=Asked(32, 32),
    train_precisions=("float32", "tf32", "bfloat16"),
    encoder_precisions=("float32", "tf32", "float16"),
    tokenizer_precisions=("float32", "tf32", "bfloat16"),
    llm_precision="float16",
    finetune_precision="bfloat16",
)
CPU = Sizes(
    llama=LLAMA_SMALL,
    train_batch=2,
    images=Asked(4, 2),
    squares=Asked(4, 2),
    entries=Asked(32, 2),
    templates=8,
    filtered=Asked(1024, 1024),
    tokenized=Asked(4, 2),
    scored=Asked(16, 8),
    subwords=Asked(256, 8),
    prompts=Asked(8, 3),
    finetuned=Asked(2, 2),
)
QUICK = Sizes(
    llama=LLAMA_TINY,
    train_batch=4,
    images=Asked(12, 6),
    squares=Asked(12, 6),
    entries=Asked(24, 4),
    templates=3,
    filtered=Asked(512, 512),
    tokenized=Asked(8, 4),
    scored=Asked(6, 3),
    subwords=Asked(64, 8),
    prompts=Asked(16, 4),
    finetuned=Asked(4, 4),
    network=Network(
        image_size=32,
        resize_via=None,
        channels=8,
        channel_multipliers=[1, 1, 2],
        residual_blocks=1,
        norm_groups=4,
        latent_channels=8,
        cross_attention_heads=2,
        cross_attention_head_channels=4,
        discriminator_channels=8,
    ),
    global_tokens=3,
    local_codes=300,
    global_codes=50,
    vocabulary=2000,
    clip=CLIP_TINY,
    feature_width=32,
    frechet="efficientnet-lite0",
)


def sizes_of(device: str, quick: bool) -> Sizes:
    """The paper's sizes on a GPU; on CPUs a language model of 134 million parameters and fewer items."""
    return QUICK if quick else GPU if device == "cuda" else CPU
