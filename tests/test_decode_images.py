"""Stage decode_images: the pixels that training would decode, whoever makes them, and room for them on the disk."""

import json
import shutil

import numpy as np
import pytest

from tests.test_train_tokenizer import toy, vgg  # noqa: F401
from tests.test_training_data import IMAGES, manifest
from v2l import decode_images
from v2l.configuration.experiment import load_experiment
from v2l.configuration.slices import StageConfig
from v2l.data.geometry import Geometry
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import read_tensors
from v2l.pipeline import shards
from v2l.pipeline.required_files import decoded_files
from v2l.training import training_images
from v2l.training.training_images import TrainingImages


@pytest.fixture
def stage(tmp_path):
    """`go(fit, **machine)` runs the stage on six pictures at 12 pixels by way of 16; returns manifest and output."""

    def go(fit="crop", outputs=None, **machine):
        pictures = tmp_path / "pictures"
        pictures.mkdir(exist_ok=True)
        listing = manifest(pictures, fit)
        job = {"dataset": "ramps", "image_size": "12", "resize_via": "-via-16"}
        config = StageConfig("decode_images", {"decode_images": {"batch_size": 2}, "job": job}, machine)
        outputs = outputs or {"images": tmp_path / "out" / "ramps.npy"}
        decode_images.run(config, Inputs({"manifest": listing.file}), outputs)
        return listing, outputs["images"]

    return go


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_rows_are_what_a_training_decodes(stage, fit):
    listing, path = stage(fit)
    geometry, rows = Geometry(image_size=12, resize_via=16, grid=3), np.array([1, 2, 5])
    plain, copied = (TrainingImages(listing, rows, geometry, "flip", copy=copy) for copy in (None, path))
    pairs = [(plain[place][0], copied[place][0]) for place in range(3 * len(rows))]
    assert all(np.array_equal(a, b) and a.stride() == b.stride() for a, b in pairs)
    assert np.load(path).shape == (IMAGES, 12, 12, 3)
    record = json.loads(path.with_name("ramps.npy.provenance.json").read_text())
    assert record["stage"] == "decode_images" and {entry.name for entry in path.parent.iterdir()} == {
        "ramps.npy",
        "ramps.npy.provenance.json",
    }


def test_processes_that_share_the_work_write_the_same_file(stage, monkeypatch):
    expected = stage()[1].read_bytes()

    def started(config, inputs, folder, count):
        paths = [folder / f"{shard}.parquet" for shard in range(count)]
        for shard, path in enumerate(paths):
            with pytest.raises(SystemExit):
                stage(outputs={"part": path}, shard=str(shard), shards=str(count))
        return paths

    monkeypatch.setattr(shards, "run_shards", started)
    path = stage(shards="2")[1]
    assert path.read_bytes() == expected and len(list(path.parent.iterdir())) == 2


def test_a_start_after_an_interruption_ends_in_the_same_file(stage, monkeypatch):
    expected = stage()[1].read_bytes()
    original, seen = decode_images.tokenizer_image, []

    def interrupted(*arguments):
        seen.append(arguments)
        if len(seen) == 5:
            raise InterruptedError
        return original(*arguments)

    monkeypatch.setattr(decode_images, "tokenizer_image", interrupted)
    with pytest.raises(InterruptedError):
        stage()
    _, path = stage()
    assert path.read_bytes() == expected and len(list(path.parent.iterdir())) == 2


def test_a_full_disk_is_told_with_numbers_before_anything_is_decoded(stage, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(decode_images.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(decode_images, "tokenizer_image", lambda *what: pytest.fail("decoded"))
    with pytest.raises(UserError, match=r"needs 0.0 GB, and 0.0 GB are free.*decoded_images: false"):
        stage()


def test_a_training_on_decoded_images_has_the_same_weights(toy, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(training_images, "CACHE_BYTES", 0)
    outputs = toy()
    expected, weights = outputs["metrics"].read_bytes(), weights_of(outputs)
    job = {"dataset": "toy", "image_size": "16", "resize_via": ""}
    config = StageConfig("decode_images", {"decode_images": {"batch_size": 5}, "job": job})
    toy.inputs["decoded"] = tmp_path / "toy.16px.npy"
    decode_images.run(config, Inputs({"manifest": toy.inputs["manifest"]}), {"images": toy.inputs["decoded"]})
    monkeypatch.setattr(training_images, "load_image", lambda *what: pytest.fail("a picture was decoded"))
    outputs = toy(decoded_images=True)
    assert outputs["metrics"].read_bytes() == expected
    found = weights_of(outputs)
    assert all(np.array_equal(found[name], weights[name]) for name in weights)
    record = json.loads((tmp_path / "out.metrics.jsonl.provenance.json").read_text())
    assert "decoded" not in record["inputs"]


def weights_of(outputs):
    return {name: tensor.numpy() for name, tensor in read_tensors(outputs["weights"])[0].items()}


def test_a_file_of_other_images_is_refused(stage):
    listing, path = stage()
    with pytest.raises(UserError, match=r"ramps.npy does not hold the images \(\(6, 12, 12, 3\)\).*\(6, 16, 16, 3\)"):
        TrainingImages(listing, np.arange(IMAGES), Geometry(image_size=16, resize_via=None, grid=4), copy=path)


def test_crops_of_decoded_images_are_refused_with_a_reason():
    changes = {"experiment": "paper", "train_tokenizer": {"decoded_images": True}}
    with pytest.raises(UserError, match=r"tokenizers.lqae.train_tokenizer.decoded_images.*crops of whole pictures"):
        load_experiment(changes)
    changes["tokenizers"] = {"lqae": {"train_tokenizer": {"decoded_images": False}}}
    assert load_experiment(changes).train_tokenizer.decoded_images


def test_each_tokenizer_reads_the_file_of_its_own_network():
    changes = {"experiment": "paper", "train_tokenizer": {"decoded_images": True}}
    changes["tokenizers"] = {
        "lqae": {"train_tokenizer": {"decoded_images": False}},
        "spae": {"train_tokenizer": {"network": {"image_size": 64, "resize_via": None}}},
    }
    changes["tokenizers"]["spae"] |= {"pyramid": [1, 2, 4, 8]}
    config = load_experiment(changes)
    found = [decoded_files(config, name) for name in ("v2l", "spae", "lqae")]
    folder = "results/paper/decode_images/imagenet."
    assert found == [[f"{folder}128px-via-224.npy"], [f"{folder}64px.npy"], []]
