"""Configuration of stage finetune_llm; part of v2l/configuration/config.py."""

from pydantic import Field, field_validator

from v2l.configuration.entry import Entry, TrainedPrecision


class LoRA(Entry):
    """Low-rank adapters (Hu et al. 2021); defaults as in the released model file."""

    rank: int = Field(4, ge=1, description="Width of an adapter.")
    alpha: int = Field(32, ge=1, description="Updates are scaled by alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Share of an adapter's inputs that training sets to 0.")
    modules: list[str] = Field(
        ["q_proj", "k_proj"], min_length=1, description="Names of the linear layers that get an adapter."
    )

    @field_validator("modules")
    @classmethod
    def _named_once(cls, modules: list[str]) -> list[str]:
        if twice := sorted({name for name in modules if modules.count(name) > 1}):
            raise ValueError(f"names {', '.join(twice)} twice")
        return modules


class FinetuneLLM(Entry):
    """LoRA fine-tuning for masked image restoration. Paper and released code state neither data, loss nor schedule."""

    lora: LoRA = LoRA()
    mask_share: float = Field(0.3, gt=0, lt=1, description="Share of the local tokens that is masked in training.")
    steps: int = Field(2000, ge=1, description="Updates of the adapters.")
    batch_size: int = Field(32, ge=1, description="Images of a step.")
    micro_batch_size: int = Field(4, ge=1, description="Images of a forward pass; gradients add up to the batch.")
    learning_rate: float = Field(2e-4, gt=0, description="At its peak.")
    warmup_share: float = Field(0.05, ge=0, lt=1, description="Share of the steps with a rising rate; a cosine falls.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Of AdamW.")
    weight_decay: float = Field(0.01, ge=0, description="Of AdamW.")
    max_gradient_norm: float = Field(1.0, gt=0, description="Gradients of a step are scaled down to this norm.")
    precision: TrainedPrecision = Field(
        "bfloat16", description="Of the frozen weights and activations; adapters and optimizer are float32."
    )
    held_out_images: int = Field(
        64, ge=0, description="Last images of the sample: not trained on, measured before and after training."
    )
    checkpoint_every: int = Field(100, ge=1, description="Steps between checkpoints in work/.")
    log_every: int = Field(10, ge=1, description="Steps between rows of the training metrics.")
