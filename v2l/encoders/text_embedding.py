"""Mean text embeddings over prompt templates."""

from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from v2l.encoders.image_text_encoder import ImageTextEncoder, require_features
from v2l.encoders.prompt_templates import PromptTemplate
from v2l.io.fitting_batches import FittingBatches
from v2l.io.overlap import fetched
from v2l.io.storage import matrix, vectors

TEXTS_AT_ONCE = 1024


def embed_texts(
    encoder: ImageTextEncoder,
    texts: list[str],
    templates: list[PromptTemplate],
    batch_size: int | None,
    share: Callable = lambda blocks, tables: tables(blocks),
) -> Tensor:
    """float32 embedding_VD on the CPU, rows in the order of `texts`, whose surrounding white space is left out.

    Equal texts are encoded once and get bit-identical rows; batches hold texts of similar length in tokens. `share`
    (`v2l.pipeline.shards.sharded_tables`) may have them made by several processes. Without `batch_size` it is
    TEXTS_AT_ONCE, or what fits into memory. Raises UserError that names texts without a finite feature.
    """
    size = batch_size or TEXTS_AT_ONCE
    stripped = [text.strip() for text in texts]
    distinct = sorted(set(stripped))
    counts = encoder.token_counts(distinct)
    distinct = [text for _, text in sorted(zip(counts, distinct, strict=True))]
    batches = [distinct[start : start + size] for start in range(0, len(distinct), size)]

    def means(batches: list[list[str]]) -> Iterator[pa.Table]:
        fitting = FittingBatches("text encoding", "entries", "embed_vocabulary.batch_size", batch_size)
        encode = partial(encoder.mean_over_templates, templates)
        with tqdm(total=len(templates) * sum(map(len, batches)), unit="text", disable=None) as progress:
            for batch, (mean_BD,) in fetched((batch, [fitting(encode, batch)]) for batch in batches):
                require_features(mean_BD, batch)
                yield pa.table({"mean": vectors(mean_BD)})
                progress.update(len(templates) * len(batch))

    mean_UD = torch.tensor(matrix(pa.concat_tables(share(batches, means))["mean"]))
    row_of = {text: row for row, text in enumerate(distinct)}
    return mean_UD[[row_of[text] for text in stripped]]
