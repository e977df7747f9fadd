"""Images that no tokenizer made, as bounds: the training split's mean, and the corrupted inputs themselves."""

from collections.abc import Iterator

import numpy as np
from PIL import Image
from tqdm import tqdm

from v2l.configuration.slices import StageConfig
from v2l.data.geometry import network_geometry
from v2l.data.image_loading import load_batches
from v2l.data.images import encode_png, tokenizer_image
from v2l.data.manifest import Manifest
from v2l.io.job_files import Inputs
from v2l.tasks.decoded_images import ImageRow
from v2l.tasks.image_corruption import corrupted


def mean_image(config: StageConfig, inputs: Inputs) -> Iterator[ImageRow]:
    """The rounded mean of the training split's tokenizer images, once for each image of sample `reconstruction`."""
    geometry = network_geometry(config.train_tokenizer.network)
    training = Manifest.read(inputs["train_manifest"])
    rows = training.split_rows(config.train_tokenizer.splits, "train_tokenizer.splits")

    def pixels(image: Image.Image, row: int) -> np.ndarray:
        return np.asarray(tokenizer_image(image, geometry, training.fit))

    total_HWC = np.zeros((geometry.image_size, geometry.image_size, 3), dtype=np.int64)
    size = config.reconstruct_images.batch_size
    batches = load_batches(training, rows, pixels, size)
    for _, images in tqdm(batches, total=-(-len(rows) // size), unit="batch", disable=None):
        total_HWC += np.stack(images).sum(axis=0, dtype=np.int64)
    png = encode_png(np.round(total_HWC / len(rows)).astype(np.uint8))
    manifest = Manifest.read(inputs["manifest"])
    for row in manifest.sample_rows(config.samples["reconstruction"], config.seed):
        yield manifest.image_id[row], "reconstruction", png


def corrupted_inputs(config: StageConfig, inputs: Inputs) -> Iterator[ImageRow]:
    """The corrupted tokenizer images of sample `restoration`, one for each task (lower bound)."""
    geometry = network_geometry(config.train_tokenizer.network)
    manifest = Manifest.read(inputs["manifest"])
    tasks, settings = config.evaluate_llm.restoration.tasks, config.extract_tokens.corruption

    def made(image: Image.Image, row: int) -> list[ImageRow]:
        image_id = manifest.image_id[row]
        images = [corrupted(image, task, geometry, manifest.fit, settings, config.seed, image_id) for task in tasks]
        return [(image_id, task, encode_png(np.asarray(found))) for task, found in zip(tasks, images, strict=True)]

    rows = manifest.sample_rows(config.samples["restoration"], config.seed)
    for _, images in load_batches(manifest, rows, made, config.reconstruct_images.batch_size):
        for image in images:
            yield from image
