"""Registry entries of tokenizer variants."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from v2l.configuration.entry import Entry

CODEBOOK_FILES = ("local_codebook_embedding.pth", "global_codebook_embedding.pth", "global_vocabulary.npy")


class TokenizerEntry(Entry):
    """Fields that every tokenizer variant has."""

    train_tokenizer: dict[str, Any] = Field(
        {}, description="Keys of section `train_tokenizer` that this variant sets otherwise, nested as there."
    )

    @property
    def imported(self) -> bool:
        """Whether its weights come from a published checkpoint instead of training."""
        return "checkpoint" in self.files

    @property
    def files(self) -> dict[str, Path | list[Path]]:
        """The user's files that it is imported from, by kind; none if it is trained."""
        return {}


class V2LEntry(TokenizerEntry):
    """The paper's tokenizer and its two reductions."""

    method: Literal["v2l", "v2l-local", "v2l-subword"] = Field(
        description="v2l: the paper's; v2l-local: without global path; v2l-subword: global codes are single subwords."
    )
    checkpoint: str | None = Field(
        None, description="The authors' checkpoint (.pth): imported instead of trained. v2l and v2l-local only."
    )
    codebooks: str | None = Field(
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

    @property
    def files(self) -> dict[str, Path | list[Path]]:
        files = {"checkpoint": Path(self.checkpoint)} if self.checkpoint else {}
        if self.codebooks:
            needed = CODEBOOK_FILES if self.method == "v2l" else CODEBOOK_FILES[:1]
            files["codebooks"] = [Path(self.codebooks) / name for name in needed]
        return files


class VQGANEntry(TokenizerEntry):
    """VQ-GAN with its own learned codebook."""

    method: Literal["vqgan"]
    checkpoint: str | None = Field(None, description="A taming-transformers checkpoint: imported instead of trained.")
    checkpoint_config: str | None = Field(None, description="The checkpoint's YAML configuration (model.yaml).")

    @model_validator(mode="after")
    def _imports(self) -> Self:
        if (self.checkpoint is None) != (self.checkpoint_config is None):
            raise ValueError("`checkpoint` and `checkpoint_config` belong together; name both, or neither")
        return self

    @property
    def files(self) -> dict[str, Path | list[Path]]:
        named = {"checkpoint": self.checkpoint, "checkpoint_config": self.checkpoint_config}
        return {kind: Path(path) for kind, path in named.items() if path}


class LQAEEntry(TokenizerEntry):
    """LQAE: a frozen masked language model's word embeddings as codebook (Liu et al. 2023; defaults: its code)."""

    method: Literal["lqae"]
    language_model: str = Field(
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

    method: Literal["spae"]
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

    def pyramid_problem(self, grid: int) -> str | None:
        """What `pyramid` should be on a token map of side `grid` and is not; None if it fits."""
        if self.pyramid[-1] != grid:
            return f"the last side must be that of the token map, {grid}"
        if self.pyramid != sorted(self.pyramid):
            return "sides must ascend"
        if uneven := [side for side in self.pyramid if grid % side]:
            return f"every side must divide that of the token map, {grid}; {uneven[0]} does not"
        if self.semantic_layers >= len(self.pyramid):
            return f"it must have more sides than `semantic_layers` = {self.semantic_layers}, the last has no guidance"
        return None


Tokenizer = Annotated[V2LEntry | VQGANEntry | LQAEEntry | SPAEEntry, Field(discriminator="method")]
