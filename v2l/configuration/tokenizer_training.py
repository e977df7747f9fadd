"""Configuration of stage train_tokenizer: networks, losses, optimisation; defaults as `Config` says."""

from typing import Annotated, Literal

from pydantic import Field

from v2l.configuration.entry import SELECTION, WATCHES, Entry, NeededWith, TrainedPrecision, UserFile


class Network(Entry):
    """Encoder, decoder and discriminator sizes (released: vqgan_configs/v2l.yaml)."""

    image_size: int = Field(128, ge=16, description="Side of the training image in pixels.")
    resize_via: int | None = Field(224, description="First resized and cropped to this side in pixels; null: directly.")
    channels: int = Field(128, ge=8, description="Channels of the first convolution; see `channel_multipliers`.")
    channel_multipliers: list[int] = Field(
        [1, 2, 2, 4],
        min_length=1,
        description="Channels of each resolution level in multiples of `channels`, finest first; every level but the "
        "last halves the side.",
    )
    residual_blocks: int = Field(2, ge=1, description="Residual blocks of a level; the decoder has one more.")
    norm_groups: int = Field(
        32, ge=1, description="Groups of every GroupNorm. With one channel a group a layer loses the image's own means."
    )
    latent_channels: int = Field(256, ge=1, description="Channels between encoder and quantizer convolutions.")
    attention_levels: list[int] = Field([], description="Resolution levels with self-attention, 0 the finest.")
    cross_attention_heads: int = Field(8, ge=1, description="Heads of the decoder's attention to the global codes.")
    cross_attention_head_channels: int = Field(512, ge=1, description="Channels of each of these heads.")
    cross_attention_residual: bool = Field(
        True, description="Add this attention's input to its output; without it space passes only as attention weights."
    )
    cross_attention_init: Literal["zero", "random"] = Field(
        "random",
        description="Its first output weights. zero: the decoder starts without global codes.",
    )
    learned_codebook_size: int = Field(16384, ge=2, description="Codes of the vqgan variant.")
    learned_codebook_channels: int = Field(256, ge=1, description="Width of the vqgan variant's codes.")
    discriminator_layers: int = Field(2, ge=1, description="Convolutions of stride 2 in the discriminator.")
    discriminator_channels: int = Field(64, ge=1, description="Channels of its first convolution; each doubles them.")


class Loss(Entry):
    """Weights of the training loss, and how its gradient passes the quantizer (docs/deviations.md)."""

    pixel: float = Field(1.0, ge=0, description="Weight of the distance of pixels in [-1, 1].")
    pixel_norm: Literal["l1", "l2"] = Field("l1", description="l1: mean absolute error; l2: mean square.")
    perceptual: float = Field(1.0, ge=0, description="Weight of LPIPS.")
    perceptual_dropout: bool = Field(False, description="LPIPS with its heads' dropout.")
    adversarial: float = Field(
        0.1, ge=0, description="Weight of the discriminator's judgement, times VQ-GAN's adaptive weight."
    )
    quantizer: float = Field(1.0, ge=0, description="Weight of the two terms below together.")
    codebook: float = Field(0.33, ge=0, description="Weight of the quantizer's codebook term. LQAE: 1.0.")
    commitment: float = Field(1.0, ge=0, description="Weight of its commitment term. LQAE: 0.005.")
    masked_lm: float = Field(0.0001, ge=0, description="Masked-LM cross-entropy of lqae alone (LQAE's code: 0.0001).")
    semantic: float = Field(0.1, ge=0, description="Weight of spae's semantic guidance.")
    estimator: Literal["straight-through", "rotation"] = Field(
        "straight-through",
        description="Gradient of the quantizer. rotation: turned and scaled as the vector is to its code.",
    )
    hidden_codes: float = Field(
        0.0, ge=0, lt=1, description="Share of local codes that the decoder does not see in training (v2l alone)."
    )
    discriminator_start: int = Field(10000, ge=0, description="Step after which generator and discriminator compete.")
    perceptual_weights: Annotated[UserFile, NeededWith("perceptual")] = Field(
        description="LPIPS VGG16 weights (.safetensors) for the `lpips` package's network."
    )


