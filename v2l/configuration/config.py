"""The one source of truth for configuration: a class for each stage, defaults at the paper's values.

A default is the paper's value where the paper states one, else the released code's, else ours (docs/deviations.md).
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from v2l.configuration.baselines import BASELINES
from v2l.configuration.dataset_entries import SAMPLES, AnyDataset, Sample
from v2l.configuration.entry import NUMBER, SELECTION, Entry, Precision, Template, UserFile
from v2l.configuration.evaluation import VQA, Captioning, Classification, Masked, Restoration
from v2l.configuration.llm_finetuning import FinetuneLLM
from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.model_entries import LLM, AnyEncoder
from v2l.configuration.planning import Plan
from v2l.configuration.registry import NameOf
from v2l.configuration.tokenizer_entries import AnyTokenizer
from v2l.configuration.tokenizer_training import TrainTokenizer


class FetchAssets(Entry):
    """Downloads of this experiment, by their name in config/assets.lock."""

    assets: Annotated[list[str], SELECTION] = Field(
        [], description="Assets that this experiment reads; `snakemake fetch_assets` gets them beforehand."
    )


class IndexImages(Entry):
    """Manifests of the data sets."""

    max_rejected_share: float = Field(0.01, ge=0, le=1, description="More unreadable images than this fail the stage.")


class ExpandVocabulary(Entry):
    """Subwords, bigrams and trigrams of the language model (paper section 3.2)."""

    llm: str = Field(description="Registry name of the model whose vocabulary images are written in.")
    prompt: str = Field("a photo of", min_length=1, description="Text whose greedy continuation expands a subword.")
    max_subwords: int | None = Field(None, ge=1, description="Only the first so many ordinary subwords; null: all.")
    reserved: bool = Field(False, description="Keep control tokens as subwords.")
    batch_size: int | None = Field(
        None, ge=1, description="Most subwords of a batch; null: as many as the memory beside the weights holds."
    )


class EmbedVocabulary(Entry):
    """Text embedding of every vocabulary entry."""

    templates: Literal["imagenet-80"] | Annotated[list[Template], Field(min_length=1)] = Field(
        "imagenet-80",
        description="Prompt templates with one {}; an entry's embedding is the mean over them.",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Entries of a batch, each in one template. null: 1,024, fewer where memory does not suffice.",
    )


class EmbedImages(Entry):
    """Image features, computed once for every stage that needs them."""

    batch_size: int | None = Field(
        None, ge=1, description="Images of a batch. null: 256, fewer where memory does not suffice."
    )


class DecodeImages(Entry):
    """Decoded training images, where `train_tokenizer.decoded_images` asks for them."""

    batch_size: int = Field(256, ge=1, description="Images that are decoded and written together.")


class FilterVocabulary(Entry):
    """Global codebook: entries among the top-k of some training image (paper section 3.2)."""

    dataset: str = Field(description="Data set whose images choose, by its name in `datasets`.")
    split: str = Field("train", description="Split of the data set.")
    top_k: int = Field(5, ge=1, description="Entries that each image chooses: those most similar to it.")
    min_count: int = Field(1, ge=1, description="An entry is kept if so many images or more choose it.")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Images of a batch. null: 1,024, fewer of vocabularies beyond 131,072 entries and where memory "
        "does not suffice.",
    )


class Corruption(Entry):
    """Pixel corruptions of the restoration tasks."""

    blur_kernels: list[Annotated[Literal[3, 5, 7, 9, 11, 13, 15], NUMBER]] = Field(
        [5, 7, 9, 11], min_length=1, description="Kernel sides in pixels; one is drawn per image."
    )
    blur_sigma: float | None = Field(
        None, gt=0, description="Pixels. null: OpenCV's 0.3 * ((kernel - 1) / 2 - 1) + 0.8."
    )
    shift: Literal["corner-crop", "translate"] = Field(
        "corner-crop",
        description="corner-crop: bottom-right instead of centre crop, so square images do not move; translate: see "
        "`shift_share`.",
    )
    shift_share: float = Field(0.25, gt=0, lt=1, description="Share of the side that translate moves right and down.")


class ExtractTokens(Entry):
    """Token ids of the samples."""

    corruption: Corruption = Corruption()
    precision: Precision = Field("float32", description="Of the tokenizer; codes are searched in float32, whichever.")
    batch_size: int = Field(64, ge=1, description="Images of a batch.")


class ReconstructImages(Entry):
    """Decoding of token maps."""

    precision: Precision = Field("float32", description="Of the tokenizer.")
    batch_size: int = Field(64, ge=1, description="Images of a batch.")


class EvaluateLLM(Entry):
    """Tasks for the frozen language models."""

    classification: Classification = Classification()
    restoration: Restoration = Restoration()
    masked: Masked = Masked()
    captioning: Captioning = Captioning()
    vqa: VQA = VQA()


class ScorePredictions(Entry):
    """Metrics and their confidence intervals."""

    mode: Literal["standard", "released"] = Field(
        "standard",
        description="standard: reference implementations; released: as the authors' evaluation (docs/metrics.md).",
    )
    lpips_weights: UserFile = Field(
        description="LPIPS AlexNet weights (.safetensors) for the `lpips` package's network."
    )
    image_metrics: list[Annotated[str, NameOf(IMAGE_METRICS)]] = Field(
        list(IMAGE_METRICS), min_length=1, description="Measured of every image against its original."
    )
    frechet: Literal["inception-v3-fid", "efficientnet-lite0"] = Field(
        "inception-v3-fid",
        description="Feature network of the Frechet distance. inception-v3-fid: column `fid`; others: their own.",
    )
    frechet_weights: UserFile = Field(description="Local weights of the Frechet feature network.")
    batch_size: int = Field(64, ge=1, description="Images or captions of a batch.")
    bootstrap_samples: int = Field(1000, ge=1, description="Draws of the items behind a 95 % confidence interval.")
    semantic_tokens: list[int] = Field([5, 21], min_length=1, description="Global tokens per image in table 2.")


class MakeTables(Entry):
    """Layout of the tables."""

    intervals: bool = Field(True, description="95 % intervals in the Markdown and LaTeX views; the CSV has them.")


class MakeFigures(Entry):
    """Pictures of the paper."""

    images: int = Field(6, ge=1, description="Images in each figure; of restoration shared among its tasks.")
    words: int = Field(4, ge=1, description="Global tokens shown under each image (paper figure 6).")
    dpi: int = Field(300, ge=30, description="Dots per inch of the PNG, 3.4 inches wide.")


class MakeReport(Entry):
    """How much of what stands behind the numbers is in the report."""

    images: int = Field(24, ge=1, description="Pictures in the gallery.")
    items: int = Field(20, ge=1, description="Answers shown behind each cell of a table, the first ones.")
    prompt_characters: int = Field(4000, ge=100, description="Of each prompt; of a longer one the middle is left out.")


class Config(Entry):
    """A whole experiment. Registries are dicts; stages select from them by name."""

    extensions: Annotated[list[str], SELECTION] = Field(
        [], description="Python files of your own, by path from the project's folder, that add to the registries."
    )
    experiment: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Name of its file in config/experiments, and of its results."
    )
    based_on: str | None = Field(
        None, description="Experiment over whose keys those of this file are laid: mappings key by key, others whole."
    )
    seed: int = Field(0, ge=0, description="Of every random draw.")
    encoder: str = Field(description="Image-text encoder of every stage, by its name in `encoders`.")
    llms: dict[str, LLM] = Field(description="Language models, by names of your own.")
    encoders: dict[str, AnyEncoder] = Field(description="Image-text encoders, by names of your own.")
    datasets: dict[str, AnyDataset] = Field(description="Data sets, by names of your own.")
    samples: dict[Annotated[str, NameOf(SAMPLES)], Sample] = Field(
        description="Images that a part of the evaluation looks at: "
        + ", ".join(f"{name} ({use})" for name, use in SAMPLES.items())
        + "."
    )
    tokenizers: dict[str, AnyTokenizer] = Field(description="Tokenizer variants, by names of your own.")
    fetch_assets: FetchAssets = FetchAssets()
    index_images: IndexImages = IndexImages()
    expand_vocabulary: ExpandVocabulary
    embed_vocabulary: EmbedVocabulary = EmbedVocabulary()
    embed_images: EmbedImages = EmbedImages()
    decode_images: DecodeImages = DecodeImages()
    filter_vocabulary: FilterVocabulary
    train_tokenizer: TrainTokenizer
    extract_tokens: ExtractTokens = ExtractTokens()
    reconstruct_images: ReconstructImages = ReconstructImages()
    finetune_llm: FinetuneLLM = FinetuneLLM()
    evaluate_llm: EvaluateLLM = EvaluateLLM()
    score_predictions: ScorePredictions
    make_tables: MakeTables = MakeTables()
    make_figures: MakeFigures = MakeFigures()
    make_report: MakeReport = MakeReport()
    plan: Plan = Plan()

    @field_validator("llms", "encoders", "datasets", "tokenizers")
    @classmethod
    def _names_are_path_safe(cls, entries: dict) -> dict:
        for name in entries:
            if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
                raise ValueError(f"registry name {name!r} must be made of letters, digits, '-', '_' and '.'")
            if name in BASELINES:
                raise ValueError(f"registry name {name!r} is that of a baseline; choose another")
        return entries
