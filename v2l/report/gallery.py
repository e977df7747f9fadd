"""The gallery: some pictures with all that was made of them."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from v2l.configuration.known_metrics import metric
from v2l.configuration.runs import IMAGE_TASKS, PIXELS, Run
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import PAPER
from v2l.io.job_files import Inputs
from v2l.io.storage import read_parquet
from v2l.report.embedded_pictures import DecodedPictures, original_pictures
from v2l.report.evidence import Evidence, anchor, evidence
from v2l.report.picture_tokens import PictureWords, SampleTokens
from v2l.report.present_files import SHOWN_SAMPLES
from v2l.tables.row_order import task_rank
from v2l.tables.views import number_text


class ShownPicture(NamedTuple):
    """A picture made of another: what made it, the picture as a data URI, its scores in words."""

    label: str
    image: str
    scores: str


@dataclass(frozen=True)
class GalleryPicture:
    """An original (a data URI, '' if it is not there any more) and what was made of it, task by task."""

    place: str
    name: str
    said: str
    original: str
    tasks: list[tuple[str, list[ShownPicture]]]
    words: list[PictureWords]


def gallery(config: StageConfig, inputs: Inputs, images: Sequence[DecodedPictures]) -> list[GalleryPicture]:
    """Up to `make_report.images` pictures of the samples whose tokens are there."""
    vocabulary = inputs.get("vocabulary")
    words = {path.name.removesuffix(".words.parquet"): path for path in inputs.files("words")}
    samples = [
        SampleTokens(found, words.get(found.job["tokenizer"]), vocabulary) for found in evidence(inputs.files("tokens"))
    ]
    samples.sort(key=lambda found: SHOWN_SAMPLES.index(found.sample))
    there = set(inputs.files("manifests"))
    chosen = dict.fromkeys(
        (found.manifest, name) for found in samples if found.manifest in there for name in found.image_ids
    )
    shown = list(chosen)[: config.make_report.images]
    scores = item_scores(evidence(inputs.files("item_scores")), {name for _, name in shown})
    return [
        _picture(manifest, name, [found for found in samples if found.manifest == manifest], images, scores)
        for manifest, name in shown
    ]


def item_scores(items: Iterable[Evidence], names: Collection[str]) -> dict[tuple[Run, str, str], str]:
    """(run, task, image) -> its scores in words, of the images `names` in runs that make pictures."""
    scores: dict[tuple[Run, str, str], list[str]] = {}
    for found in items:
        if names and found.run.source.task in IMAGE_TASKS:
            for row in read_parquet(found.path, filters=[("item", "in", names)]).to_pylist():
                key = (found.run, row.get("task") or found.run.source.task, row["item"])
                scores.setdefault(key, []).append(
                    f"{metric(row['metric']).label} {number_text(row['value'], row['metric'])}"
                )
    return {key: ", ".join(said) for key, said in scores.items()}


def run_label(run: Run) -> str:
    """A run in words: who, on whose tokens, and the protocol if it is not the paper's."""
    source = run.source
    who = source.label or run.tokenizer
    tokens = f" on {run.tokenizer}" if source.predictor and run.tokenizer != PIXELS else ""
    return who + tokens + (f" ({source.protocol})" if source.protocol != PAPER else "")


def _picture(
    manifest: Path,
    name: str,
    samples: Sequence[SampleTokens],
    images: Sequence[DecodedPictures],
    scores: Mapping[tuple[Run, str, str], str],
) -> GalleryPicture:
    originals = original_pictures(manifest)
    own = {found.sample for found in samples if name in found}
    made: dict[str, list[ShownPicture]] = {}
    for decoded in sorted(images, key=lambda found: found.run.source.predictor != "corrupted-input"):
        for task in decoded.tasks if decoded.run.source.task in own else ():
            if image := decoded.of(task, name):
                shown = ShownPicture(run_label(decoded.run), image, scores.get((decoded.run, task, name), ""))
                made.setdefault(task, []).append(shown)
    said = {words.tokenizer: words for found in samples if (words := found.words_of(name))}
    return GalleryPicture(
        place=anchor("picture", manifest.stem, name),
        name=name,
        said=originals.said_of(name),
        original=originals.of(name),
        tasks=sorted(made.items(), key=lambda found: (found[0] != "reconstruction", task_rank(found[0]))),
        words=list(said.values()),
    )
