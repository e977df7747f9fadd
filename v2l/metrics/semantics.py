"""How well global tokens describe their image: CLIP score and relative CLIP score (paper section 4.2, table 2)."""

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import normalize
from tqdm import tqdm

from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.data.image_loading import load_features
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens
from v2l.encoders.loader import load_encoder
from v2l.encoders.prompt_templates import prompt_templates
from v2l.encoders.text_embedding import embed_texts
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import read_parquet, read_tensors
from v2l.metrics.manifest_rows import known_rows
from v2l.metrics.rows import Measurement, joined
from v2l.metrics.share import Share
from v2l.metrics.source_names import names_of, note_of
from v2l.precision import computed_in
from v2l.runtime import device

RELATIVE_NOTE = "our reading: share of the way from the image's worst vocabulary entry to its best"


def semantic_scores(
    feature_ND: torch.Tensor, entry_VD: torch.Tensor, chosen_NKD: torch.Tensor, counts: list[int]
) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Per image, for its first k words, k in `counts`: CLIP score (0..100) and CLIP-R (0..1), each (N,).

    A word's score is 100 max(cosine, 0), as torchmetrics defines it. CLIP score is the mean over the k words;
    CLIP-R is (CLIP score - min) / (max - min) over all V entries' scores for that image (0 if they are all equal). The
    paper's definition of neither is known. `entry_VD` and `chosen_NKD` have unit rows; `feature_ND` is normalised here.
    """
    feature_ND = normalize(feature_ND, dim=1)
    score_NV = 100 * (feature_ND @ entry_VD.T).clamp(0, 1)
    chosen_NK = 100 * (chosen_NKD @ feature_ND[:, :, None]).squeeze(2).clamp(0, 1)
    low_N, high_N = score_NV.amin(dim=1), score_NV.amax(dim=1)
    scores = {}
    for count in counts:
        score_N = chosen_NK[:, :count].mean(dim=1)
        relative_N = (score_N - low_N) / (high_N - low_N)
        scores[count] = score_N, relative_N.nan_to_num(0.0).clamp(0, 1)
    return scores


@computed_in("float32")
def measure_semantics(config: StageConfig, source: Source, inputs: Inputs, share: Share) -> list[Measurement]:
    """`clip_score` and `clip_r` of a tokenizer's clean images for each number of tokens in `semantic_tokens`.

    Where the words are no ranking (lqae: one for each position) all tokens of an image count. Inputs: tokens, words,
    embedding, features, manifest. Raises UserError when the tokens hold fewer words than asked for, no clean images, or
    images that the manifest does not know, or when the features are not one finite row for each of its images.
    """
    section = config.score_predictions
    tokens = Tokens.read(inputs["tokens"])
    images = tokens.image_id.tolist()
    if not images:
        raise UserError(f"{inputs['tokens']} holds no clean images", "at least one", "check `samples.semantics`")
    code_NK = np.empty((len(images), 0), np.int64) if tokens.worded_NK is None else tokens.worded_NK
    available = code_NK.shape[1]
    counts = [available] if tokens.tokenizer["worded_ids"] == "local" else section.semantic_tokens
    if max(counts) > available:
        problem = f"`score_predictions.semantic_tokens` asks for {max(counts)} global tokens"
        raise UserError(
            f"{problem}, {inputs['tokens']} holds {available}",
            "at most `train_tokenizer.global_tokens` (spae: of its upper layers), of a tokenizer with global tokens",
            "lower one key or raise the other",
        )
    manifest = Manifest.read(inputs["manifest"])
    rows = torch.from_numpy(known_rows(manifest, images, inputs["tokens"]))
    feature_ND = load_features(inputs["features"], manifest)[rows]
    embedding_VD = read_tensors(inputs["embedding"])[0]["embedding_VD"]
    words = read_parquet(inputs["words"])
    worded_NK = torch.from_numpy(code_NK[:, : max(counts)])
    used, index = worded_NK.unique(return_inverse=True)
    word_UD = normalize(word_embeddings(config, words.take(used.tolist()), embedding_VD), dim=1)
    entry_VD = normalize(embedding_VD, dim=1).to(device())
    parts = []
    size = section.batch_size
    for start in tqdm(range(0, len(images), size), desc="semantics", unit="batch", disable=None):
        batch = slice(start, start + size)
        parts.append(
            semantic_scores(feature_ND[batch].to(device()), entry_VD, word_UD[index[batch]].to(device()), counts)
        )
    method, about = names_of(config.job["tokenizer"], source)["method"], note_of(source, tokens.tokenizer["note"])
    measurements = []
    for count in counts:
        keys = {"method": method, "vocabulary_size": len(words), "tokens": count}
        for number, (metric, note) in enumerate([("clip_score", ""), ("clip_r", RELATIVE_NOTE)]):
            values = torch.cat([part[count][number] for part in parts]).double().cpu().numpy()
            measurements.append(Measurement(keys, metric, source.protocol, images, values, joined(note, about)))
    return measurements


def word_embeddings(config: StageConfig, words: pa.Table, embedding_VD: torch.Tensor) -> torch.Tensor:
    """Text features of `words`, float32 UD: rows of the vocabulary's `embedding_VD`; of other texts made here."""
    entries = words["entry"].to_pylist()
    if None not in entries:
        return embedding_VD[torch.tensor(entries)]
    templates = prompt_templates(config.embed_vocabulary.templates)
    encoder = load_encoder(config.encoders[config.encoder], device())
    made_UD = embed_texts(encoder, words["text"].to_pylist(), templates, config.embed_vocabulary.batch_size)
    known = [row for row, entry in enumerate(entries) if entry is not None]
    made_UD[known] = embedding_VD[[entries[row] for row in known]]
    return made_UD
