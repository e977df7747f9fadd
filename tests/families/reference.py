"""What plain `transformers` says: the standard that the pipeline is held to, without any of its code."""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import torch
import transformers

from tests.families.architectures import Family
from tests.families.folders import write
from tests.families.tokenizer_styles import STYLES
from v2l.configuration.model_entries import LLM
from v2l.llm.language_model import load_llm


class Loaded(NamedTuple):
    """A family in its folder, loaded by plain `transformers` (`reference`) and by the pipeline (`model`)."""

    family: Family
    folder: Path
    reference: transformers.PreTrainedModel
    tokenizer: transformers.PreTrainedTokenizerBase
    model: transformers.PreTrainedModel
    model_tokenizer: transformers.PreTrainedTokenizerBase

    @classmethod
    def of(cls, family: Family, folder: Path) -> "Loaded":
        write(folder, family)
        reference = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, trust_remote_code=False
        ).eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        return cls(family, folder, reference, tokenizer, *load_llm("tiny", entry(folder), torch.device("cpu")))

    @property
    def rows(self) -> int:
        """How many ids the model can give out, those without a token included."""
        return self.reference.get_output_embeddings().weight.shape[0]

    def beginning(self, text: str) -> list[int]:
        """Ids of a text as the tokenizer gives them, less what closes it."""
        ids, style = self.tokenizer(text).input_ids, STYLES[self.family.tokenizer]
        opening, closing = map(self.tokenizer.convert_tokens_to_ids, (style.opening, style.closing))
        assert ids[: len(opening)] == opening and ids[len(ids) - len(closing) :] == closing
        return ids[: len(ids) - len(closing)]

    def within(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def generated(
        self, prompt: list[int], count: int, allowed: Collection[int] | None = None, stops: Collection[int] = ()
    ) -> list[int]:
        """The greedy continuation of one prompt by `model.generate`."""
        banned = [] if allowed is None else sorted(set(range(self.rows)) - set(allowed))
        made = self.reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=count,
            do_sample=False,
            suppress_tokens=banned or None,
            eos_token_id=sorted(stops) or None,
            pad_token_id=0,
        )
        return made[0, len(prompt) :].tolist()


def entry(folder: Path) -> LLM:
    return LLM(path=str(folder), dtype="float32")
