"""Stage filter_vocabulary: the global codebook, entries among the top-k of some training image (paper section 3.2)."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, product
from operator import itemgetter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor
from tqdm import tqdm

from v2l.configuration.config import FilterVocabulary
from v2l.configuration.slices import StageConfig
from v2l.data.image_loading import load_features
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.job_files import Inputs, Outputs
from v2l.io.storage import hash_tensor, parquet_metadata, read_tensors, write_parquet, write_tensors
from v2l.pipeline.record import provenance
from v2l.pipeline.shards import sharded_tables
from v2l.pipeline.stage import run_stage
from v2l.runtime import device


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write the codebooks and the entries of the global ones.

    Codebook: `global_VD` (kept entries), `local_VD` (all subwords; row i is code i), `global_entries_V` (vocabulary
    rows, ascending), and `subword_global_VD` with `subword_global_entries_V`, kept in the same way when subwords alone
    are candidates (method v2l-subword). Entries without visible text are never kept. Metadata of both outputs:
    `vocabulary`, `encoder`, and `codebooks` with the SHA-256 and the size of each.
    """
    settings = config.filter_vocabulary
    vocabulary = pq.read_table(inputs["vocabulary"])
    metadata = parquet_metadata(inputs["vocabulary"])["vocabulary"]
    embedding, embedded = read_tensors(inputs["embedding"])
    embedding_VD = embedding["embedding_VD"]
    manifest = Manifest.read(inputs["manifest"])
    feature_ND = load_features(inputs["features"], manifest)
    if len(embedding_VD) != vocabulary.num_rows:
        raise UserError(
            f"{inputs['embedding']} has {len(embedding_VD)} rows, the vocabulary {vocabulary.num_rows} entries",
            "one embedding per entry",
            "delete it and run embed_vocabulary again",
        )
    rows = manifest.split_rows(settings.split, "filter_vocabulary.split")
    visible_V = np.array([any(map(_visible, text)) for text in vocabulary["text"].to_pylist()])
    is_subword_V = np.arange(vocabulary.num_rows) < metadata["subwords"]
    if visible_V.sum() < settings.top_k:
        raise UserError(
            f"the vocabulary has {visible_V.sum()} entries with visible text",
            f"at least `filter_vocabulary.top_k` = {settings.top_k}",
            "lower top_k",
        )
    candidates = {"global": np.flatnonzero(visible_V), "subword_global": np.flatnonzero(visible_V & is_subword_V)}
    batches = [rows[start : start + settings.batch_size] for start in range(0, len(rows), settings.batch_size)]
    blocks = list(product(candidates, batches))

    def tables(blocks: Sequence[tuple[str, np.ndarray]]) -> Iterator[pa.Table]:
        for name, group in groupby(blocks, itemgetter(0)):
            candidate, batches = candidates[name], [batch for _, batch in group]
            for best in top_entries(embedding_VD[candidate], feature_ND, batches, min(settings.top_k, len(candidate))):
                yield pa.table({"entry": candidate[best]})

    record = provenance(config, inputs)
    count_V = {name: np.zeros(vocabulary.num_rows, dtype=np.int64) for name in candidates}
    for (name, _), table in zip(blocks, sharded_tables(config, record, inputs, outputs, blocks, tables), strict=True):
        count_V[name] += np.bincount(table["entry"].to_numpy(), minlength=vocabulary.num_rows)

    tensors, parts = {"local_VD": embedding_VD[: metadata["subwords"]]}, []
    for name, candidate in candidates.items():
        kept = keep(settings, count_V[name])
        count = pa.array(count_V[name][kept], pa.int32())
        tensors |= {f"{name}_VD": embedding_VD[kept], f"{name}_entries_V": torch.from_numpy(kept)}
        entries = vocabulary.take(kept).replace_schema_metadata(None).select(["kind", "token_ids", "text"])
        columns = {"codebook": pa.array([name] * len(kept)), "entry": pa.array(kept, pa.int32())}
        parts.append(
            pa.table(columns | dict(zip(entries.column_names, entries.columns, strict=True)) | {"count": count})
        )
        kinds = ", ".join(f"{number} {kind}s" for kind, number in Counter(entries["kind"].to_pylist()).items())
        logging.info("%s: kept %d of %d entries (%s) from %d images", name, len(kept), len(candidate), kinds, len(rows))
    metadata = {"vocabulary": metadata, "encoder": embedded.get("encoder"), "codebooks": codebook_description(tensors)}
    write_tensors(outputs["codebook"], tensors, record, metadata)
    write_parquet(outputs["entries"], pa.concat_tables(parts), record, metadata)


def keep(settings: FilterVocabulary, count_V: np.ndarray) -> np.ndarray:
    """Vocabulary rows that enough images have among their top-k, ascending; `count_V` is how many images have each."""
    kept_V = count_V >= settings.min_count
    if not kept_V.any():
        raise UserError(
            f"no entry is in the top {settings.top_k} of `filter_vocabulary.min_count` = {settings.min_count} images",
            f"a count that is reached; the most frequent entry has {count_V.max()}",
            "lower min_count, or use more images",
        )
    return np.flatnonzero(kept_V)


def top_entries(
    embedding_VD: Tensor, feature_ND: Tensor, batches: list[np.ndarray], top_k: int
) -> Iterator[np.ndarray]:
    """For each batch of images (rows of feature_ND), the `top_k` entries of each in turn: B * top_k rows, int64.

    Likeness is the dot product of unit image feature and mean text feature (released). Of equally like entries the
    lower one wins. Memory holds the scores of one batch.
    """
    where = device()
    distinct: dict[bytes, int] = {}
    group_V = torch.tensor([distinct.setdefault(row.tobytes(), len(distinct)) for row in embedding_VD.numpy()])
    first_U = torch.from_numpy(np.unique(group_V.numpy(), return_index=True)[1])
    # One score for all copies of an embedding: a matrix product may round equal columns differently.
    embedding_DU, group_V = embedding_VD[first_U].T.to(where), group_V.to(where)
    for batch in tqdm(batches, unit="batch", disable=None):
        score_BV = (feature_ND[batch].to(where) @ embedding_DU)[:, group_V]
        yield top_indices(score_BV, top_k).flatten().cpu().numpy()


def top_indices(score_BV: Tensor, top_k: int) -> Tensor:
    """Indices of each row's `top_k` largest scores, B x top_k, in no set order; of equals the lower index wins."""
    if score_BV.shape[1] == top_k:
        return torch.arange(top_k, device=score_BV.device).expand(len(score_BV), -1)
    values, indices = score_BV.topk(top_k + 1, dim=1)
    undecided = values[:, top_k - 1] == values[:, top_k]
    indices = indices[:, :top_k].contiguous()
    indices[undecided] = score_BV[undecided].sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    return indices


def codebook_description(tensors: dict[str, Tensor]) -> dict:
    """Hash and number of codes of every codebook among `tensors`."""
    metadata: dict = {}
    for key, codebook_VD in tensors.items():
        if key.endswith("_VD"):
            name = key.removesuffix("_VD")
            metadata |= {name: hash_tensor(codebook_VD), f"{name}_size": len(codebook_VD)}
    return metadata


def _visible(character: str) -> bool:
    return character.isprintable() and not character.isspace()


if __name__ == "__main__":
    run_stage(run)
