"""Stage expand_vocabulary: subwords, bigrams and trigrams of the language model (paper section 3.2).

A subword is continued twice by greedy decoding after the prompt "a photo of": the first new token makes its bigram, the
second its trigram. The prompt's keys and values are computed once and repeated over each batch of subwords.
"""

import copy
import logging

import pyarrow as pa
import torch
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedModel

from v2l.configuration.slices import StageConfig
from v2l.io.job_files import Inputs, Outputs
from v2l.io.storage import write_parquet
from v2l.llm.language_model import load_llm
from v2l.llm.vocabulary import Vocabulary
from v2l.pipeline.record import provenance
from v2l.pipeline.stage import run_stage
from v2l.runtime import device

SCHEMA = pa.schema([("kind", pa.string()), ("token_ids", pa.list_(pa.int32())), ("text", pa.string())])
KINDS = ("subword", "bigram", "trigram")


@torch.inference_mode()
def continue_subwords(
    model: PreTrainedModel, prompt_ids: list[int], subword_ids: list[int], banned_ids: list[int], batch_size: int
) -> torch.Tensor:
    """The two greedy tokens after prompt + subword for V subwords, as int64 (V, 2); `banned_ids` are never chosen.

    The subword's own id stands after the prompt's ids, without tokenising the joined text again (released: tokenised
    again, which splits some subwords).
    """
    prefix = DynamicCache(config=model.config)
    prompt_1P = torch.tensor([prompt_ids], device=model.device)
    model(prompt_1P, past_key_values=prefix, use_cache=True, logits_to_keep=1)
    banned = torch.tensor(sorted(banned_ids), dtype=torch.int64, device=model.device)
    batches = torch.tensor(subword_ids, device=model.device).split(batch_size)
    continuations = []
    for token_B in tqdm(batches, desc="expanding the vocabulary", unit="batch", disable=None):
        cache = copy.deepcopy(prefix)
        cache.batch_repeat_interleave(len(token_B))
        chosen = []
        for _ in range(2):
            logits_BV = model(token_B[:, None], past_key_values=cache, use_cache=True).logits[:, -1]
            token_B = logits_BV.index_fill(1, banned, -torch.inf).argmax(dim=-1)
            chosen.append(token_B)
        continuations.append(torch.stack(chosen, dim=1))
    return torch.cat(continuations).cpu()


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write all subwords, then their bigrams, then their trigrams: three blocks in one order."""
    section = config.expand_vocabulary
    model, tokenizer = load_llm(section.llm, config.llms[section.llm], device())
    words = Vocabulary(tokenizer)
    ordinary = words.subwords()
    pairs = (words.subwords(reserved=True) if section.reserved else ordinary)[: section.max_subwords]
    ids = [number for number, _ in pairs]
    beyond = range(words.size, model.get_output_embeddings().out_features)
    nameless = [number for number, token in enumerate(words.tokens) if token is None]
    banned = [*(nameless if section.reserved else words.control), *beyond]
    next_V2 = continue_subwords(model, tokenizer(section.prompt).input_ids, ids, banned, section.batch_size)
    bigrams = [[number, first] for number, (first, _) in zip(ids, next_V2.tolist(), strict=True)]
    trigrams = [[*bigram, second] for bigram, (_, second) in zip(bigrams, next_V2.tolist(), strict=True)]
    columns = {
        "kind": [kind for kind in KINDS for _ in ids],
        "token_ids": [[number] for number in ids] + bigrams + trigrams,
        "text": [text for _, text in pairs] + [words.text(entry) for entry in bigrams + trigrams],
    }
    counts = {"subwords": len(ids), "ordinary": len(ordinary)}
    metadata = {"vocabulary": words.identity(section.llm) | counts}
    write_parquet(outputs["vocabulary"], pa.table(columns, schema=SCHEMA), provenance(config, inputs), metadata)
    logging.info("%d subwords of %s, as many bigrams and trigrams", len(ids), section.llm)


if __name__ == "__main__":
    run_stage(run)
