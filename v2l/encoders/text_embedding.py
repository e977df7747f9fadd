"""Mean text embeddings over prompt templates."""

from collections.abc import Callable, Iterator

import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from v2l.encoders.image_text_encoder import ImageTextEncoder
from v2l.io.storage import matrix, vectors


def embed_texts(
    encoder: ImageTextEncoder,
    texts: list[str],
    templates: list[Callable[[str], str]],
    batch_size: int,
    share: Callable = lambda blocks, tables: tables(blocks),
) -> Tensor:
    """float32 embedding_VD on the CPU, rows in the order of `texts`, whose surrounding white space is left out.

    Equal texts are encoded once and get bit-identical rows; batches hold texts of similar length in tokens. `share`
    (`v2l.pipeline.shards.sharded_tables`) may have them made by several processes.
    """
    stripped = [text.strip() for text in texts]
    distinct = sorted(set(stripped))
    counts = encoder.token_counts(distinct)
    distinct = [text for _, text in sorted(zip(counts, distinct, strict=True))]
    batches = [distinct[start : start + batch_size] for start in range(0, len(distinct), batch_size)]

    def means(batches: list[list[str]]) -> Iterator[pa.Table]:
        with tqdm(total=len(templates) * sum(map(len, batches)), unit="text", disable=None) as progress:
            for mean_BD in one_ahead(encoder.mean_over_templates(templates, batch) for batch in batches):
                yield pa.table({"mean": vectors(mean_BD.cpu())})
                progress.update(len(templates) * len(mean_BD))

    mean_UD = torch.tensor(matrix(pa.concat_tables(share(batches, means))["mean"]))
    row_of = {text: row for row, text in enumerate(distinct)}
    return mean_UD[[row_of[text] for text in stripped]]
