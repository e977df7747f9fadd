"""Generated captions against their references and their image (table 5): CIDEr, BLEU-4 and CLIP score.

CIDEr and BLEU are those of COCO's caption evaluation (package pycocoevalcap), its parts in Python alone. Its tokeniser
is Java's PTBTokenizer; ours follows the same rules for captions, see `words_of`.
"""

import re

import numpy as np
import torch
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer

from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.data.image_loading import load_features
from v2l.data.manifest import Manifest
from v2l.data.text_files import normal_form
from v2l.encoders.image_text_encoder import ImageTextEncoder
from v2l.encoders.loader import load_encoder
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, read_parquet
from v2l.metrics.manifest_rows import known_rows
from v2l.metrics.rows import Measurement
from v2l.metrics.share import Share
from v2l.metrics.source_names import names_of, note_of
from v2l.precision import computed_in
from v2l.runtime import device

N_GRAM = 4
# PTB: "can't" is "ca n't", "dog's" is "dog 's"; hyphens, periods and commas inside a word or number stay.
LETTERS = r"(?:(?!n't\b)[^\W_])+"
WORD = re.compile(rf"n't\b|'(?:s|m|d|re|ve|ll)\b|{LETTERS}(?:[-.,]{LETTERS})*")


def words_of(caption: str) -> str:
    """A caption in lower case as words with a space between, contractions split as in the Penn Treebank.

    Punctuation is left out, as in COCO's evaluation. So are other characters that are no letter or digit (&, %).
    """
    return " ".join(WORD.findall(caption.lower()))


def cider(captions: list[str], references: list[list[str]]) -> np.ndarray:
    """CIDEr (its variant D, as COCO's evaluation computes it) of each caption, 0..10; words count by these references.

    Papers print 100 times the mean. Of a single caption it is 0: no word tells its image from others.
    """
    scorer = CiderScorer(n=N_GRAM)
    for caption, own in zip(captions, references, strict=True):
        scorer += (words_of(caption), [words_of(reference) for reference in own])
    return np.array(scorer.compute_score()[1])


class Bleu4:
    """BLEU-4 (0..1) of a set of captions, of which any items can be taken (again)."""

    def __init__(self, captions: list[str], references: list[list[str]]):
        self._all = BleuScorer(n=N_GRAM)
        for caption, own in zip(captions, references, strict=True):
            self._all += (words_of(caption), [words_of(reference) for reference in own])

    def __call__(self, items: np.ndarray) -> float:
        """The corpus score of the captions at positions `items`, against the closest reference length."""
        chosen = BleuScorer(n=N_GRAM)
        chosen.ctest = [self._all.ctest[item] for item in items]
        chosen.crefs = [self._all.crefs[item] for item in items]
        return chosen.compute_score(option="closest")[0][-1]


def clip_score(encoder: ImageTextEncoder, captions: list[str], feature_ND: torch.Tensor, batch_size: int) -> np.ndarray:
    """100 max(cosine, 0) of each caption, without a template, with its image's feature (Hessel et al. 2021, w = 1)."""
    parts = []
    for start in range(0, len(captions), batch_size):
        text_BD = encoder.encode_text(captions[start : start + batch_size]).cpu()
        image_BD = torch.nn.functional.normalize(feature_ND[start : start + batch_size].float(), dim=1)
        parts.append(100 * (text_BD * image_BD).sum(dim=1).clamp(0, 1))
    return torch.cat(parts).double().numpy()


@computed_in("float32")
def measure_captions(config: StageConfig, source: Source, inputs: Inputs, share: Share) -> list[Measurement]:
    """`cider`, `clip_score` and `bleu_4` of generated captions.

    Inputs: predictions, manifest and features of their images. Raises UserError without predictions.
    """
    predictions = inputs["predictions"]
    records = read_parquet(predictions, columns=["image_id", "answer", "references"]).to_pylist()
    if not records:
        raise UserError(
            f"{predictions} holds no predictions",
            "at least one caption",
            "check `evaluate_llm.captioning` and run again",
        )
    images, captions, references = (
        [record[name] for record in records] for name in ("image_id", "answer", "references")
    )
    captions = [normal_form(caption) for caption in captions]
    references = [[normal_form(reference) for reference in own] for own in references]
    manifest = Manifest.read(inputs["manifest"])
    feature_ND = load_features(inputs["features"], manifest)[known_rows(manifest, images, predictions)]
    encoder = load_encoder(config.encoders[config.encoder], device())
    similarity_N = clip_score(encoder, captions, feature_ND, config.score_predictions.batch_size)
    bleu = Bleu4(captions, references)
    keys = names_of(config.job["tokenizer"], source) | {"task": source.task}
    note = note_of(source, parquet_metadata(predictions)["tokenizer_note"])
    n = len(records)

    def of_items(metric: str, values: np.ndarray) -> Measurement:
        return Measurement(keys, metric, source.protocol, images, values, note)

    return [
        of_items("cider", cider(captions, references)),
        of_items("clip_score", similarity_N),
        Measurement(keys, "bleu_4", source.protocol, [], np.empty(0), note, bleu(np.arange(n)), n, bleu),
    ]
