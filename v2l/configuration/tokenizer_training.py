"""Configuration of stage train_tokenizer: networks, losses, optimisation; defaults as `Config` says."""

from typing import Literal

from pydantic import Field

from v2l.configuration.entry import Entry
from v2l.configuration.tokenizer_entries import TokenizerEntry


class Geometry(Entry):
    """What a tokenizer sees of an image, and how many local tokens it makes of it."""

    image_size: int = Field(description="Side of the square image in pixels.")
    resize_via: int | None = Field(description="First resized and cropped to this side; null: directly.")
    grid: int = Field(description="Side of the square map of local tokens.")


class Network(Entry):
    """Encoder, decoder and discriminator sizes (released: vqgan_configs/v2l.yaml)."""

    image_size: int = Field(128, ge=16, description="Side of the training image in pixels.")
    resize_via: int | None = Field(
        224, description="First resized and cropped to this side (released); null: directly."
    )
    channels: int = Field(128, ge=8)
    channel_multipliers: list[int] = Field([1, 2, 2, 4], min_length=1)
    residual_blocks: int = Field(2, ge=1)
    latent_channels: int = Field(256, ge=1, description="Channels between encoder and quantizer convolutions.")
    attention_levels: list[int] = Field([], description="Resolution levels with self-attention; the paper's run: none.")
    cross_attention_heads: int = Field(8, ge=1)
    cross_attention_head_channels: int = Field(512, ge=1)
    cross_attention_residual: bool = Field(True, description="released: false, which passes space only as weights.")
    learned_codebook_size: int = Field(16384, ge=2, description="Codes of the vqgan variant.")
    learned_codebook_channels: int = Field(256, ge=1, description="Width of the vqgan variant's codes.")
    discriminator_layers: int = Field(2, ge=1)
    discriminator_channels: int = Field(64, ge=1)

    @property
    def geometry(self) -> Geometry:
        """Image and token map of a tokenizer with this network."""
        grid = self.image_size // 2 ** (len(self.channel_multipliers) - 1)
        return Geometry(image_size=self.image_size, resize_via=self.resize_via, grid=grid)


class Loss(Entry):
    """Weights of the training loss. Paper and released code disagree: docs/deviations.md."""

    pixel: float = Field(1.0, ge=0)
    pixel_norm: Literal["l1", "l2"] = Field("l1", description="l1: mean absolute error (released); l2: mean square.")
    perceptual: float = Field(1.0, ge=0, description="paper: 1.0. released: 0.1.")
    perceptual_dropout: bool = Field(False, description="LPIPS with its heads' dropout. released: true, by accident.")
    adversarial: float = Field(0.1, ge=0, description="Times the adaptive weight. paper: 0.1. released: 0.75.")
    quantizer: float = Field(1.0, ge=0, description="released: 1.0.")
    codebook: float = Field(0.33, ge=0, description="Weight of the quantizer's codebook term (released). LQAE: 1.0.")
    commitment: float = Field(1.0, ge=0, description="Weight of its commitment term (released). LQAE: 0.005.")
    masked_lm: float = Field(0.0001, ge=0, description="Masked-LM cross-entropy of lqae alone (LQAE's code: 0.0001).")
    semantic: float = Field(0.1, ge=0, description="Weight of spae's semantic guidance.")
    discriminator_start: int = Field(10000, ge=0, description="Step after which generator and discriminator compete.")
    perceptual_weights: str = Field(description="LPIPS VGG16 weights (.safetensors) for the `lpips` package's network.")


class TrainTokenizer(Entry):
    """Training of every tokenizer variant."""

    dataset: str
    split: str = "train"
    tokenizers: list[str] = Field([], description="Variants of the registry that this experiment trains.")
    network: Network = Network()
    loss: Loss
    epochs: int = Field(100, ge=1, description="paper: 100.")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many steps, schedules scaled to it.")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="paper: 5 of 100 epochs.")
    global_batch_size: int = Field(256, ge=1, description="8 x 32 is inferred; released: 8 on one GPU.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Images a rank passes at once; gradients accumulate to the global batch. null: all."
    )
    learning_rate: float = Field(5e-4, gt=0, description="paper: 5e-4. released: 4.5e-4.")
    betas: tuple[float, float] = Field((0.5, 0.9), description="Of Adam (released).")
    epsilon: float = Field(1e-7, gt=0, description="Of Adam (released).")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled (AdamW). released: none.")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="bfloat16 runs under autocast. released: float32."
    )
    compile: bool = Field(False, description="torch.compile the networks: faster on GPUs, minutes to start.")
    augmentation: Literal["none", "random-resized-crop"] = Field(
        "none", description="released: none. random-resized-crop: scale 0.2 to 1 and flip, as LQAE trains."
    )
    discriminator_step: Literal["reuse", "rerun"] = Field(
        "reuse",
        description="What the discriminator sees as fake: the generator step's output, or (released: rerun) the "
        "updated network's, run again.",
    )
    rank_statistics: Literal["all", "each"] = Field(
        "all", description="Batch statistics and adaptive weight over all ranks or (released: each) of each rank alone."
    )
    projector_init: Literal["match-moments", "normal"] = Field(
        "match-moments", description="match-moments prevents codebook collapse; released: normal, N(0, d^-1/2)."
    )
    match_steps: list[int] = Field([0, 20, 60, 120], description="Steps at which match-moments is applied.")
    global_tokens: int = Field(21, ge=1, description="Global codes shown to the decoder.")
    checkpoint_every: int = Field(1000, ge=1, description="Steps between checkpoints in work/.")
    log_every: int = Field(20, ge=1)


def merge(base: dict, override: dict) -> dict:
    """`base` with the keys of `override`: mappings merge key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in override.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def training_settings(section: TrainTokenizer, entry: TokenizerEntry) -> TrainTokenizer:
    """`section` as the variant `entry` of the registry changes it. Raises pydantic's ValidationError."""
    return TrainTokenizer.model_validate(merge(section.model_dump(), entry.train_tokenizer))
