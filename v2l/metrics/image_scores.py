"""Scores of decoded or corrupted images: every image metric, and the Frechet distance of the set."""

import logging

import numpy as np

from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.registry import implementation_of
from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.data.geometry import Geometry
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata
from v2l.metrics.frechet import METRIC_NAMES, MIN_IMAGES, frechet_distance
from v2l.metrics.image_blocks import Scored, scored_images
from v2l.metrics.rows import Key, Measurement, joined
from v2l.metrics.share import Share
from v2l.metrics.source_names import names_of, note_of
from v2l.precision import computed_in

FRECHET_NOTE = (
    "no confidence interval and no paired difference: a Frechet distance belongs to the set, not to its items"
)


@computed_in("float32")
def measure_images(config: StageConfig, source: Source, inputs: Inputs, share: Share) -> list[Measurement]:
    """Every image metric and the Frechet distance of every task in an images file.

    Inputs: images, manifest. Originals are read as the tokenizer saw them.
    Raises UserError for an empty images file, images that the manifest does not know, originals that cannot be read,
    images too small for a metric, or missing metric weights.
    """
    section, tokenizer = config.score_predictions, config.job["tokenizer"]
    metadata = parquet_metadata(inputs["images"])
    geometry = Geometry.model_validate(metadata["geometry"])
    _check_size(section.image_metrics, geometry.image_size)
    names, note = names_of(tokenizer, source), note_of(source, metadata["note"])
    measurements = []
    for task, scored in scored_images(section, geometry, inputs, share).items():
        if source.task == "reconstruction":
            keys = {"method": names["method"], "global_tokens": metadata["global_tokens"]}
        else:
            keys = names | {"task": task}
        for metric, values in scored.values.items():
            measurements.append(Measurement(keys, metric, source.protocol, scored.images, values, note))
        measurements.append(_frechet(keys, section.frechet, source.protocol, note, scored))
    return measurements


def _check_size(names: list[str], side: int) -> None:
    """Raise UserError if images of `side` pixels are too small for one of the image metrics."""
    least = {name: implementation_of(IMAGE_METRICS[name]).min_side for name in names}
    name = max(names, key=least.__getitem__)
    if side < least[name]:
        raise UserError(
            f"`train_tokenizer.network.image_size` is {side}",
            f"at least {least[name]}: {IMAGE_METRICS[name].label} has no value for smaller images",
            "raise the key",
        )


def _frechet(keys: dict[str, Key], kind: str, protocol: str, note: str, scored: Scored) -> Measurement:
    n, dimensions = scored.feature_ND.shape
    value: float | None = None
    if n < MIN_IMAGES:
        reason = f"needs at least {MIN_IMAGES} images"
    else:
        value = frechet_distance(scored.feature_ND, scored.original_ND)
        reason = _too_few(n, dimensions) if n <= dimensions else ""
    note = joined(note, FRECHET_NOTE, reason)
    return Measurement(keys, METRIC_NAMES[kind], protocol, [], np.empty(0), note, value, n)


def _too_few(n: int, dimensions: int) -> str:
    """The warning, which is logged too: a covariance of n images has a rank of at most n - 1."""
    warning = f"warning: {n} images for {dimensions} features: biased, compare at equal n only"
    logging.warning("Frechet distance: %s", warning.removeprefix("warning: "))
    return warning
