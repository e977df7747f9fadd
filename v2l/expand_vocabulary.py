"""Stage expand_vocabulary: subwords, bigrams and trigrams of the language model (paper section 3.2).

A subword is continued twice by greedy decoding after the prompt "a photo of": the first new token makes its bigram, the
second its trigram. The prompt's keys and values are computed once for all subwords.
"""

import logging

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from v2l.configuration.slices import StageConfig
from v2l.io.job_files import Inputs, Outputs
from v2l.io.storage import write_parquet
from v2l.llm.engine import generate
from v2l.llm.journal import Journal
from v2l.llm.language_model import load_llm
from v2l.llm.text_ids import TextIds
from v2l.llm.vocabulary import Vocabulary
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.runtime import device

SCHEMA = pa.schema([("kind", pa.string()), ("token_ids", pa.list_(pa.int32())), ("text", pa.string())])
KINDS = ("subword", "bigram", "trigram")


def continue_subwords(
    model: PreTrainedModel,
    prompt_ids: list[int],
    subword_ids: list[int],
    banned_ids: list[int],
    batch_size: int | None = None,
) -> torch.Tensor:
    """The two greedy tokens after prompt + subword for V subwords, as int64 (V, 2); `banned_ids` are never chosen.

    The subword's own id stands after the prompt's ids, without tokenising the joined text again (released: tokenised
    again, which splits some subwords). Batches are as large as the memory allows, and at most `batch_size`.
    """
    allowed = sorted(set(range(model.get_output_embeddings().weight.shape[0])) - set(banned_ids))
    with Journal("expanding the vocabulary", len(subword_ids)) as journal:
        prompts = [[*prompt_ids, subword] for subword in subword_ids]
        return torch.tensor(generate(model, prompts, 2, batch_size, allowed_ids=allowed, journal=journal))


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write all subwords, then their bigrams, then their trigrams: three blocks in one order."""
    section = config.expand_vocabulary
    model, tokenizer = load_llm(section.llm, config.llms[section.llm], device())
    words = Vocabulary(tokenizer)
    logging.info("%s: %s", section.llm, words.summary())
    pairs, said = words.chosen(section.llm, section.reserved, section.max_subwords)
    ids = [number for number, _ in pairs]
    beyond = range(words.size, model.get_output_embeddings().out_features)
    nameless = [number for number, token in enumerate(words.tokens) if token is None]
    banned = [*(nameless if section.reserved else words.control), *beyond]
    next_V2 = continue_subwords(model, TextIds(tokenizer).first(section.prompt), ids, banned, section.batch_size)
    bigrams = [[number, first] for number, (first, _) in zip(ids, next_V2.tolist(), strict=True)]
    trigrams = [[*bigram, second] for bigram, (_, second) in zip(bigrams, next_V2.tolist(), strict=True)]
    columns = {
        "kind": [kind for kind in KINDS for _ in ids],
        "token_ids": [[number] for number in ids] + bigrams + trigrams,
        "text": [text for _, text in pairs] + [words.text(entry) for entry in bigrams + trigrams],
    }
    record = provenance(config, inputs)
    write_parquet(outputs["vocabulary"], pa.table(columns, schema=SCHEMA), record, {"vocabulary": said})
    logging.info("%d subwords of %s, as many bigrams and trigrams", len(ids), section.llm)


if __name__ == "__main__":
    run_stage(run)
