"""Configuration of the tasks of stage evaluate_llm; part of v2l/configuration/config.py."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from v2l.configuration.baseline_names import (
    CaptioningBaseline,
    ClassificationBaseline,
    MaskedBaseline,
    RestorationBaseline,
    VQABaseline,
)
from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.configuration.entry import SELECTION, Entry
from v2l.configuration.registry import NameOf, nearest
from v2l.configuration.restoration_tasks import RESTORATION_TASKS


class TaskSection(Entry):
    """Fields of every task. `implementation` asks its questions, `measure` scores the answers; both `module:name`."""

    implementation: ClassVar[str]
    measure: ClassVar[str]

    tokenizers: Annotated[list[str], SELECTION] = Field([], description="Tokenizers whose tokens are shown.")
    llms: Annotated[list[str], SELECTION] = Field([], description="Language models that answer.")
    baselines: Annotated[list[str], SELECTION] = Field([], description="Predictors without a language model.")
    batch_size: int | None = Field(
        None, ge=1, description="Most prompts of a batch; null: as many as the memory beside the weights holds."
    )


class Grid(Entry):
    """A block of table 1: every combination of these lists is a cell. Extensions may add further lists."""

    model_config = ConfigDict(extra="allow")

    ways: list[int] = Field([2, 5], min_length=1, description="Classes of an episode.")
    tokens: list[int] = Field([5, 21], min_length=1, description="Tokens shown of each image.")
    induction: list[bool] = Field(
        [True], min_length=1, description="Whether a sentence before the examples lists the classes."
    )
    inner_shots: list[int] = Field([1], min_length=1, description="Example images of each class.")
    repeats: list[int] = Field([0], min_length=1, description="How often the examples are shown again.")

    @model_validator(mode="before")
    @classmethod
    def _further_settings(cls, values: Any) -> Any:
        for key in set(values) - set(cls.model_fields) if isinstance(values, dict) else ():
            hint = nearest(key, [*cls.model_fields, *CELL_SETTINGS])
            if key not in CELL_SETTINGS:
                raise PydanticCustomError("unknown_setting", "unknown key {key}; {hint}", {"key": key, "hint": hint})
            wanted = type(CELL_SETTINGS[key].default)
            given = values[key]
            if not isinstance(given, list) or not given or not all(type(value) is wanted for value in given):
                facts = {"key": key, "type": wanted.__name__}
                raise PydanticCustomError("setting_type", "{key} must be a list of {type}, not empty", facts)
        return values


class Classification(TaskSection):
    """Few-shot classification (paper section 4.2, table 1)."""

    implementation: ClassVar[str] = "v2l.tasks.classification:ClassificationTask"
    measure: ClassVar[str] = "v2l.metrics.accuracy:measure_accuracy"

    protocols: Annotated[list[Literal["paper", "released"]], SELECTION] = Field(
        ["paper"],
        min_length=1,
        description="Each gives its own rows. released: its prompt layout, tokens masked by position, prefix match.",
    )
    baselines: Annotated[list[ClassificationBaseline], SELECTION] = Field(
        ["token-overlap", "clip-prototype"],
        description="Predictors without a language model: the example with the nearest tokens, the class with the "
        "nearest mean image feature.",
    )
    support_split: str = Field("test", description="Split of the sample that the examples are drawn from.")
    query_split: str = Field("test", description="Split of the sample that is asked about; may be the same.")
    episodes: int = Field(2000, ge=1, description="Per ways and inner shots.")
    episode_files: str | None = Field(
        None,
        pattern=r"^([^{}]|\{ways\}|\{inner_shots\})+$",
        description="Path of episodes with {ways} and {inner_shots}: open-ended or real-name mini-ImageNet .json, or "
        "the released layout (.csv). The first `episodes` of each file; null: drawn with the seed from the splits.",
    )
    grid: list[Grid] = Field(
        [Grid(induction=[False]), Grid(inner_shots=[1, 3, 5]), Grid(repeats=[1, 3, 5])],
        description="Blocks of table 1; every combination of a block's lists is a cell. The paper's seven columns.",
    )
    grid_of: dict[str, Annotated[list[Grid], Field(min_length=1)]] = Field(
        {}, description="Tokenizer -> its own grid; others: `grid`. lqae shows its whole map, so it needs one."
    )
    max_new_tokens: int = Field(16, ge=1, description="Longest answer, in tokens.")


class HeldOut(Entry):
    """What protocol held-out leaves out; it costs as much as `paper`."""

    tokenizers: Annotated[list[str] | None, SELECTION] = Field(
        None, description="Only these; null: all of `restoration.tokenizers`."
    )
    images: int | None = Field(None, ge=1, description="Only the first so many images; null: as in other protocols.")


class Restoration(TaskSection):
    """Image denoising (paper section 3.3, table 4)."""

    implementation: ClassVar[str] = "v2l.tasks.restoration:RestorationPrediction"
    measure: ClassVar[str] = "v2l.metrics.image_scores:measure_images"

    protocols: Annotated[list[Literal["paper", "released", "held-out"]], SELECTION] = Field(
        ["paper"],
        min_length=1,
        description="Each gives its own rows. released: for deblurring, shift and rotation only the m corrupted tokens "
        "are shown. held-out: examples from other images, and nothing that was made from the clean image is shown.",
    )
    held_out: HeldOut = HeldOut()
    baselines: Annotated[list[RestorationBaseline], SELECTION] = Field(
        ["majority-vote"], description="Predictors without a language model: the commonest token of the examples."
    )
    tasks: list[Annotated[str, NameOf(RESTORATION_TASKS)]] = Field(
        list(RESTORATION_TASKS), description="Corruptions that are undone, each its own rows."
    )
    images_of: dict[str, int] = Field({}, description="Tokenizer -> first so many images of the sample; others: all.")
    context_tokens: int = Field(16, ge=1, description="n: tokens before the predicted ones.")
    predicted_tokens: int = Field(2, ge=1, description="m: tokens predicted at a time.")
    replacement_shares: list[float] = Field(
        [0.50, 0.47, 0.44, 0.41, 0.38, 0.35, 0.32, 0.29, 0.26, 0.23],
        description="Share of random ids in each in-context example, most corrupted first (released order).",
    )
    restrict_to_codebook: bool | None = Field(
        None,
        description="Generate codebook ids alone; needed when it is a part of the vocabulary. null: true, but false in "
        "protocol released.",
    )
    instruction: str = Field(
        "Learn a new language and predict the {count} tokens that follow, as in the examples.\n",
        description="First line of a prompt; {count} is m, other braces stand as they are.",
    )


class Masked(TaskSection):
    """Masked image restoration (paper section 4.3, figure 8)."""

    implementation: ClassVar[str] = "v2l.tasks.masked:MaskedPrediction"
    measure: ClassVar[str] = "v2l.metrics.image_scores:measure_images"

    baselines: Annotated[list[MaskedBaseline], SELECTION] = Field(
        ["most-frequent-code"], description="Predictors without a language model: the image's commonest visible token."
    )
    mask_share: float = Field(0.3, gt=0, lt=1, description="Share of the local tokens that is masked.")


class TextTask(TaskSection):
    """Fields of the tasks answered in text (paper section 3.3; its section 4.2: 10 examples, 21 global tokens)."""

    support_split: str = Field("val", description="Split of the sample that the in-context examples are drawn from.")
    query_split: str = Field("val", description="Split of the sample that is asked about; examples are left out.")
    in_context_examples: int = Field(10, ge=1, description="Examples before a query (paper: random samples).")
    contexts: int = Field(1, ge=1, description="Draws of the examples, over which the queries are spread.")
    tokens: int = Field(21, ge=1, description="Global tokens shown of each image.")
    max_new_tokens: int = Field(16, ge=1, description="Longest answer, in tokens.")


class Captioning(TextTask):
    """Image captioning (table 5)."""

    implementation: ClassVar[str] = "v2l.tasks.captioning:CaptioningTask"
    measure: ClassVar[str] = "v2l.metrics.captions:measure_captions"

    images: int = Field(5000, ge=2, description="Seeded draw of so many captioned images.")
    baselines: Annotated[list[CaptioningBaseline], SELECTION] = Field(
        ["token-overlap"], description="Predictors without a language model: the caption of the nearest example."
    )
    max_new_tokens: int = Field(32, ge=1, description="Longest caption, in tokens; a full stop ends it.")


class VQA(TextTask):
    """Visual question answering (table 5)."""

    implementation: ClassVar[str] = "v2l.tasks.vqa:VQATask"
    measure: ClassVar[str] = "v2l.metrics.vqa_accuracy:measure_vqa"

    baselines: Annotated[list[VQABaseline], SELECTION] = Field(
        ["token-overlap", "majority-vote"],
        description="Predictors without a language model: the answer of the nearest example, the commonest answer.",
    )
    questions: int = Field(5000, ge=1, description="Seeded draw of so many questions.")
    max_new_tokens: int = Field(10, ge=1, description="Longest answer, in tokens.")
