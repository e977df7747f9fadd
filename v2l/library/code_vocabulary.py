"""What a tokenizer's codes are called: the words that they stand for, and the ids of the language model."""

from typing import Self

from pydantic import Field, model_validator

from v2l.configuration.entry import Entry


class CodeVocabulary(Entry):
    """Texts of a tokenizer's codes, in code order; file `vocabulary.json` of a pretrained folder."""

    language_model: dict[str, str | int] = Field(
        description="Name (`llm`), number of ids (`size`) and SHA-256 over the id -> token list of the model whose "
        "vocabulary this is."
    )
    words: list[str] = Field(description="Texts of the codes that stand for words; empty if none do.")
    subwords: list[str] = Field(description="Texts of the local codes; empty where these are no subwords.")
    subword_ids: list[int] = Field(description="The language model's ids of the local codes; as many as `subwords`.")

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if len(self.subwords) != len(self.subword_ids):
            raise ValueError(f"{len(self.subwords)} `subwords` have {len(self.subword_ids)} `subword_ids`")
        return self
