"""Tables 3 and 4: decoded or corrupted images against their originals."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, groupby, islice, repeat
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from tqdm import tqdm

from v2l.configuration.config import ScorePredictions
from v2l.configuration.protocols import HELD_OUT, split_run
from v2l.configuration.tokenizer_training import Geometry
from v2l.data.image_loading import load_batches
from v2l.data.images import decode_png, tokenizer_image
from v2l.data.manifest import Manifest
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import matrix, parquet_facts, vectors
from v2l.metrics.frechet import METRIC_NAMES, MIN_IMAGES, frechet_distance, load_feature_network
from v2l.metrics.image_quality import LPIPS_MIN_SIDE, pair_metrics
from v2l.metrics.rows import TABLE_KEYS, Measurement, joined
from v2l.metrics.semantics import known_rows
from v2l.models.lpips_network import load_lpips
from v2l.models.tokenizer_file import tokenizer_facts
from v2l.runtime import device

FRECHET_NOTE = "no confidence interval: a Frechet distance belongs to the set, not to its items"
NOTES = {
    "mean-image": "lower bound: the mean training image for every image",
    "corrupted-input": "lower bound: the corrupted image itself",
    "restoration.tokenizer-oracle": "upper bound: the clean image's own tokens, decoded",
    "restoration.majority-vote": "no language model: the commonest token of the examples",
    "masked.corrupted-input": "lower bound: zero vectors in place of the masked tokens, decoded",
    "masked.tokenizer-oracle": "upper bound: the clean image's own tokens, decoded",
    "masked.most-frequent-code": "no language model: the commonest visible token of the image",
}
LLM_NOTES = {
    "restoration": "the ten examples are noised copies of the answer: majority-vote shows what copying alone earns",
    "masked": "language model fine-tuned with LoRA on training images",
}

METRICS = ("lpips", "psnr", "ssim")
IMAGE, ORIGINAL = "image", "original"
Block = tuple[str, slice]  # images of an images file, or distinct originals


def table_of(source: str) -> str:
    """The table that an image source belongs to."""
    return "table3_reconstruction" if source in ("reconstruction", "mean-image") else "table4_restoration"


def source_keys(tokenizer: str, source: str, global_tokens: int) -> tuple[dict[str, str | int | None], str]:
    """The key columns of an image source (without `task`), and its note."""
    source, protocol = split_run(source)
    kind, _, predictor = source.partition(".")
    if source == "reconstruction":
        return {"method": tokenizer, "global_tokens": global_tokens}, ""
    if source == "mean-image":
        return {"method": source, "global_tokens": None}, NOTES[source]
    if source == "corrupted-input":
        return {"method": source, "tokenizer": None, "llm": None}, NOTES[source]
    if source in NOTES:
        return {"method": predictor, "tokenizer": tokenizer, "llm": None}, NOTES[source]
    note = "" if protocol == HELD_OUT else LLM_NOTES[kind]
    return {"method": tokenizer, "tokenizer": tokenizer, "llm": predictor}, note


def measure_images(
    config: ScorePredictions, tokenizer: str, source: str, protocol: str, inputs: Inputs, share: Callable
) -> list[Measurement]:
    """LPIPS, PSNR, SSIM (table 3 only) and the Frechet distance of every task in an images file.

    Inputs: images, manifest, weights (for the tokenizer's geometry: originals are read as the tokenizer saw them).
    Raises UserError for an empty images file, images that the manifest does not know, originals that cannot be read,
    images too small for LPIPS, or missing metric weights.
    """
    facts = tokenizer_facts(inputs["weights"])
    geometry = Geometry.model_validate(facts["geometry"])
    if geometry.image_size < LPIPS_MIN_SIDE:
        raise UserError(
            f"`train_tokenizer.network.image_size` is {geometry.image_size}",
            f"at least {LPIPS_MIN_SIDE}: LPIPS has no value for smaller images",
            "raise the key",
        )
    keys, note = source_keys(tokenizer, source, facts["global_tokens"])
    if tokenizer != "pixels":
        note = joined(note, facts["note"])
    table = table_of(source)
    metrics = METRICS if table == "table3_reconstruction" else METRICS[:2]
    protocol = parquet_facts(inputs["images"]).get("protocol", protocol)

    measurements = []
    for task, (images, values, feature_ND, original_ND) in _collect(config, geometry, inputs, share).items():
        cell = keys | ({"task": task} if "task" in TABLE_KEYS[table] else {})
        measurements += [Measurement(cell, metric, protocol, images, values[metric], note) for metric in metrics]
        measurements.append(_frechet(cell, config.frechet, protocol, note, feature_ND, original_ND))
    return measurements


def _frechet(
    keys: dict, kind: str, protocol: str, note: str, feature_ND: torch.Tensor, original_ND: torch.Tensor
) -> Measurement:
    n, dimensions = feature_ND.shape
    notes = [note, FRECHET_NOTE]
    if n < MIN_IMAGES:
        value, reason = None, f"needs at least {MIN_IMAGES} images"
    else:
        value = frechet_distance(feature_ND, original_ND)
        reason = f"biased: {n} images for {dimensions} features, compare at equal n only" if n <= dimensions else ""
    note = joined(*notes, reason)
    return Measurement(keys, METRIC_NAMES[kind], protocol, [], np.empty(0), note, value, n)


def _collect(config: ScorePredictions, geometry: Geometry, inputs: Inputs, share: Callable) -> dict:
    """Per task: image ids, values by metric (float64, N), features of the images and of their originals (N x D)."""
    file = pq.ParquetFile(inputs["images"])
    ids, tasks = (file.read([name])[name].to_pylist() for name in ("image_id", "task"))
    if not ids:
        raise UserError(f"{inputs['images']} holds no images", "at least one", "delete it and run again")
    # Several tasks share an original, whose features are made once.
    names = {IMAGE: ids, ORIGINAL: list(dict.fromkeys(ids))}
    blocks = [
        (kind, slice(start, min(start + config.batch_size, len(found))))
        for kind, found in names.items()
        for start in range(0, len(found), config.batch_size)
    ]
    tables = share(blocks, partial(_measured, config, geometry, inputs, names))
    found: dict[str, list[pa.Table]] = {kind: [] for kind in names}
    for (kind, _), table in zip(blocks, tables, strict=True):
        found[kind].append(table)
    image, original = (pa.concat_tables(found[kind]) for kind in (IMAGE, ORIGINAL))
    feature_ND, original_ND = (torch.tensor(matrix(table["feature"])) for table in (image, original))
    row_of = {image_id: row for row, image_id in enumerate(names[ORIGINAL])}
    collected = {}
    for task in dict.fromkeys(tasks):
        rows = [row for row, name in enumerate(tasks) if name == task]
        values = {metric: image[metric].to_numpy()[rows] for metric in METRICS}
        own = [row_of[ids[row]] for row in rows]
        collected[task] = [ids[row] for row in rows], values, feature_ND[rows], original_ND[own]
    return collected


def _measured(
    config: ScorePredictions, geometry: Geometry, inputs: Inputs, names: dict[str, list[str]], blocks: list[Block]
) -> Iterator[pa.Table]:
    """For each block of images their metrics and features, for each block of originals the features alone."""
    manifest = Manifest.read(inputs["manifest"])
    lpips_network = load_lpips("alex", Path(config.lpips_weights)).to(device())
    features = load_feature_network(config.frechet, Path(config.frechet_weights), device())

    def original(image: Image.Image, row: int) -> np.ndarray:
        return np.asarray(tokenizer_image(image, geometry, manifest.fit))

    with tqdm(total=sum(part.stop - part.start for _, part in blocks), unit="image", disable=None) as progress:
        for kind, group in groupby(blocks, itemgetter(0)):
            parts = [part for _, part in group]
            rows = known_rows(manifest, [name for part in parts for name in names[kind][part]], inputs["images"])
            images = _decoded(inputs["images"], parts) if kind == IMAGE else repeat(None)
            batches = load_batches(manifest, rows, original, config.batch_size)
            for (_, originals), image_BCHW in zip(batches, images, strict=kind == IMAGE):
                original_BCHW = _stack(originals)
                shown_BCHW = original_BCHW if image_BCHW is None else image_BCHW
                columns = {metric: pa.nulls(len(originals), pa.float64()) for metric in METRICS}
                if image_BCHW is not None:
                    pairs = pair_metrics(_unit(image_BCHW), _unit(original_BCHW), lpips_network)
                    columns |= {metric: value.double().cpu().numpy() for metric, value in pairs.items()}
                yield pa.table(columns | {"feature": vectors(features(shown_BCHW))})
                progress.update(len(originals))


def _decoded(path: Path, parts: list[slice]) -> Iterator[torch.Tensor]:
    """uint8 image_BCHW of each part of an images file, read from its beginning to its end."""
    batches = pq.ParquetFile(path).iter_batches(columns=["image"])
    images, position = chain.from_iterable(batch["image"] for batch in batches), 0
    for part in parts:
        chosen = islice(images, part.start - position, part.stop - position)
        yield _stack([decode_png(data.as_py()) for data in chosen])
        position = part.stop


def _stack(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _unit(image_BCHW: torch.Tensor) -> torch.Tensor:
    return image_BCHW.to(device()).float() / 255
