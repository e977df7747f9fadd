"""Registry entries of language models and image-text encoders."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from v2l.configuration.entry import Entry, OptionalPrecision, Precision, Template, UserFile
from v2l.configuration.registry import EntryOf, Registry

KIND = Field(description="Which model it is; decides the other keys.")
PRECISION: Any = Field("float32", description="Of both towers; features are float32, whichever.")


class LLM(Entry):
    """A frozen causal language model."""

    path: UserFile = Field(
        description="Hugging Face model folder (config.json, tokenizer, safetensors), or a .gguf file."
    )
    dtype: OptionalPrecision = Field(
        None,
        description="Precision of weights and forward pass; tf32: float32 weights. Not set: that of the checkpoint "
        "(config.json, else its weights; quantised GGUF: bfloat16). Models made in bfloat16 can overflow in float16.",
    )


class Encoder(Entry):
    """Base of image-text encoders; `implementation` is a class of them."""

    implementation: ClassVar[str]

    kind: Annotated[str, KIND]


class OpenClipEncoder(Encoder):
    """An open_clip model from a local checkpoint."""

    implementation: ClassVar[str] = "v2l.encoders.open_clip:OpenClip"

    kind: Annotated[Literal["open_clip"], KIND]
    weights: UserFile = Field(description="Local checkpoint file (.pt, .bin or .safetensors).")
    precision: Precision = PRECISION
    model: str = Field("ViT-L-14", description="open_clip architecture name, or the path of a model config .json.")
    quick_gelu: bool = Field(True, description="OpenAI's CLIP weights were trained with the QuickGELU activation.")


class ConseEncoder(Encoder):
    """ConSE (Norouzi et al. 2013): an ImageNet classifier and a sentence encoder as one image-text encoder."""

    implementation: ClassVar[str] = "v2l.encoders.conse:Conse"

    kind: Annotated[Literal["conse"], KIND]
    text: UserFile = Field(description="Hugging Face folder of a sentence encoder (mean pooling).")
    image: UserFile = Field(description="EfficientNet-Lite0 ImageNet weights (.pth).")
    class_names: UserFile = Field(description="JSON with the 1,000 ImageNet class names in label order.")
    precision: Precision = PRECISION
    top_classes: int = Field(10, ge=1, le=1000, description="Likeliest classes that make the image embedding.")
    class_template: Template = Field("a photo of a {}", description="Sentence that embeds a class name.")


ENCODER_KINDS: Registry[type[Encoder]] = Registry(
    "kind of encoder",
    {"open_clip": OpenClipEncoder, "conse": ConseEncoder},
    base="v2l.encoders.image_text_encoder:ImageTextEncoder",
)
AnyEncoder = Annotated[Encoder, EntryOf(ENCODER_KINDS, "kind")]
