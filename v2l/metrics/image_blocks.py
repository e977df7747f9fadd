"""What every image of an images file measures against its original, made in blocks that processes share out."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain, groupby, islice, repeat
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from tqdm import tqdm

from v2l.configuration.config import ScorePredictions
from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.registry import implementation_of
from v2l.data.geometry import Geometry
from v2l.data.image_loading import load_batches
from v2l.data.images import decode_png, tokenizer_image
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.overlap import BATCHES_AHEAD, ahead, mapped, sent
from v2l.io.storage import matrix, vectors
from v2l.memory_errors import out_of_memory
from v2l.metrics.frechet import load_feature_network
from v2l.metrics.manifest_rows import known_rows
from v2l.metrics.pair_metric import PairMetric, measured_pairs
from v2l.metrics.share import Share
from v2l.runtime import device

IMAGE, ORIGINAL = "image", "original"
BATCH_SIZE = "score_predictions.batch_size"
Block = tuple[str, slice]  # images of an images file, or distinct originals


class Scored(NamedTuple):
    """What was measured of one task's N images: `values` (float64, N) by metric, features of them and of originals."""

    images: list[str]
    values: dict[str, np.ndarray]
    feature_ND: torch.Tensor
    original_ND: torch.Tensor


def scored_images(section: ScorePredictions, geometry: Geometry, inputs: Inputs, share: Share) -> dict[str, Scored]:
    """What was measured of each task in an images file; raises UserError as `measure_images` says."""
    file = pq.ParquetFile(inputs["images"])
    ids, tasks = (file.read([name])[name].to_pylist() for name in ("image_id", "task"))
    if not ids:
        raise UserError(f"{inputs['images']} holds no images", "at least one", "delete it and run again")
    # Several tasks share an original, whose features are made once.
    names = {IMAGE: ids, ORIGINAL: list(dict.fromkeys(ids))}
    blocks = [
        (kind, slice(start, min(start + section.batch_size, len(known))))
        for kind, known in names.items()
        for start in range(0, len(known), section.batch_size)
    ]
    tables = share(blocks, partial(_measured, section, geometry, inputs, names))
    found: dict[str, list[pa.Table]] = {kind: [] for kind in names}
    for (kind, _), table in zip(blocks, tables, strict=True):
        found[kind].append(table)
    image, original = (pa.concat_tables(found[kind]) for kind in (IMAGE, ORIGINAL))
    feature_ND, original_ND = (torch.tensor(matrix(table["feature"])) for table in (image, original))
    row_of = {image_id: row for row, image_id in enumerate(names[ORIGINAL])}
    collected = {}
    for task in dict.fromkeys(tasks):
        rows = [row for row, name in enumerate(tasks) if name == task]
        values = {metric: image[metric].to_numpy()[rows] for metric in section.image_metrics}
        own = [row_of[ids[row]] for row in rows]
        collected[task] = Scored([ids[row] for row in rows], values, feature_ND[rows], original_ND[own])
    return collected


def _measured(
    section: ScorePredictions, geometry: Geometry, inputs: Inputs, names: dict[str, list[str]], blocks: Sequence[Block]
) -> Iterator[pa.Table]:
    """For each block of images their metrics and features, for each block of originals the features alone."""
    manifest = Manifest.read(inputs["manifest"])
    metrics: dict[str, PairMetric] = {
        name: implementation_of(IMAGE_METRICS[name])(section, device()) for name in section.image_metrics
    }
    features = load_feature_network(section.frechet, Path(section.frechet_weights), device(), section.mode)

    def original(image: Image.Image, row: int) -> np.ndarray:
        return np.asarray(tokenizer_image(image, geometry, manifest.fit))

    with tqdm(total=sum(part.stop - part.start for _, part in blocks), unit="image", disable=None) as progress:
        for kind, group in groupby(blocks, itemgetter(0)):
            parts = [part for _, part in group]
            rows = known_rows(manifest, [name for part in parts for name in names[kind][part]], inputs["images"])
            images = _decoded(inputs["images"], parts, section.batch_size) if kind == IMAGE else repeat(None)
            batches = load_batches(manifest, rows, original, section.batch_size)
            both = zip(batches, images, strict=kind == IMAGE)
            for original_BCHW, image_BCHW in ahead((_stack(originals), image) for (_, originals), image in both):
                shown_BCHW = original_BCHW if image_BCHW is None else image_BCHW
                columns = {metric: pa.nulls(len(original_BCHW), pa.float64()) for metric in metrics}
                with out_of_memory("score_predictions", BATCH_SIZE, f"{len(original_BCHW)} images"):
                    if image_BCHW is not None:
                        pairs = measured_pairs(metrics, _unit(image_BCHW), _unit(original_BCHW))
                        columns |= {metric: value.double().cpu().numpy() for metric, value in pairs.items()}
                    feature = vectors(features(shown_BCHW))
                yield pa.table(columns | {"feature": feature})
                progress.update(len(original_BCHW))


def _decoded(path: Path, parts: list[slice], batch_size: int) -> Iterator[torch.Tensor]:
    """uint8 image_BCHW of each part of an images file, read from its beginning to its end."""
    decoded = mapped(lambda data: decode_png(data.as_py()), _encoded(path, parts), BATCHES_AHEAD * batch_size)
    for part in parts:
        yield _stack(list(islice(decoded, part.stop - part.start)))


def _encoded(path: Path, parts: list[slice]) -> Iterator[pa.BinaryScalar]:
    batches = pq.ParquetFile(path).iter_batches(columns=["image"])
    images, position = chain.from_iterable(batch["image"] for batch in batches), 0
    for part in parts:
        yield from islice(images, part.start - position, part.stop - position)
        position = part.stop


def _stack(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)))


def _unit(image_BCHW: torch.Tensor) -> torch.Tensor:
    return sent(image_BCHW, device()).float() / 255
