"""Registry entries: the models and data that an experiment may select by name.

Adding a language model, an image-text encoder, a data set or a tokenizer variant is one entry of the experiment's YAML.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

TASKS = ("inpainting", "outpainting", "deblurring", "shift", "rotation")
Template = Annotated[str, Field(pattern=r"^[^{}]*\{\}[^{}]*$")]  # a text with exactly one {}


class Entry(BaseModel):
    """Base of every config class: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class LLM(Entry):
    """A frozen causal language model."""

    path: str = Field(description="Hugging Face model folder (config.json, tokenizer, safetensors).")
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


AnyDataset = Annotated[FolderDataset | ImageNetDataset | MiniImageNetDataset, Field(discriminator="kind")]


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


class VQGANEntry(TokenizerEntry):
    """VQ-GAN with its own learned codebook."""

    method: Literal["vqgan"]
    checkpoint: str | None = Field(None, description="A taming-transformers checkpoint: imported instead of trained.")
    checkpoint_config: str | None = Field(None, description="The checkpoint's YAML configuration (model.yaml).")


Tokenizer = Annotated[V2LEntry | VQGANEntry, Field(discriminator="method")]
