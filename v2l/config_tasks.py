"""Configuration of the tasks that are answered in text: captioning and visual question answering."""

from typing import Literal

from pydantic import Field

from v2l.registries import Entry


class TextTask(Entry):
    """Fields of both tasks (paper section 3.3; its section 4.2 names 10 examples and 21 global tokens)."""

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
