import json

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from tests.token_experiment import GEOMETRY, GLOBAL_TOKENS, SUBWORDS, WIDTH, build, experiment, stage_config
from v2l import extract_tokens
from v2l.configuration.config import Corruption
from v2l.configuration.restoration_tasks import RESTORATION_TASKS
from v2l.data.images import open_image, to_tensor
from v2l.data.manifest import Manifest
from v2l.data.token_table import Tokens
from v2l.encoders.loader import load_encoder
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, read_tensors, write_tensors
from v2l.models.tokenizer_file import load_tokenizer, tokenizer_description
from v2l.models.v2l import V2LNetwork
from v2l.tasks.image_corruption import corrupted

KEYS = ["seed", "encoder", "datasets.pictures", "extract_tokens"]
SHIFT = Corruption(shift="translate")  # as in the demo
NAMES = ("manifest", "features", "words")


class MeanColours:
    """An encoder whose feature is made of the image's mean colour, so corrupted images differ from clean ones."""

    def encode_images(self, images, fit):
        mean_NC = np.stack([np.asarray(image).mean(axis=(0, 1)) for image in images]) / 255
        return torch.nn.functional.normalize(torch.tensor(np.tile(mean_NC, WIDTH)[:, :WIDTH]).float(), dim=1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return build(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    monkeypatch.setattr(extract_tokens, "load_encoder", lambda entry, device: MeanColours())


def extract(files, path, tokenizer="v2l", sample="restoration", **overrides):
    job = {"tokenizer": tokenizer, "sample": sample}
    encoder = overrides.get("encoder", "conse")
    keys = [*KEYS, f"encoders.{encoder}", f"samples.{sample}", f"tokenizers.{tokenizer}"]
    config = stage_config("extract_tokens", keys, job, **overrides)
    inputs = {name: files[name] for name in NAMES} | {"weights": files[f"weights.{tokenizer}"]}
    extract_tokens.run(config, Inputs(inputs), {"tokens": path})
    return pq.read_table(path)


def test_rows_are_each_corruption_of_each_image_in_manifest_order(files, tmp_path):
    table = extract(files, tmp_path / "t.parquet")
    manifest = Manifest.read(files["manifest"])
    images = table["image_id"].to_pylist()[:3]
    assert images == sorted(images) and all(image.startswith("val/") for image in images)
    assert table["image_id"].to_pylist() == images * 6
    assert table["corruption"].to_pylist() == [name for name in ["none", *RESTORATION_TASKS] for _ in range(3)]
    rows = manifest.rows_of(images)
    assert table["label"].to_pylist()[:3] == manifest.label[rows].tolist() and set(table["split"].to_pylist()) == {
        "val"
    }
    assert str(table.schema.field("local_ids").type) == "fixed_size_list<element: int32>[16]"
    assert str(table.schema.field("global_ids").type) == f"fixed_size_list<element: int32>[{GLOBAL_TOKENS}]"


def test_facts_and_provenance(files, tmp_path):
    extract(files, tmp_path / "t.parquet")
    metadata = parquet_metadata(tmp_path / "t.parquet")
    assert metadata["tokenizer"] == tokenizer_description(files["weights.v2l"]) and metadata["grid"] == [4, 4]
    assert metadata["vocabulary"] == {"llm": "tiny", "subwords": SUBWORDS}
    assert metadata["v2l"]["stage"] == "extract_tokens" and {*NAMES, "weights"} <= set(metadata["v2l"]["inputs"])


@pytest.mark.parametrize("corruption", ["none", "inpainting", "rotation", "deblurring"])
def test_ids_are_those_of_the_tokenizer(files, tmp_path, corruption):
    extract(files, tmp_path / "t.parquet")
    tokens = Tokens.read(tmp_path / "t.parquet", corruption)
    manifest, tokenizer = Manifest.read(files["manifest"]), load_tokenizer(files["weights.v2l"])
    rows = manifest.rows_of(list(tokens.image_id))
    images = [
        corrupted(open_image(manifest.path(row)), corruption, GEOMETRY, "crop", SHIFT, 0, manifest.image_id[row])
        for row in rows
    ]
    local_NL = torch.cat([tokenizer.nearest(tokenizer.vectors(to_tensor([image]))) for image in images])
    assert np.array_equal(tokens.local_NL, local_NL)
    stored = read_tensors(files["features"])[0]["feature_ND"][rows]
    feature_ND = stored if corruption == "none" else MeanColours().encode_images(images, "crop")
    assert np.array_equal(tokens.global_NK, tokenizer.global_ids(feature_ND))


def test_values_do_not_depend_on_the_batch_size(files, tmp_path):
    first = extract(files, tmp_path / "1.parquet", extract_tokens={"batch_size": 1})
    assert first.equals(extract(files, tmp_path / "3.parquet", extract_tokens={"batch_size": 3}))


@pytest.mark.parametrize("tokenizer", ["v2l-local", "vqgan"])
def test_tokenizers_without_global_path_have_no_global_ids(files, tmp_path, tokenizer):
    table = extract(files, tmp_path / "t.parquet", tokenizer)
    assert table["global_ids"].null_count == table.num_rows == 18
    tokens = Tokens.read(tmp_path / "t.parquet")
    assert tokens.global_NK is None and tokens.local_NL.shape == (3, 16)


def test_more_than_a_row_group_is_streamed(files, tmp_path, monkeypatch):
    whole = extract(files, tmp_path / "whole.parquet", sample="reconstruction")
    monkeypatch.setattr(extract_tokens, "ROWS_PER_GROUP", 3)
    streamed = extract(files, tmp_path / "streamed.parquet", sample="reconstruction")
    assert streamed.equals(whole) and pq.ParquetFile(tmp_path / "streamed.parquet").num_row_groups == 2


def test_used_codes_are_logged(files, tmp_path, caplog):
    caplog.set_level("INFO")
    table = extract(files, tmp_path / "t.parquet")
    used = len(set(table["local_ids"].combine_chunks().flatten().to_pylist()))
    assert f"v2l: 3 images, 6 corruption(s); {used} of {SUBWORDS} local codes used" in caplog.text


def test_an_empty_sample_is_refused(files, tmp_path):
    sample = {"restoration": {"dataset": "pictures", "splits": ["test"]}}
    with pytest.raises(UserError, match=r"samples.restoration.splits` is \['test'\].*one of \['train', 'val'\]"):
        extract(files, tmp_path / "t.parquet", samples=sample)


def test_features_of_another_manifest_are_refused(files, tmp_path):
    write_tensors(tmp_path / "few.safetensors", {"feature_ND": torch.ones(2, WIDTH)}, {})
    with pytest.raises(UserError, match="few.safetensors has 2 rows, the manifest 7 images"):
        extract(files | {"features": tmp_path / "few.safetensors"}, tmp_path / "t.parquet")


def test_features_of_another_width_than_the_global_codes_are_refused(files, tmp_path):
    write_tensors(tmp_path / "wide.safetensors", {"feature_ND": torch.ones(7, WIDTH + 1)}, {})
    with pytest.raises(UserError, match=rf"codes of width {WIDTH}, .*wide.safetensors width {WIDTH + 1}.*`encoder`"):
        extract(files | {"features": tmp_path / "wide.safetensors"}, tmp_path / "t.parquet")


def test_a_vanished_image_is_named(tmp_path):
    files = build(tmp_path)
    (tmp_path / "images/val/4.png").write_bytes(b"no image")
    with pytest.raises(UserError, match="val/4.png cannot be read"):
        extract(files, tmp_path / "t.parquet", sample="reconstruction")
    assert not (tmp_path / "t.parquet").exists()


def test_corrupted_rows_take_the_global_ids_of_a_real_encoder(files, tmp_path, monkeypatch):
    monkeypatch.setattr(extract_tokens, "load_encoder", load_encoder)
    tower = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    (tmp_path / "clip.json").write_text(json.dumps({"embed_dim": WIDTH, "vision_cfg": tower, "text_cfg": text}))
    torch.manual_seed(0)
    clip = open_clip.CLIP(WIDTH, tower, text, quick_gelu=True)
    save_file({key: value.contiguous() for key, value in clip.state_dict().items()}, tmp_path / "clip.safetensors")
    entry = {"kind": "open_clip", "model": str(tmp_path / "clip.json"), "weights": str(tmp_path / "clip.safetensors")}
    choice = {"encoder": "clip", "encoders": {"clip": entry}}
    extract(files, tmp_path / "t.parquet", **choice)
    tokens = Tokens.read(tmp_path / "t.parquet", "inpainting")
    manifest, tokenizer = Manifest.read(files["manifest"]), load_tokenizer(files["weights.v2l"])
    images = [open_image(manifest.root / image_id) for image_id in tokens.image_id]
    images = [corrupted(image, "inpainting", GEOMETRY, "crop", SHIFT, 0, "") for image in images]
    encoder = load_encoder(experiment(**choice).encoders["clip"], torch.device("cpu"))
    feature_ND = encoder.encode_images(images, "crop")
    assert np.array_equal(tokens.global_NK, tokenizer.global_ids(feature_ND))


def test_want_of_memory_names_the_batch_and_its_key(files, tmp_path, monkeypatch):
    def encode(self, image_BCHW, feature_BD):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(V2LNetwork, "encode", encode)
    with pytest.raises(UserError, match=r"2 images at once.*GiB.* free.*\n*.*`extract_tokens.batch_size`"):
        extract(files, tmp_path / "t.parquet", extract_tokens={"batch_size": 2})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("tokenizer", ["v2l", "v2l-local", "vqgan"])
def test_images_without_finite_vectors_are_named(files, tmp_path, monkeypatch, tokenizer):
    whole = extract_tokens.load_tokenizer

    def broken(path, device):
        found = whole(path, device)
        with torch.no_grad():
            next(found.encoder.parameters()).fill_(torch.inf)
        return found

    monkeypatch.setattr(extract_tokens, "load_tokenizer", broken)
    with pytest.raises(UserError, match=rf"of tokenizer {tokenizer} in float32 are not finite for .*precision: float"):
        extract(files, tmp_path / "t.parquet", tokenizer)


def test_stored_features_that_are_not_finite_are_refused(files, tmp_path, monkeypatch):
    broken = tmp_path / "features.safetensors"
    tensors, metadata = read_tensors(files["features"])
    tensors["feature_ND"][1, 2] = torch.nan
    write_tensors(broken, tensors, metadata["v2l"])
    with pytest.raises(
        UserError, match="features.safetensors has features that are not finite.*run embed_images again"
    ):
        extract(files | {"features": broken}, tmp_path / "t.parquet")
