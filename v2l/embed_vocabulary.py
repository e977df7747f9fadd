"""Stage embed_vocabulary: the text embedding of every vocabulary entry (paper section 3.2)."""

import logging
from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from tqdm import tqdm

from v2l.encoders import ImageTextEncoder, load_encoder
from v2l.imagenet_templates import prompt_templates
from v2l.io.provenance import provenance
from v2l.io.storage import matrix, parquet_facts, vectors, write_tensors
from v2l.runtime import device
from v2l.shards import shared_out
from v2l.stage import Paths, StageConfig, run_stage


def run(config: StageConfig, inputs: Paths, outputs: Paths) -> None:
    """Write `embedding_VD`, float32, a row for each vocabulary row: the mean over the templates of unit text features.

    The mean is not normalised again (released). Facts: `vocabulary` of the input, `encoder`.
    """
    settings = config.embed_vocabulary
    encoder = load_encoder(config.encoders[config.encoder], device())
    texts = pq.read_table(inputs["vocabulary"], columns=["text"])["text"].to_pylist()
    templates = prompt_templates(settings.templates)
    record = provenance(config, inputs)
    share = partial(shared_out, config, record, inputs, outputs)
    embedding_VD = embed_texts(encoder, texts, templates, settings.batch_size, share)
    facts = {"vocabulary": parquet_facts(inputs["vocabulary"])["vocabulary"], "encoder": config.encoder}
    write_tensors(outputs["embedding"], {"embedding_VD": embedding_VD}, record, facts)
    logging.info(
        "embedded %d entries with %d templates, %d channels", *embedding_VD.shape[:1], len(templates), encoder.dimension
    )


def embed_texts(
    encoder: ImageTextEncoder,
    texts: list[str],
    templates: list[Callable[[str], str]],
    batch_size: int,
    share: Callable = lambda blocks, tables: tables(blocks),
) -> Tensor:
    """float32 embedding_VD on the CPU, rows in the order of `texts`, whose surrounding white space is left out.

    Equal texts are encoded once and get bit-identical rows; batches hold texts of similar length in tokens. `share`
    (`v2l.shards.shared_out`) may have them made by several processes.
    """
    stripped = [text.strip() for text in texts]
    distinct = sorted(set(stripped))
    counts = encoder.token_counts(distinct)
    distinct = [text for _, text in sorted(zip(counts, distinct, strict=True))]
    batches = [distinct[start : start + batch_size] for start in range(0, len(distinct), batch_size)]

    def means(batches: list[list[str]]) -> Iterator[pa.Table]:
        with tqdm(total=len(templates) * sum(map(len, batches)), unit="text", disable=None) as progress:
            for batch in batches:
                sum_BD = torch.zeros(len(batch), encoder.dimension)
                for template in templates:
                    sum_BD += encoder.encode_text([template(text) for text in batch]).cpu()
                    progress.update(len(batch))
                yield pa.table({"mean": vectors(sum_BD / len(templates))})

    mean_UD = torch.tensor(matrix(pa.concat_tables(share(batches, means))["mean"]))
    row_of = {text: row for row, text in enumerate(distinct)}
    return mean_UD[[row_of[text] for text in stripped]]


if __name__ == "__main__":
    run_stage(run)
