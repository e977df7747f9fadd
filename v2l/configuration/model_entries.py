"""Registry entries of language models and image-text encoders."""

from typing import Annotated, Literal

from pydantic import Field

from v2l.configuration.entry import Entry, Template


class LLM(Entry):
    """A frozen causal language model."""

    path: str = Field(description="Hugging Face model folder (config.json, tokenizer, safetensors), or a .gguf file.")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float16", description="Precision of the forward pass. The paper does not say; the released code uses float16."
    )


class OpenClipEncoder(Entry):
    """An open_clip model from a local checkpoint."""

    kind: Literal["open_clip"]
    model: str = Field("ViT-L-14", description="open_clip architecture name, or the path of a model config .json.")
    weights: str = Field(description="Local checkpoint file (.pt, .bin or .safetensors).")
    quick_gelu: bool = Field(True, description="OpenAI's CLIP weights were trained with the QuickGELU activation.")


class ConseEncoder(Entry):
    """ConSE (Norouzi et al. 2013): an ImageNet classifier and a sentence encoder as one image-text encoder."""

    kind: Literal["conse"]
    text: str = Field(description="Hugging Face folder of a sentence encoder (mean pooling).")
    image: str = Field(description="EfficientNet-Lite0 ImageNet weights (.pth).")
    class_names: str = Field(description="JSON with the 1,000 ImageNet class names in label order.")
    top_classes: int = Field(10, ge=1, le=1000, description="Likeliest classes that make the image embedding.")
    class_template: Template = Field("a photo of a {}", description="Sentence that embeds a class name.")


Encoder = Annotated[OpenClipEncoder | ConseEncoder, Field(discriminator="kind")]
