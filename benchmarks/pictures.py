"""JPEG files of a random data set, its manifest, and jobs of the stages that read them."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from benchmarks.sizes import Sizes
from v2l.configuration.slices import StageConfig
from v2l.data.geometry import network_geometry
from v2l.data.images import to_tensor, tokenizer_image
from v2l.data.manifest import SCHEMA, Manifest
from v2l.io.job_files import Inputs
from v2l.io.storage import write_parquet, write_tensors

JPEG_SIZE = (500, 375)  # pixels, the commonest of ImageNet
DISTINCT = 64
FIT = "crop"


class Pictures:
    """`count` JPEG files, some of them links to others, and the files that the stages read beside them."""

    def __init__(self, sizes: Sizes, folder: Path, count: int):
        self.sizes, self.folder, self.count = sizes, folder, count
        root = folder / "images"
        root.mkdir(exist_ok=True)
        numbers = np.random.default_rng(0)
        names = [f"{number:06}.jpg" for number in range(count)]
        for number, name in enumerate(names):
            if number < DISTINCT:
                coarse = numbers.integers(256, size=(12, 16, 3), dtype=np.uint8)
                smooth = np.asarray(Image.fromarray(coarse).resize(JPEG_SIZE, Image.Resampling.BICUBIC), dtype=float)
                pixels = (smooth + numbers.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / name, quality=90)
            elif not (root / name).exists():
                os.link(root / names[number % DISTINCT], root / name)
        rows = [
            {
                "image_id": name,
                "split": "val",
                "label": 0,
                "class_name": "picture",
                "captions": [],
                "questions": [],
                "width": JPEG_SIZE[0],
                "height": JPEG_SIZE[1],
            }
            for name in names
        ]
        self.files = {name: folder / f"{name}-{count}.parquet" for name in ("manifest", "words")}
        dataset = {"root": str(root), "fit": FIT, "classes": ["picture"]}
        write_parquet(self.files["manifest"], pa.Table.from_pylist(rows, SCHEMA), {}, {"dataset": dataset})
        write_parquet(self.files["words"], pa.table({"text": ["word"]}), {}, {"vocabulary": {"llm": "random"}})
        self.files["features"] = folder / f"features-{count}.safetensors"
        feature_ND = torch.nn.functional.normalize(torch.randn(count, sizes.feature_width), dim=1)
        write_tensors(self.files["features"], {"feature_ND": feature_ND}, {})
        self.files["weights"] = folder / "weights"  # read by nobody: the network is given
        self.files["weights"].touch()
        self.manifest = Manifest.read(self.files["manifest"])

    def inputs(self, *names: str, **others: Path) -> Inputs:
        """Those files, and others, as a stage gets them."""
        return Inputs({name: self.files[name] for name in names} | others)

    def paths(self, count: int) -> list[Path]:
        """The first files."""
        return [self.manifest.path(row) for row in range(count)]

    def tokenizer_images(self, count: int) -> torch.Tensor:
        """The first pictures as the tokenizers see them: image_BCHW in [-1, 1], not on the device."""
        geometry = network_geometry(self.sizes.network)
        images = [Image.open(path).convert("RGB") for path in self.paths(count)]
        return to_tensor([tokenizer_image(image, geometry, FIT) for image in images])


def job(stage: str, settings: dict[str, Any], **job: str) -> StageConfig:
    """The configuration of a job with `settings` beside the stage's defaults."""
    return StageConfig(stage, {"seed": 0, "job": job} | settings)


@contextmanager
def given(*replaced: tuple[ModuleType, str, Any]) -> Iterator[None]:
    """Functions of modules that load a network give one that is there already, meanwhile."""
    with ExitStack() as stack:
        for module, name, value in replaced:
            stack.enter_context(patch.object(module, name, lambda *_, value=value, **__: value))
        yield
