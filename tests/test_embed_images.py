"""Stage embed_images: one unit feature for each manifest row, in its order."""

import logging

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter

from tests import tiny
from v2l import embed_images
from v2l.configuration.model_entries import AnyEncoder, OpenClipEncoder
from v2l.configuration.slices import StageConfig
from v2l.data.images import open_image
from v2l.data.manifest import SCHEMA
from v2l.encoders.loader import load_encoder
from v2l.encoders.open_clip import OpenClip
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import read_tensors, write_parquet

SIZES = {"a/0.png": (40, 30), "a/1.png": (64, 64), "b/0.png": (20, 90), "b/1.png": (33, 32), "b/2.png": (7, 9)}


@pytest.fixture
def stage(tmp_path):
    """Configuration and paths of a run on five pictures with the tiny CLIP."""
    tiny.write_clip(tmp_path)
    generator = np.random.default_rng(0)
    for name, (width, height) in SIZES.items():
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    rows = [
        {
            "image_id": name,
            "split": "train",
            "label": 0,
            "class_name": "a",
            "captions": [],
            "questions": [],
            "width": size[0],
            "height": size[1],
        }
        for name, size in SIZES.items()
    ]
    dataset = {"name": "pictures", "root": str(tmp_path / "pictures"), "fit": "pad", "classes": ["a"]}
    manifest = tmp_path / "pictures.parquet"
    write_parquet(manifest, pa.Table.from_pylist(rows, SCHEMA), {"stage": "index_images"}, {"dataset": dataset})
    files = {"model": str(tmp_path / "clip.json"), "weights": str(tmp_path / "clip.safetensors")}
    entry = OpenClipEncoder(kind="open_clip", **files).model_dump()
    data = {
        "encoder": "clip",
        "encoders": {"clip": entry},
        "datasets": {"pictures": {"kind": "folder", "root": dataset["root"], "fit": "pad"}},
        "embed_images": {"batch_size": 2},
        "job": {"dataset": "pictures"},
    }
    return data, {"manifest": manifest}, {"features": tmp_path / "out" / "pictures.safetensors"}


def run(stage, batch_size=2):
    data, inputs, outputs = stage
    data["embed_images"]["batch_size"] = batch_size
    embed_images.run(StageConfig("embed_images", data), Inputs(inputs), outputs)
    return read_tensors(outputs["features"])


def test_rows_are_the_encoder_s_features_in_manifest_order(stage):
    data, inputs, _ = stage
    feature_ND = run(stage)[0]["feature_ND"]
    encoder = load_encoder(TypeAdapter(AnyEncoder).validate_python(data["encoders"]["clip"]), torch.device("cpu"))
    root = inputs["manifest"].parent / "pictures"
    expected = torch.cat([encoder.encode_images([open_image(root / name)], "pad") for name in SIZES])
    assert feature_ND.dtype == torch.float32
    assert torch.allclose(feature_ND, expected, atol=1e-6)
    assert torch.allclose(feature_ND.norm(dim=1), torch.ones(5), atol=1e-6)
    assert (feature_ND[:, None] - feature_ND).abs().amax(dim=2).fill_diagonal_(1).min() > 1e-4


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_batch_size_does_not_change_the_features(stage, batch_size):
    reference = run(stage)[0]["feature_ND"]
    assert torch.allclose(run(stage, batch_size)[0]["feature_ND"], reference, atol=1e-6)


def test_a_batch_of_the_stage_s_own_is_halved_where_memory_does_not_suffice(stage, monkeypatch, caplog):
    reference, encode = run(stage)[0]["feature_ND"], OpenClip.encode_squares

    def short_of_memory(self, pixels_NHWC):
        if len(pixels_NHWC) > 2:
            raise torch.OutOfMemoryError
        return encode(self, pixels_NHWC)

    monkeypatch.setattr(OpenClip, "encode_squares", short_of_memory)
    assert torch.allclose(run(stage, None)[0]["feature_ND"], reference, atol=1e-6)
    assert "image encoding: no memory for 5 images at once" in caplog.text
    with pytest.raises(UserError, match=r"3 images at once.*`embed_images.batch_size`"):
        run(stage, 3)


def test_facts_and_provenance_are_written(stage, caplog):
    caplog.set_level(logging.INFO)
    metadata = run(stage)[1]
    assert metadata["encoder"] == "clip"
    assert metadata["v2l"]["stage"] == "embed_images"
    assert metadata["v2l"]["config"] == stage[0]
    assert sorted(metadata["v2l"]["inputs"]) == ["encoders.clip.model", "encoders.clip.weights", "manifest"]
    assert "embedded 5 images of pictures, 16 channels" in caplog.text


def test_an_image_damaged_after_indexing_is_named(stage):
    data, inputs, outputs = stage
    path = inputs["manifest"].parent / "pictures" / "b" / "0.png"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="0.png cannot be read"):
        run(stage)
    path.unlink()
    with pytest.raises(UserError, match="0.png cannot be read"):
        run(stage)
    assert not outputs["features"].exists()
