"""Registry entries of tokenizer variants."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from v2l.configuration.entry import Entry, OptionalUserFile, UserFile
from v2l.configuration.registry import EntryOf, Registry

CODEBOOK_FILES = ("local_codebook_embedding.pth", "global_codebook_embedding.pth", "global_vocabulary.npy")
NO_NETWORK = {"train_tokenizer", "weights", "start_from"}  # keys of an entry that say nothing of its network


METHOD = Field(description="How it is made; decides the other keys.")


class TokenizerEntry(Entry):
    """Fields that every tokenizer variant has.

    `implementation` is its network; `labels` names each method for readers, `wordless` those without words to read.
    """

    implementation: ClassVar[str]
    labels: ClassVar[dict[str, str]]
    wordless: ClassVar[frozenset[str]] = frozenset()

    method: Annotated[str, METHOD]
    train_tokenizer: dict[str, Any] = Field(
        {}, description="Keys of section `train_tokenizer` that this variant sets otherwise, nested as there."
    )
    weights: OptionalUserFile = Field(
        None,
        description="A weights file that stage train_tokenizer wrote, here or elsewhere, whole or compact: imported "
        "instead of trained.",
    )
    start_from: OptionalUserFile = Field(
        None, description="Such a file, whose weights training starts with: fresh optimizers, this experiment's codes."
    )

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        named = [f"`{key}`" for key in ("checkpoint", "weights", "start_from") if getattr(self, key, None)]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} exclude each other; name one")
        return self


class V2LEntry(TokenizerEntry):
    """The paper's tokenizer and its two reductions."""

    implementation: ClassVar[str] = "v2l.models.v2l:V2LNetwork"
    labels: ClassVar[dict[str, str]] = {
        "v2l": "V2L Tokenizer",
        "v2l-subword": "V2L without expansion",
        "v2l-local": "V2L without global tokens",
    }
    wordless: ClassVar[frozenset[str]] = frozenset({"v2l-local"})

    method: Literal["v2l", "v2l-local", "v2l-subword"] = Field(
        description="v2l: the paper's; v2l-local: without global path; v2l-subword: global codes are single subwords."
    )
    checkpoint: OptionalUserFile = Field(
        None, description="The authors' checkpoint (.pth): imported instead of trained. v2l and v2l-local only."
    )
    codebooks: OptionalUserFile = Field(
        None,
        description="Folder with the authors' local_codebook_embedding.pth, global_codebook_embedding.pth and "
        "global_vocabulary.npy, the words of an imported checkpoint; null: this experiment's own codebooks.",
    )

    @model_validator(mode="after")
    def _imports(self) -> Self:
        if self.checkpoint and self.method == "v2l-subword":
            raise ValueError("`checkpoint`: the authors published none of method v2l-subword; leave it out")
        if self.codebooks and not self.checkpoint:
            raise ValueError("`codebooks` are those of a `checkpoint`; name both, or neither")
        return self


class VQGANEntry(TokenizerEntry):
    """VQ-GAN with its own learned codebook."""

    implementation: ClassVar[str] = "v2l.models.vqgan:VQGANTokenizer"
    labels: ClassVar[dict[str, str]] = {"vqgan": "VQ-GAN"}
    wordless: ClassVar[frozenset[str]] = frozenset({"vqgan"})

    method: Annotated[Literal["vqgan"], METHOD]
    checkpoint: OptionalUserFile = Field(
        None, description="A taming-transformers checkpoint: imported instead of trained."
    )
    checkpoint_config: OptionalUserFile = Field(None, description="The checkpoint's YAML configuration (model.yaml).")

    @model_validator(mode="after")
    def _imports(self) -> Self:
        if (self.checkpoint is None) != (self.checkpoint_config is None):
            raise ValueError("`checkpoint` and `checkpoint_config` belong together; name both, or neither")
        return self


class LQAEEntry(TokenizerEntry):
    """LQAE: a frozen masked language model's word embeddings as codebook (Liu et al. 2023; defaults: its code)."""

    implementation: ClassVar[str] = "v2l.models.lqae:LQAETokenizer"
    labels: ClassVar[dict[str, str]] = {"lqae": "LQAE"}

    method: Annotated[Literal["lqae"], METHOD]
    language_model: UserFile = Field(
        description="Hugging Face folder of a masked language model, with or without head. LQAE: RoBERTa-base."
    )
    patch_size: int = Field(16, ge=1, description="Pixels of a token's side; image side: network.image_size.")
    layers: int = Field(12, ge=1, description="Transformer blocks of the encoder, and of the decoder.")
    heads: int = Field(12, ge=1, description="Attention heads; the width is the language model's.")
    expansion: int = Field(4, ge=1, description="Feed-forward width in multiples of the width.")
    mask_share: float = Field(0.5, ge=0, le=1, description="Share of words hidden in training, each by its own draw.")
    output_norm: Literal["none", "batch"] = Field(
        "none",
        description="Behind the encoder. batch: every channel gets the embeddings' mean and deviation over the batch, "
        "against codebook collapse in short runs. LQAE's code: none.",
    )


class SPAEEntry(TokenizerEntry):
    """SPAE in our reading, no code of it was released: a pyramid of subwords (`v2l.models.spae`)."""

    implementation: ClassVar[str] = "v2l.models.spae:SPAETokenizer"
    labels: ClassVar[dict[str, str]] = {"spae": "SPAE (our reading)"}

    method: Annotated[Literal["spae"], METHOD]
    pyramid: list[Annotated[int, Field(ge=1)]] = Field(
        [1, 2, 4, 8, 16, 16],
        min_length=2,
        description="Sides of the layers, ascending, each a divisor of the token map's side, which is the last.",
    )
    semantic_layers: int = Field(
        3, ge=0, description="First so many layers are drawn to words like the image; never the last."
    )
    similarity_temperature: float = Field(
        0.01, gt=0, description="Of the softmax over cosines of image feature and vocabulary. 0.01: CLIP's own."
    )
    distance_temperature: float = Field(
        0.2, gt=0, description="Of the softmax over negative squared distances to codes, in units of their variance."
    )


TOKENIZER_METHODS: Registry[type[TokenizerEntry]] = Registry(
    "tokenizer method",
    {method: entry for entry in (V2LEntry, VQGANEntry, LQAEEntry, SPAEEntry) for method in entry.labels},
    base="v2l.models.vision_tokenizer:VisionTokenizer",
)
AnyTokenizer = Annotated[TokenizerEntry, EntryOf(TOKENIZER_METHODS, "method")]
