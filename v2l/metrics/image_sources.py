"""Tables 3 and 4: decoded or corrupted images against their originals."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from tqdm import tqdm

from v2l.config import ScorePredictions
from v2l.config_training import Geometry
from v2l.errors import UserError
from v2l.io.images import decode_png, tokenizer_image
from v2l.io.storage import parquet_facts
from v2l.loading import load_batches
from v2l.manifest import Manifest
from v2l.metrics.frechet import METRIC_NAMES, MIN_IMAGES, FeatureNetwork, frechet_distance, load_feature_network
from v2l.metrics.image_quality import LPIPS_MIN_SIDE, pair_metrics
from v2l.metrics.lpips_network import load_lpips
from v2l.metrics.rows import TABLE_KEYS, Measurement, joined
from v2l.metrics.semantics import known_rows
from v2l.models.tokenizer import tokenizer_facts
from v2l.protocols import HELD_OUT, split_run
from v2l.runtime import device
from v2l.stage import Paths

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
    config: ScorePredictions, tokenizer: str, source: str, protocol: str, inputs: Paths
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
    lpips_network = load_lpips("alex", Path(config.lpips_weights)).to(device())
    feature_network = load_feature_network(config.frechet, Path(config.frechet_weights), device())
    keys, note = source_keys(tokenizer, source, facts["global_tokens"])
    if tokenizer != "pixels":
        note = joined(note, facts["note"])
    table = table_of(source)
    metrics = ("lpips", "psnr", "ssim") if table == "table3_reconstruction" else ("lpips", "psnr")
    protocol = parquet_facts(inputs["images"]).get("protocol", protocol)

    collected = _collect(inputs, geometry, config.batch_size, lpips_network, feature_network)
    measurements = []
    for task, (images, values, feature_ND, original_ND) in collected.items():
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


def _collect(
    inputs: Paths, geometry: Geometry, batch_size: int, lpips_network: torch.nn.Module, features: FeatureNetwork
) -> dict:
    """Per task: image ids, values by metric (float64, N), features of the images and of their originals (N x D)."""
    tasks: dict[str, list] = defaultdict(list)
    known: dict[str, torch.Tensor] = {}  # features of originals, which several tasks share
    for ids, names, image_BCHW, original_BCHW in _batches(inputs, geometry, batch_size):
        pairs = pair_metrics(_unit(image_BCHW), _unit(original_BCHW), lpips_network)
        values = {metric: value.double().cpu().numpy() for metric, value in pairs.items()}
        feature_BD = features(image_BCHW)
        new = [i for i, image_id in enumerate(ids) if image_id not in known]
        if new:
            known |= dict(zip([ids[i] for i in new], features(original_BCHW[new]), strict=True))
        for i, (image_id, task) in enumerate(zip(ids, names, strict=True)):
            tasks[task].append((image_id, {metric: value[i] for metric, value in values.items()}, feature_BD[i]))
    if not tasks:
        raise UserError(f"{inputs['images']} holds no images", "at least one", "delete it and run again")
    collected = {}
    for task, items in tasks.items():
        images = [image_id for image_id, _, _ in items]
        values = {metric: np.array([value[metric] for _, value, _ in items]) for metric in items[0][1]}
        originals = torch.stack([known[image_id] for image_id in images])
        collected[task] = images, values, torch.stack([feature for _, _, feature in items]), originals
    return collected


def _batches(inputs: Paths, geometry: Geometry, batch_size: int) -> Iterator[tuple]:
    """Image ids, tasks, and uint8 image_BCHW of the images and of their originals, batch by batch in file order."""
    manifest = Manifest.read(inputs["manifest"])
    file = pq.ParquetFile(inputs["images"])
    ids, tasks = (file.read([name])[name].to_pylist() for name in ("image_id", "task"))
    images = (data for batch in file.iter_batches(batch_size, columns=["image"]) for data in batch["image"].to_pylist())

    def original(image: Image.Image, row: int) -> np.ndarray:
        return np.asarray(tokenizer_image(image, geometry, manifest.fit))

    start = 0
    with tqdm(total=len(ids), desc="images", unit="image", disable=None) as progress:
        for rows, originals in load_batches(
            manifest, known_rows(manifest, ids, inputs["images"]), original, batch_size
        ):
            batch = slice(start, start + len(rows))
            decoded = [decode_png(data) for data in islice(images, len(rows))]
            yield ids[batch], tasks[batch], _stack(decoded), _stack(originals)
            start = batch.stop
            progress.update(len(rows))


def _stack(images: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _unit(image_BCHW: torch.Tensor) -> torch.Tensor:
    return image_BCHW.to(device()).float() / 255
