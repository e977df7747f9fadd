"""How well global tokens describe their image: CLIP score and relative CLIP score (paper section 4.2, table 2)."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.nn.functional import normalize
from tqdm import tqdm

from v2l.errors import UserError
from v2l.io.storage import read_tensors
from v2l.manifest import Manifest
from v2l.metrics.rows import Measurement
from v2l.runtime import device
from v2l.stage import Paths
from v2l.tokens import Tokens

RELATIVE_NOTE = "our reading: share of the way from the image's worst vocabulary entry to its best"


def semantic_scores(
    feature_ND: torch.Tensor, entry_VD: torch.Tensor, chosen_NK: torch.Tensor, counts: list[int]
) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Per image, for its first k chosen entries, k in `counts`: CLIP score (0..100) and CLIP-R (0..1), each (N,).

    An entry's score is 100 max(cosine, 0), as torchmetrics defines it. CLIP score is the mean over the k entries;
    CLIP-R is (CLIP score - min) / (max - min) over all V entries' scores for that image (0 if they are all equal). The
    paper's definition of neither is known. `entry_VD` has unit rows; `feature_ND` is normalised here.
    """
    score_NV = 100 * (normalize(feature_ND, dim=1) @ entry_VD.T).clamp(0, 1)
    low_N, high_N = score_NV.amin(dim=1), score_NV.amax(dim=1)
    scores = {}
    for count in counts:
        score_N = score_NV.gather(1, chosen_NK[:, :count]).mean(dim=1)
        relative_N = (score_N - low_N) / (high_N - low_N)
        scores[count] = score_N, relative_N.nan_to_num(0.0).clamp(0, 1)
    return scores


def measure_semantics(
    tokenizer: str, counts: list[int], batch_size: int, protocol: str, inputs: Paths
) -> list[Measurement]:
    """`clip_score` and `clip_r` of a tokenizer's clean images for each number of global tokens in `counts`.

    Inputs: tokens, embedding, entries, features, manifest. Raises UserError when the tokens hold fewer global ids than
    asked for, no clean images, or images that the manifest does not know.
    """
    tokens = Tokens.read(inputs["tokens"])
    images = tokens.image_id.tolist()
    if not images:
        raise UserError(f"{inputs['tokens']} holds no clean images", "at least one", "check `samples.semantics`")
    available = 0 if tokens.global_NK is None else tokens.global_NK.shape[1]
    if max(counts) > available:
        problem = f"`score_predictions.semantic_tokens` asks for {max(counts)} global tokens"
        raise UserError(
            f"{problem}, {inputs['tokens']} holds {available}",
            "at most `extract_tokens.global_tokens`, of a tokenizer with global tokens",
            "lower one key or raise the other",
        )
    rows = torch.from_numpy(known_rows(Manifest.read(inputs["manifest"]), images, inputs["tokens"]))
    feature_ND = read_tensors(inputs["features"])[0]["feature_ND"][rows]
    entries = torch.tensor(pq.read_table(inputs["entries"], columns=["entry"])["entry"].to_pylist())
    chosen_NK = entries[torch.from_numpy(tokens.global_NK)]
    entry_VD = normalize(read_tensors(inputs["embedding"])[0]["embedding_VD"], dim=1).to(device())
    parts = []
    for start in tqdm(range(0, len(images), batch_size), desc="semantics", unit="batch", disable=None):
        batch = slice(start, start + batch_size)
        parts.append(semantic_scores(feature_ND[batch].to(device()), entry_VD, chosen_NK[batch].to(device()), counts))
    measurements = []
    for count in counts:
        keys = {"method": tokenizer, "vocabulary_size": len(entries), "tokens": count}
        for index, (metric, note) in enumerate([("clip_score", ""), ("clip_r", RELATIVE_NOTE)]):
            values = torch.cat([part[count][index] for part in parts]).double().cpu().numpy()
            measurements.append(Measurement(keys, metric, protocol, images, values, note))
    return measurements


def known_rows(manifest: Manifest, images: list[str], source: Path) -> np.ndarray:
    """Manifest rows of `images`; raises UserError with the first that `source` holds and the manifest does not."""
    try:
        return manifest.rows_of(images)
    except KeyError as error:
        raise UserError(
            f"{source} holds image {error.args[0]!r}, which the manifest does not",
            "files made from the same manifest",
            "run the stages from index_images on again",
        ) from None
