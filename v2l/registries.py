"""Registry entries: the models and data that an experiment may select by name.

Adding a language model, an image-text encoder, a data set or a tokenizer variant is one entry of the experiment's YAML.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

CODEBOOK_FILES = ("local_codebook_embedding.pth", "global_codebook_embedding.pth", "global_vocabulary.npy")
TASKS = ("inpainting", "outpainting", "deblurring", "shift", "rotation")
Template = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]  # a text with exactly one {}


class Entry(BaseModel):
    """Base of every config class: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


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


class Dataset(Entry):
    """Fields that every data set has."""

    root: str = Field(description="Folder that image paths are relative to.")
    fit: Literal["crop", "pad"] = Field(
        "crop", description="How an image becomes square: centre crop (paper) or padding with white (cut-outs)."
    )


class FolderDataset(Dataset):
    """A folder of class folders; the training split is drawn with the experiment's seed."""

    kind: Literal["folder"]
    class_depth: int = Field(1, ge=1, description="Level below root whose folder names are the classes.")
    extensions: list[str] = Field([".png", ".jpg", ".jpeg", ".webp"], description="File endings that count as images.")
    exclude: list[str] = Field([], description="Folder names that are left out, at any level.")
    min_images: int = Field(1, ge=1, description="Smaller classes are left out.")
    train_share: float = Field(0.85, gt=0, lt=1, description="Share of each class in split `train`; the rest is `val`.")


class ImageNetDataset(Dataset):
    """ImageNet-1K as distributed: train/<wnid>/*.JPEG, and val/<wnid>/*.JPEG or val/*.JPEG with a label list."""

    kind: Literal["imagenet"]
    synsets: str = Field(description="File of `wnid name, synonym, ...` lines (LOC_synset_mapping.txt).")
    val_labels: str | None = Field(None, description="CSV `ImageId,PredictionString` when val/ is flat.")


class MiniImageNetDataset(Dataset):
    """mini-ImageNet: images/ with train.csv, val.csv and test.csv (filename,label), or <split>/<wnid>/ folders."""

    kind: Literal["mini_imagenet"]
    synsets: str = Field(description="File of `wnid name, synonym, ...` lines; the first name is the class name.")


class CaptionSplit(Entry):
    """A split of COCO Captions."""

    captions: str = Field(description="JSON with `images` and `annotations` (captions_val2014.json).")
    images: str = Field(description="Folder of the split's images below root (val2014).")


class CocoCaptionsDataset(Dataset):
    """COCO Captions as distributed: a JSON file and an image folder for each split."""

    kind: Literal["coco_captions"]
    splits: dict[str, CaptionSplit] = Field(min_length=1)


class QuestionSplit(Entry):
    """A split of VQAv2."""

    questions: str = Field(description="JSON with `questions` (v2_OpenEnded_mscoco_val2014_questions.json).")
    annotations: str = Field(description="JSON with ten answers a question (v2_mscoco_val2014_annotations.json).")
    images: str = Field(description="Folder below root; image 42 of subset val2014: COCO_val2014_000000000042.jpg.")


class VQAv2Dataset(Dataset):
    """VQAv2 as distributed: two JSON files and an image folder for each split."""

    kind: Literal["vqa_v2"]
    splits: dict[str, QuestionSplit] = Field(min_length=1)


class EasyVQADataset(Dataset):
    """easy-VQA: train/ and test/, each with images/<number>.png and questions.json; one answer a question."""

    kind: Literal["easy_vqa"]
    images_per_split: int | None = Field(None, ge=1, description="Only the first so many images; null: all.")


AnyDataset = Annotated[
    FolderDataset | ImageNetDataset | MiniImageNetDataset | CocoCaptionsDataset | VQAv2Dataset | EasyVQADataset,
    Field(discriminator="kind"),
]


class Sample(Entry):
    """Which images a task looks at."""

    dataset: str
    splits: list[str] = Field(min_length=1, description="Splits of the data set the images come from.")
    images: int | None = Field(None, ge=1, description="Seeded sample of this many images; null takes all.")
    corruptions: list[Literal["none", "inpainting", "outpainting", "deblurring", "shift", "rotation"]] = Field(
        ["none"], min_length=1, description="Each image is tokenised once for each of these."
    )


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
