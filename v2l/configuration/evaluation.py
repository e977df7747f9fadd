"""Configuration of the tasks of stage evaluate_llm; part of v2l/configuration/config.py."""

from typing import Annotated, Literal

from pydantic import Field

from v2l.configuration.dataset_entries import TASKS
from v2l.configuration.entry import Entry


class Grid(Entry):
    """A block of table 1: every combination of these lists is a cell."""

    ways: list[int] = Field([2, 5], min_length=1)
    tokens: list[int] = Field([5, 21], min_length=1)
    induction: list[bool] = [True]
    inner_shots: list[int] = [1]
    repeats: list[int] = [0]


class Classification(Entry):
    """Few-shot classification (paper section 4.2, table 1)."""

    protocols: list[Literal["paper", "released"]] = Field(
        ["paper"],
        min_length=1,
        description="Each gives its own rows. released: its prompt layout, tokens masked by position, prefix match.",
    )
    tokenizers: list[str] = []
    llms: list[str] = []
    baselines: list[Literal["token-overlap", "clip-prototype"]] = ["token-overlap", "clip-prototype"]
    support_split: str = "test"
    query_split: str = "test"
    episodes: int = Field(2000, ge=1, description="Per ways and inner shots; the number in the paper is not known.")
    episode_files: str | None = Field(
        None,
        pattern=r"^([^{}]|\{ways\}|\{inner_shots\})+$",
        description="Path of episodes with {ways} and {inner_shots}: open-ended or real-name mini-ImageNet .json, or "
        "the released layout (.csv). The first `episodes` of each file; null: drawn with the seed from the splits.",
    )
    grid: list[Grid] = [
        Grid(induction=[False]),
        Grid(inner_shots=[1, 3, 5]),
        Grid(repeats=[1, 3, 5]),
    ]
    grid_of: dict[str, Annotated[list[Grid], Field(min_length=1)]] = Field(
        {}, description="Tokenizer -> its own grid; others: `grid`. lqae shows its whole map, so it needs one."
    )
    max_new_tokens: int = Field(16, ge=1)
    batch_size: int = Field(8, ge=1)

    def for_tokenizer(self, name: str) -> "Classification":
        """The section with the grid of tokenizer `name`."""
        return self.model_copy(update={"grid": self.grid_of.get(name, self.grid)})


class HeldOut(Entry):
    """What protocol held-out leaves out; it costs as much as `paper`."""

    tokenizers: list[str] | None = Field(None, description="Only these; null: all of `restoration.tokenizers`.")
    images: int | None = Field(None, ge=1, description="Only the first so many images; null: as in other protocols.")


class Restoration(Entry):
    """Image denoising (paper section 3.3, table 4)."""

    protocols: list[Literal["paper", "released", "held-out"]] = Field(
        ["paper"],
        min_length=1,
        description="Each gives its own rows. released: for deblurring, shift and rotation only the m corrupted tokens "
        "are shown. held-out: examples from other images, and nothing that was made from the clean image is shown.",
    )
    held_out: HeldOut = HeldOut()
    tokenizers: list[str] = []
    llms: list[str] = []
    baselines: list[Literal["majority-vote"]] = ["majority-vote"]
    tasks: list[Literal["inpainting", "outpainting", "deblurring", "shift", "rotation"]] = list(TASKS)
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
        description="First line of a prompt; {count} is m. The released code has its own wording.",
    )
    batch_size: int = Field(8, ge=1)


class Masked(Entry):
    """Masked image restoration (paper section 4.3, figure 8)."""

    tokenizers: list[str] = []
    llms: list[str] = []
    baselines: list[Literal["most-frequent-code"]] = ["most-frequent-code"]
    mask_share: float = Field(0.3, gt=0, lt=1, description="Share of the local tokens that is masked. paper: 0.3.")
    batch_size: int = Field(8, ge=1)


class TextTask(Entry):
    """Fields of the tasks answered in text (paper section 3.3; its section 4.2: 10 examples, 21 global tokens)."""

    tokenizers: list[str] = []
    llms: list[str] = []
    support_split: str = Field("val", description="Split of the sample that the in-context examples are drawn from.")
    query_split: str = Field("val", description="Split of the sample that is asked about; examples are left out.")
    in_context_examples: int = Field(10, ge=1, description="paper: 10 random samples.")
    contexts: int = Field(
        1, ge=1, description="Draws of the examples, over which the queries are spread. The paper does not say."
    )
    tokens: int = Field(21, ge=1, description="Global tokens shown of each image (paper).")
    batch_size: int = Field(8, ge=1)


class Captioning(TextTask):
    """Image captioning (table 5)."""

    baselines: list[Literal["token-overlap"]] = ["token-overlap"]
    images: int = Field(5000, ge=2, description="Seeded draw of so many captioned images; the paper does not say.")
    max_new_tokens: int = Field(32, ge=1, description="A caption ends sooner, at its full stop (paper).")


class VQA(TextTask):
    """Visual question answering (table 5)."""

    baselines: list[Literal["token-overlap", "majority-vote"]] = ["token-overlap", "majority-vote"]
    questions: int = Field(5000, ge=1, description="Seeded draw of so many questions; the paper does not say.")
    max_new_tokens: int = Field(10, ge=1)
