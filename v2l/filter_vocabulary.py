"""Stage filter_vocabulary: the global codebook, entries among the top-k of some training image (paper section 3.2)."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, product
from operator import itemgetter

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from v2l.configuration.config import FilterVocabulary
from v2l.configuration.slices import StageConfig
from v2l.data.image_loading import load_features
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.fitting_batches import FittingBatches
from v2l.io.job_files import Inputs, Outputs
from v2l.io.overlap import fetched, sent
from v2l.io.storage import hash_tensor, parquet_metadata, read_parquet, read_tensors, write_parquet, write_tensors
from v2l.pipeline.record import provenance
from v2l.pipeline.shards import sharded_tables
from v2l.pipeline.stage import run_stage
from v2l.precision import computed_in
from v2l.runtime import device

IMAGES_AT_ONCE = 1024
SCORES_AT_ONCE = 2**27
SORTED_AT_ONCE = 64
ABSENT = -1


def run(config: StageConfig, inputs: Inputs, outputs: Outputs) -> None:
    """Write the codebooks and the entries of the global ones.

    Codebook: `global_VD` (kept entries), `local_VD` (all subwords; row i is code i), `global_entries_V` (vocabulary
    rows, ascending), and `subword_global_VD` with `subword_global_entries_V`, kept in the same way when subwords alone
    are candidates (method v2l-subword). Entries without visible text are never kept. Metadata of both outputs:
    `vocabulary`, `encoder`, and `codebooks` with the SHA-256 and the size of each.
    """
    settings = config.filter_vocabulary
    vocabulary = read_parquet(inputs["vocabulary"])
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
    if not bool(embedding_VD.isfinite().all()):
        raise UserError(
            f"{inputs['embedding']} has embeddings that are not finite",
            "finite numbers",
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
    size = settings.batch_size or max(1, min(IMAGES_AT_ONCE, SCORES_AT_ONCE // vocabulary.num_rows))
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    blocks = list(product(candidates, batches))

    def tables(blocks: Sequence[tuple[str, np.ndarray]]) -> Iterator[pa.Table]:
        for name, group in groupby(blocks, itemgetter(0)):
            candidate, batches = candidates[name], [batch for _, batch in group]
            top_k = min(settings.top_k, len(candidate))
            for best in top_entries(embedding_VD[candidate], feature_ND, batches, top_k, settings.batch_size):
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
    embedding_VD: Tensor, feature_ND: Tensor, batches: list[np.ndarray], top_k: int, batch_size: int | None = None
) -> Iterator[np.ndarray]:
    """For each batch of images (rows of feature_ND), the `top_k` entries of each in turn: B * top_k rows, int64.

    Likeness is the dot product of unit image feature and mean text feature (released). Of equally like entries the
    lower one wins. Memory holds the scores of two batches. `batch_size` is the user's, if the batches are.
    """
    where = device()
    distinct: dict[bytes, int] = {}
    group_V = np.array([distinct.setdefault(row.tobytes(), len(distinct)) for row in embedding_VD.numpy()])
    copies_UC = torch.from_numpy(first_copies(group_V, top_k))
    # One score for all copies of an embedding: a matrix product may round equal columns differently.
    embedding_DU, copies_UC = sent(embedding_VD[copies_UC[:, 0]], where).T, sent(copies_UC, where)
    fitting = FittingBatches("search for the likeliest entries", "images", "filter_vocabulary.batch_size", batch_size)

    def groups_of(search: Callable[[Tensor, int], Tensor]) -> Callable[[np.ndarray], Tensor]:
        @computed_in("float32")
        def rows(batch: np.ndarray) -> Tensor:
            score_BU = sent(feature_ND[batch], where) @ embedding_DU
            group_BK = search(score_BU, min(top_k, len(copies_UC)))
            best_BK = best_copies(score_BU.gather(1, group_BK.clamp(min=0)), copies_UC[group_BK], top_k)
            return best_BK.where(group_BK[:, :1] != ABSENT, ABSENT)

        return rows

    found = ((batch, [fitting(groups_of(decided), batch)]) for batch in tqdm(batches, unit="batch", disable=None))
    for batch, (best_BK,) in fetched(found):
        undecided = np.flatnonzero(best_BK[:, 0].numpy() == ABSENT)
        for start in range(0, len(undecided), SORTED_AT_ONCE):
            part = undecided[start : start + SORTED_AT_ONCE]
            best_BK[part] = fitting(groups_of(in_order), batch[part]).cpu()
        yield best_BK.flatten().numpy()


def decided(score_BU: Tensor, top_k: int) -> Tensor:
    """Indices of each row's `top_k` largest scores, B x top_k, in no set order; ABSENT where an equal one is left out.

    So the device is never asked, while it works, whether any is.
    """
    if score_BU.shape[1] == top_k:
        return torch.arange(top_k, device=score_BU.device).expand(len(score_BU), -1)
    values, indices = score_BU.topk(top_k + 1, dim=1)
    return indices[:, :top_k].where(values[:, top_k - 1 : top_k] > values[:, top_k:], ABSENT)


def in_order(score_BU: Tensor, top_k: int) -> Tensor:
    """Indices of each row's `top_k` largest scores, B x top_k; of equals the lower index wins."""
    return score_BU.sort(dim=1, descending=True, stable=True).indices[:, :top_k]


def first_copies(group_V: np.ndarray, most: int) -> np.ndarray:
    """The rows of each group, ascending and no more than `most`; int64 U x C, filled up with ABSENT."""
    order = np.argsort(group_V, kind="stable")
    first_U, count_U = np.unique(group_V[order], return_index=True, return_counts=True)[1:]
    copy_C = np.arange(min(most, count_U.max()))
    place_UC = np.minimum(first_U[:, None] + copy_C, len(order) - 1)
    return np.where(copy_C < count_U[:, None], order[place_UC], ABSENT)


def best_copies(score_BK: Tensor, row_BKC: Tensor, top_k: int) -> Tensor:
    """The `top_k` rows of each image's likeliest groups, B x top_k; of equally like rows the lower one wins.

    No other group can have one: a group whose first row is beaten by so many others' is left out.
    """
    if row_BKC.shape[2] == 1:
        return row_BKC[:, :, 0]
    row_BR, order_BR = row_BKC.flatten(1).sort(dim=1)
    score_BR = score_BK[:, :, None].expand_as(row_BKC).flatten(1).gather(1, order_BR)
    score_BR = score_BR.masked_fill(row_BR == ABSENT, -torch.inf)
    return row_BR.gather(1, in_order(score_BR, top_k))


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