class Guard(Entry):
    """What counts as a collapsed training, and what happens then: docs/training.md.

    It judges windows of a set number of codes drawn, whatever the batch, and looks at no window that is not full.
    """

    action: Literal["stop", "warn", "off"] = Field(
        "stop",
        description="stop: the run ends with a checkpoint and says what to change; warn: it says so and goes on; off: "
        "nothing is judged. Whichever, a run with other settings of this section goes on from the same checkpoint.",
    )
    positions_per_code: float = Field(
        16.0, gt=0, description="Length of a window: token positions seen for each code of the codebook."
    )
    min_codes_share: float = Field(
        0.05, ge=0, le=1, description="A window that uses a smaller share of the codebook is low."
    )
    min_perplexity_share: float = Field(
        0.002, ge=0, le=1, description="So is one whose perplexity is a smaller share of the codebook's size."
    )
    min_discriminator_loss: float = Field(
        0.01, ge=0, description="So is one with a smaller mean hinge loss of the discriminator: it wins completely."
    )
    min_discriminator_gain: float = Field(
        0.001,
        ge=0,
        description="So is one whose discriminator loss is not at least so far below 1, the loss of one that says 0 of "
        "every image.",
    )
    after_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of the steps before the first window that is judged; for the discriminator counted from "
        "`loss.discriminator_start`.",
    )
    windows: int = Field(
        3, ge=1, description="So many low windows in a row are a collapse, if they span `patience_share` too."
    )
    patience_share: float = Field(
        0.01, ge=0, le=1, description="Share of the steps that the low windows in a row must span."
    )


class TrainTokenizer(Entry):
    """Training of every tokenizer variant."""

    dataset: str = Field(description="Data set of the training images, by its name in `datasets`.")
    splits: list[str] = Field(["train"], min_length=1, description="Splits of the data set that it trains on.")
    tokenizers: Annotated[list[str], SELECTION] = Field(
        [], description="Variants of the registry that this experiment trains."
    )
    network: Network = Network()
    loss: Loss
    epochs: int = Field(100, ge=1, description="Passes over the training images.")
    max_steps: int | None = Field(None, ge=1, description="Stop after so many steps, schedules scaled to it.")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising rate; a cosine falls.")
    global_batch_size: int = Field(256, ge=1, description="Images of a step, over all ranks.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Images a rank passes at once; gradients accumulate to the global batch. null: all."
    )
    learning_rate: float = Field(5e-4, gt=0, description="At its peak.")
    betas: tuple[float, float] = Field((0.5, 0.9), description="Of Adam.")
    epsilon: float = Field(1e-7, gt=0, description="Of Adam.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled (AdamW).")
    precision: TrainedPrecision = Field(
        "float32",
        description="Of the networks; codes are searched and losses computed in float32, whichever. No float16: small "
        "gradients would be zero in it.",
    )
    compile: bool = Field(
        False, description="torch.compile the networks. A first start takes minutes; what it makes stays in work/."
    )
    augmentation: Literal["none", "flip", "random-resized-crop"] = Field(
        "none", description="flip: half of them; random-resized-crop: scale 0.2 to 1 and flip, as LQAE trains."
    )
    decoded_images: Annotated[bool, WATCHES] = Field(
        False,
        description="Read the pictures from a file that stage decode_images makes once: 3 bytes a pixel, 63 GB for "
        "ImageNet at 128 pixels. Same weights; a GPU then needs no dozen cores. Not with random-resized-crop.",
    )
    discriminator_step: Literal["reuse", "rerun"] = Field(
        "reuse",
        description="What the discriminator sees as fake. reuse: the generator step's output; rerun: the updated "
        "network's, run again.",
    )
    rank_statistics: Literal["all", "each"] = Field(
        "all", description="Batch statistics and adaptive weight over all ranks, or of each rank alone."
    )
    projector_init: Literal["match-moments", "normal"] = Field(
        "match-moments",
        description="The projector's first weights. match-moments prevents codebook collapse; normal: N(0, d^-1/2).",
    )
    match_every: int = Field(20, ge=1, description="Steps from one match of the projector to the next.")
    match_until: float = Field(
        0.5, ge=0, le=1, description="Share of the steps until which it is matched again; 0: before the first alone."
    )
    projector_learning_rate: float = Field(0.01, ge=0, description="Of the projector, in multiples of `learning_rate`.")
    discriminator_learning_rate: float = Field(
        1.0, gt=0, description="Of the discriminator, in multiples of `learning_rate`."
    )
    average_decay: float = Field(
        0.0, ge=0, lt=1, description="Decay a step of the moving average of the weights that is kept; 0: the last ones."
    )
    global_tokens: int = Field(21, ge=1, description="Global codes shown to the decoder.")
    checkpoint_every: int = Field(1000, ge=1, description="Steps between checkpoints in work/.")
    log_every: int = Field(20, ge=1, description="Steps between lines of metrics.jsonl.")
    guard: Annotated[Guard, WATCHES] = Guard()
