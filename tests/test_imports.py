"""Published checkpoints: equal to a plain forward pass, refused whole when anything is wrong, never executed."""

import argparse
import collections
import copy
import io
import json
import os
import pickle
import re
import sys
import types
import typing
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
import yaml

from tests import published
from tests.conftest import Project
from v2l import train_tokenizer
from v2l.configuration.experiment import load_experiment
from v2l.configuration.slices import StageConfig
from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.configuration.tokenizer_training import Network
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.pickles import read_checkpoint, read_texts
from v2l.io.storage import read_tensors, write_parquet, write_tensors
from v2l.models.tokenizer_file import load_tokenizer

HEADS, TOKENS = 2, 5
SIZE = published.Size(32, (1, 2, 2, 4), 1, latent=16, codes=60, width=24, global_codes=30, inner=16)
LOCAL = published.Size(32, (1, 2, 2, 4), 1, latent=16, codes=60, width=24)
TAMING = published.Size(32, (1, 1, 2), 2, latent=12, codes=50, width=10, attention=(2,))
PAPER = published.Size(128, (1, 2, 2, 4), 2, latent=256, codes=32_000, width=768, global_codes=11_908, inner=4096)
NETWORK = {
    "image_size": 32,
    "resize_via": None,
    "channels": 32,
    "residual_blocks": 1,
    "latent_channels": 16,
    "cross_attention_heads": HEADS,
    "cross_attention_head_channels": 8,
}
TAMING_YAML = {
    "model": {
        "base_learning_rate": 4.5e-6,
        "target": "taming.models.vqgan.VQModel",
        "params": {
            "embed_dim": 10,
            "n_embed": 50,
            "monitor": "val/rec_loss",
            "ddconfig": {
                "double_z": False,
                "z_channels": 12,
                "resolution": 32,
                "in_channels": 3,
                "out_ch": 3,
                "ch": 32,
                "ch_mult": [1, 1, 2],
                "num_res_blocks": 2,
                "attn_resolutions": [8],
                "dropout": 0.0,
            },
            "lossconfig": {"target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"},
        },
    },
    "data": {"target": "main.DataModuleFromConfig"},
}
WORDS = [f"word {number}" for number in range(SIZE.global_codes)]


def released_model(size: published.Size = SIZE, seed: int = 0) -> dict:
    """The entry `model` of a checkpoint as the released training script leaves it, with all that is not needed."""
    extra = {
        "discriminator.main.0.weight": torch.randn(8, 3, 4, 4),
        "discriminator.main.3.running_mean": torch.zeros(8),
        "discriminator.main.3.num_batches_tracked": torch.tensor(7),
        "perceptual_loss.scaling_layer.shift": torch.zeros(1, 3, 1, 1),
        "perceptual_loss.net.slice1.0.weight": torch.randn(4, 3, 3, 3),
        "global_encoder.visual.conv1.weight": torch.randn(8, 3, 14, 14).half(),
        "global_encoder.logit_scale": torch.tensor(4.6),
    }
    return collections.OrderedDict(published.draw(published.v2l_shapes(size), seed) | extra)


def arguments(**more) -> argparse.Namespace:
    return argparse.Namespace(lr=4.5e-4, epochs=100, output_dir="out", use_cblinear=1, **more)


class Stage:
    """Inputs of the stage in `folder`, and `run` that imports one tokenizer."""

    def __init__(self, folder: Path):
        self.folder, self.checkpoint = folder, folder / "checkpoint.pth"
        self.codebooks = folder / "codebooks"
        self.inputs = {"vocabulary": folder / "vocabulary.parquet"}
        texts = [f" {number}" for number in range(58)] + ["word 3", "word 7", "word 3"]
        self.write_vocabulary(texts, SIZE.codes)

    def write_vocabulary(self, texts: list[str], subwords: int) -> None:
        metadata = {"vocabulary": {"llm": "toy", "subwords": subwords}}
        write_parquet(self.inputs["vocabulary"], pa.table({"text": texts}), {}, metadata)

    def write_v2l(self, model: dict | None = None, codebooks: bool = True, **entries) -> dict:
        model = released_model() if model is None else model
        torch.save({"model": model, "epoch": 99, "args": arguments()} | entries, self.checkpoint)
        if codebooks:
            self.codebooks.mkdir(exist_ok=True)
            torch.save(model["tok_embeddings.weight"].clone(), self.codebooks / "local_codebook_embedding.pth")
            if "tok_embeddings_global.weight" in model:
                table = model["tok_embeddings_global.weight"].clone()
                torch.save(table, self.codebooks / "global_codebook_embedding.pth")
            np.save(self.codebooks / "global_vocabulary.npy", np.array(WORDS, dtype=object), allow_pickle=True)
        return model

    def write_vqgan(self, state: dict | None = None, **entries) -> dict:
        state = published.draw(published.vqgan_shapes(TAMING)) if state is None else state
        torch.save({"state_dict": collections.OrderedDict(state), "epoch": 3} | entries, self.checkpoint)
        (self.folder / "model.yaml").write_text(yaml.safe_dump(TAMING_YAML))
        return state

    def run(self, method: str = "v2l", network: dict | None = None, **entry) -> dict[str, Path]:
        entry = {"method": method, "checkpoint": str(self.checkpoint)} | entry
        if method == "vqgan":
            entry |= {"checkpoint_config": str(self.folder / "model.yaml")}
        entry = TOKENIZER_METHODS[method].model_validate(entry).model_dump(mode="json")
        sizes = Network.model_validate(NETWORK | (network or {})).model_dump(mode="json")
        section = {"dataset": "toy", "network": sizes, "global_tokens": TOKENS}
        section |= {"loss": {"perceptual_weights": "unused"}}
        job = {"tokenizer": "name"}
        data = {"train_tokenizer": section, "tokenizers": {"name": entry}, "job": job}
        outputs = {"weights": "out.safetensors", "words": "out.words.parquet", "metrics": "out.metrics.jsonl"}
        outputs = {key: self.folder / name for key, name in outputs.items()}
        train_tokenizer.run(StageConfig("train_tokenizer", data), Inputs(self.inputs), outputs)
        return outputs

    def run_v2l(self, **entry) -> dict[str, Path]:
        return self.run(codebooks=str(self.codebooks), **entry)

    def refused(self, *words: str, **entry) -> str:
        """The message of an import that must fail, leave nothing behind, and say all of `words`."""
        with pytest.raises(UserError) as caught:
            self.run(**entry)
        assert not list(self.folder.glob("out.*"))
        for word in words:
            assert word in str(caught.value), f"{word!r} is not in: {caught.value}"
        return str(caught.value)


@pytest.fixture
def stage(tmp_path) -> Stage:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Stage(tmp_path)


def images(count: int, size: int) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(5)) * 2 - 1


@torch.no_grad()
def assert_equals_plain_forward(weights: Path, model: dict, image_BCHW: torch.Tensor, width: int, heads: int) -> None:
    """Ids identical, pixels within 1e-4 of the plain forward pass."""
    tokenizer = load_tokenizer(weights)
    feature_BD = F.normalize(torch.randn(len(image_BCHW), width, generator=torch.Generator().manual_seed(6)))
    tokens = tokenizer.global_tokens
    local_BL, global_BK, pixels_BCHW = published.v2l_forward(model, image_BCHW, feature_BD, tokens, heads)
    found = tokenizer.encode(image_BCHW, feature_BD)
    assert torch.equal(found.local_BL, local_BL) and len(local_BL.unique()) > 5
    assert (found.global_BK is None) == (global_BK is None)
    assert global_BK is None or torch.equal(found.global_BK, global_BK)
    difference = (tokenizer.decode(*found) - pixels_BCHW).abs().max().item()
    assert difference < 1e-4 and pixels_BCHW.std() > 0.05, difference
    print(f"largest difference of a pixel {difference:.1e}, {len(local_BL.unique())} local codes used")


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("entry", ["model", "state_dict"])
def test_v2l_import_equals_the_plain_forward_pass(stage, entry, prefix):
    model = stage.write_v2l()
    content = {entry: {prefix + key: value for key, value in model.items()}, "epoch": 7, "args": arguments()}
    torch.save(content, stage.checkpoint)
    outputs = stage.run_v2l()
    assert_equals_plain_forward(outputs["weights"], model, images(6, 32), SIZE.width, HEADS)
    line = json.loads(outputs["metrics"].read_text())
    assert (line["imported"], line["epoch"]) == (str(stage.checkpoint), 7)
    assert line["left_out"] == {"discriminator": 3, "perceptual_loss": 2, "global_encoder": 2}
    assert line["network"]["cross_attention_residual"] is False
    metadata = read_tensors(outputs["weights"])[1]
    assert metadata["tokenizer"]["codebooks"]["global_size"] == 30 and metadata["tokenizer"]["global_tokens"] == TOKENS
    assert set(metadata["v2l"]["inputs"]) == {"checkpoint", "codebooks", "tokenizers.name.codebooks", "vocabulary"}


def test_v2l_local_import_equals_the_plain_forward_pass(stage):
    model = published.draw(published.v2l_shapes(LOCAL))
    stage.write_v2l(model)
    outputs = stage.run("v2l-local")
    assert_equals_plain_forward(outputs["weights"], model, images(6, 32), SIZE.width, HEADS)
    assert pq.read_table(outputs["words"]).num_rows == 0
    stage.run("v2l-local", codebooks=str(stage.codebooks))


@pytest.mark.slow
def test_v2l_import_equals_the_plain_forward_pass_at_the_papers_sizes(stage, caplog):
    caplog.set_level("INFO")
    torch.set_num_threads(2)
    model = released_model(PAPER)
    with torch.no_grad():  # outputs around zero: else their mean decides and a handful of codes is used
        model["quant_conv.bias"] -= published.encoded(model, images(1, 128)).mean((0, 2, 3))
    stage.write_v2l(model, codebooks=False)
    stage.write_vocabulary([f"entry {number}" for number in range(96_000)], PAPER.codes)
    codebook = {
        "global_VD": model["tok_embeddings_global.weight"],
        "global_entries_V": torch.arange(PAPER.global_codes),
    }
    stage.inputs["codebook"] = stage.folder / "codebook.safetensors"
    write_tensors(stage.inputs["codebook"], codebook, {})
    network = {"image_size": 128, "channels": 128, "residual_blocks": 2, "latent_channels": 256}
    network |= {"cross_attention_heads": 8, "cross_attention_head_channels": 512}
    outputs = stage.run(network=network, train_tokenizer={"global_tokens": 21})
    assert_equals_plain_forward(outputs["weights"], model, images(2, 128), 768, 8)


@torch.no_grad()
def test_vqgan_import_equals_the_plain_forward_pass(stage):
    state = stage.write_vqgan()
    write_lightning(stage.checkpoint, state)
    outputs = stage.run("vqgan", network={"channels": 8, "image_size": 64})
    tokenizer = load_tokenizer(outputs["weights"])
    assert tokenizer.geometry.model_dump() == {"image_size": 32, "resize_via": None, "grid": 8}
    image_BCHW = images(5, 32)
    ids_BL, pixels_BCHW = published.vqgan_forward(state, image_BCHW)
    found = tokenizer.encode(image_BCHW)
    assert torch.equal(found.local_BL, ids_BL) and found.global_BK is None and len(ids_BL.unique()) > 5
    assert (tokenizer.decode(*found) - pixels_BCHW).abs().max() < 1e-4 and pixels_BCHW.std() > 0.05
    assert json.loads(outputs["metrics"].read_text())["left_out"] == {"loss": 2}


@pytest.mark.slow
@torch.no_grad()
def test_vqgan_import_equals_the_plain_forward_pass_at_the_published_size(stage):
    """f = 16 with 16,384 codes: attention at 16 pixels, 256 pixels in, 16 x 16 tokens out."""
    torch.set_num_threads(2)
    size = published.Size(128, (1, 1, 2, 2, 4), 2, latent=256, codes=16384, width=256, attention=(4,))
    state = stage.write_vqgan(published.draw(published.vqgan_shapes(size)))
    assert state["encoder.down.4.attn.1.q.weight"].shape == (512, 512, 1, 1)
    params = copy.deepcopy(TAMING_YAML["model"]["params"]) | {"embed_dim": 256, "n_embed": 16384}
    params["ddconfig"] = params["ddconfig"] | {"resolution": 256, "ch": 128, "ch_mult": [1, 1, 2, 2, 4]}
    params["ddconfig"] |= {"z_channels": 256, "attn_resolutions": [16]}
    (stage.folder / "model.yaml").write_text(yaml.safe_dump({"model": TAMING_YAML["model"] | {"params": params}}))
    tokenizer = load_tokenizer(stage.run("vqgan")["weights"])
    assert tokenizer.geometry.model_dump() == {"image_size": 256, "resize_via": None, "grid": 16}
    image_BCHW = images(1, 256)
    ids_BL, pixels_BCHW = published.vqgan_forward(state, image_BCHW)
    found = tokenizer.encode(image_BCHW)
    assert torch.equal(found.local_BL, ids_BL) and len(ids_BL.unique()) > 5
    assert (tokenizer.decode(*found) - pixels_BCHW).abs().max() < 1e-4 and pixels_BCHW.std() > 0.05


def test_vqgan_takes_another_image_size_when_its_entry_says_so(stage):
    """The network is fully convolutional; attention stays where the checkpoint has it."""
    stage.write_vqgan()
    tokenizer = load_tokenizer(stage.run("vqgan", train_tokenizer={"network": {"image_size": 64}})["weights"])
    assert (tokenizer.geometry.image_size, tokenizer.geometry.grid, tokenizer.network.attention_levels) == (64, 16, [2])


def test_words_are_the_published_ones_and_their_entries_rows_of_the_vocabulary(stage):
    stage.write_v2l()
    words = pq.read_table(stage.run_v2l()["words"]).to_pydict()
    assert words["text"] == WORDS and words["code"] == list(range(30))
    assert {code: entry for code, entry in zip(*[words[key] for key in ("code", "entry")], strict=True) if entry} == {
        3: 58,
        7: 59,
    }


def test_without_codebooks_the_experiments_own_must_be_the_checkpoints(stage):
    model = stage.write_v2l(codebooks=False)
    stage.inputs["codebook"] = stage.folder / "codebook.safetensors"
    codebook = {"global_VD": model["tok_embeddings_global.weight"].clone(), "global_entries_V": torch.arange(2, 32)}
    codebook["global_VD"][3, 2] += 1
    write_tensors(stage.inputs["codebook"], codebook, {})
    stage.refused("`tokenizers.name.codebooks`", "global_vocabulary.npy", "(30, 24)")
    codebook["global_VD"] = model["tok_embeddings_global.weight"]
    write_tensors(stage.inputs["codebook"], codebook, {})
    words = pq.read_table(stage.run()["words"]).to_pydict()
    assert words["entry"] == list(range(2, 32)) and words["text"][0] == " 2"


def test_codebooks_that_are_not_the_checkpoints_are_refused(stage):
    model = stage.write_v2l()
    folder = str(stage.codebooks)
    for name, key in [("local", "tok_embeddings.weight"), ("global", "tok_embeddings_global.weight")]:
        path = stage.codebooks / f"{name}_codebook_embedding.pth"
        for wrong in (model[key] + 1e-6, model[key][:-1].clone()):
            torch.save(wrong, path)
            stage.refused(path.name, f"does not equal `{key}`", codebooks=folder)
        torch.save(model[key].clone(), path)
    words = stage.codebooks / "global_vocabulary.npy"
    np.save(words, np.array(WORDS[:-1], dtype=object), allow_pickle=True)
    stage.refused("has 29 words, the global codebook 30 codes", codebooks=folder)
    words.unlink()
    (stage.codebooks / "local_codebook_embedding.pth").unlink()
    stage.refused("global_vocabulary.npy", "local_codebook_embedding.pth", "do not exist", codebooks=folder)


def test_a_codebook_of_another_size_than_the_vocabulary_is_refused_with_both_sizes(stage):
    stage.write_v2l()
    stage.write_vocabulary(["word"] * 100, 57)
    stage.refused("60 codes", "57 subwords", "`reserved: true`", codebooks=str(stage.codebooks))


def test_every_wrong_key_is_listed_with_both_shapes(stage):
    model = stage.write_v2l()
    del model["quant_conv.bias"], model["tok_embeddings_global.weight"]
    model["encoder.conv_in.weight"] = torch.zeros(16, 3, 3, 3)
    model["decoder.mid.cross_attn_1.to_out.0.bias"] = torch.zeros(128, dtype=torch.int64)
    model["codebook_projection.bias"] = "no tensor"
    model["quantize.embedding.weight"] = torch.zeros(7, 2)
    model["tok_embeddings.weight"] = torch.zeros(60)
    stage.write_v2l(model, codebooks=False)
    message = stage.refused(
        "missing: quant_conv.bias: expected (24), found nothing",
        "missing: tok_embeddings_global.weight: expected (any, 24), found nothing",
        "wrong: encoder.conv_in.weight: expected (32, 3, 3, 3), found (16, 3, 3, 3)",
        "wrong: decoder.mid.cross_attn_1.to_out.0.bias: expected (128), found (128) of int64",
        "wrong: codebook_projection.bias: expected (24), found no tensor",
        "surplus: quantize.embedding.weight: expected nothing, found (7, 2)",
        "wrong: tok_embeddings.weight: expected (any, 24), found (60)",
        codebooks=str(stage.codebooks),
    )
    assert message.count("\n  ") == 7


def test_a_checkpoint_of_another_method_lists_its_keys(stage):
    stage.write_v2l()
    message = stage.refused(method="v2l-local", codebooks=str(stage.codebooks))
    assert message.count("surplus: decoder.mid.cross_attn_1") == 5 and "tok_embeddings_global.weight" in message


@pytest.mark.parametrize(
    "content", [{"epoch": 3}, {"model": {}}, {"model": [1]}, {"encoder.conv_in.bias": torch.ones(3)}]
)
def test_a_checkpoint_without_weights_says_what_it_holds(stage, content):
    stage.write_v2l()
    torch.save(content, stage.checkpoint)
    stage.refused("has no weights", next(iter(content)), codebooks=str(stage.codebooks))


def test_a_checkpoint_with_two_sets_of_weights_is_refused(stage):
    stage.write_v2l()
    content = torch.load(stage.checkpoint, weights_only=False)
    torch.save(content | {"ema": content["model"]}, stage.checkpoint)
    stage.refused("2 sets of weights", "model, ema", codebooks=str(stage.codebooks))


def test_values_that_are_not_finite_are_refused(stage):
    model = released_model()
    model["quant_conv.bias"][3] = torch.nan
    stage.write_v2l(model)
    stage.refused("not finite: quant_conv.bias", codebooks=str(stage.codebooks))


def test_half_precision_and_parameters_become_float32(stage):
    stage.write_v2l({key: torch.nn.Parameter(value.half(), False) for key, value in released_model().items()})
    tensors = read_tensors(stage.run_v2l()["weights"])[0]
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_reading_leaves_the_file_as_it_was(stage):
    stage.write_v2l()
    before = stage.checkpoint.read_bytes()
    stage.run_v2l()
    assert stage.checkpoint.read_bytes() == before


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["args", "model", "inside args", "callback"])
def test_a_pickle_that_runs_code_is_refused_by_name_and_not_run(stage, place, zipped):
    mark = stage.folder / "mark"
    model = stage.write_v2l()
    content = {"model": model, "epoch": 1, "args": arguments()}
    if place == "inside args":
        content["args"].output_dir = Malicious(mark)
    elif place == "model":
        model["encoder.conv_in.bias"] = Malicious(mark)
    else:
        content[place] = Malicious(mark)
    torch.save(content, stage.checkpoint, _use_new_zipfile_serialization=zipped)
    stage.refused("it names posix.mkdir, which is not run", codebooks=str(stage.codebooks))
    assert not mark.exists()


class Evaluated:
    def __reduce__(self):
        return eval, ("1 + 1",)


@pytest.mark.parametrize("value", [Evaluated(), os.system, print, collections.ChainMap()])
def test_other_names_are_refused(tmp_path, value):
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": {}, "args": argparse.Namespace(value=value)}, path)
    with pytest.raises(UserError, match="it names .*, which is not run"):
        read_checkpoint(path)


def test_codebooks_and_words_that_run_code_are_refused(stage):
    stage.write_v2l()
    mark = stage.folder / "mark"
    table = stage.codebooks / "global_codebook_embedding.pth"
    good = table.read_bytes()
    torch.save(Malicious(mark), table)
    stage.refused(
        "global_codebook_embedding.pth is refused: it names posix.mkdir, which is not run",
        codebooks=str(stage.codebooks),
    )
    table.write_bytes(good)
    np.save(stage.codebooks / "global_vocabulary.npy", np.array([Malicious(mark)], dtype=object), allow_pickle=True)
    stage.refused("it names posix.mkdir, which is not run", codebooks=str(stage.codebooks))
    assert not mark.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_arguments_of_any_usual_kind_are_read_over(stage, zipped):
    model = released_model()
    more = {"rate": np.float32(0.5), "count": np.int64(3), "array": np.arange(3), "path": Path("x"), "set": {1, 2}}
    more |= {
        "device": torch.device("cpu"),
        "dtype": torch.float16,
        "none": None,
        "kind": float,
        "frozen": frozenset("a"),
    }
    stage.write_v2l(model)
    torch.save({"model": model, "epoch": np.int64(4), "args": arguments(**more)}, stage.checkpoint)
    stage.run_v2l()


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path):
    path = tmp_path / "file.pth"
    scripted = io.BytesIO()
    with zipfile.ZipFile(scripted, "w") as archive:
        for name in ("version", "data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"file/{name}", b"3")
    torch.save({"model": {"a": torch.ones(1000)}}, path)
    whole = path.read_bytes()
    for content in (b"", b"garbage", whole[:700], whole[:-300], scripted.getvalue(), pickle.dumps([1])):
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            read_checkpoint(path)
        assert "file.pth is refused" in str(caught.value) and "\n" not in str(caught.value)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="it holds a list, not a dict"):
        read_checkpoint(path)
    with pytest.raises(UserError, match="No such file"):
        read_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([["a"]], dtype=object), "no one-dimensional array"),
        (np.array(["a", 3], dtype=object), "entry 1 is a int"),
        (np.array([{"text": "a"}], dtype=object), "entry 0 is a dict"),
        (np.array([1.5]), "entry 0 is a float"),
    ],
)
def test_words_that_are_no_texts_are_refused(tmp_path, array, reason):
    np.save(tmp_path / "words.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=reason):
        read_texts(tmp_path / "words.npy")


def test_words_are_read_from_objects_texts_and_numpy_texts(tmp_path):
    path = tmp_path / "words.npy"
    texts = ["a", "兔子", ""]
    for array in (np.array(texts, dtype=object), np.array(texts), np.array([np.str_(text) for text in texts], object)):
        np.save(path, array, allow_pickle=True)
        assert read_texts(path) == texts and {type(text) for text in read_texts(path)} == {str}
    path.write_bytes(b"no array")
    with pytest.raises(UserError, match="words.npy is refused"):
        read_texts(path)


def write_lightning(path: Path, state: dict) -> None:
    """What pytorch-lightning 1.x writes around a state dict; its classes are only there while it is written."""
    modules = {}

    def foreign(module: str, name: str, base: type = object) -> type:
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            package = ".".join(parts[:end])
            modules.setdefault(package, types.ModuleType(package))
        made = type(name, (base,), {"__module__": module, "__qualname__": name})
        setattr(modules[module], name, made)
        return made

    callback = foreign("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint")
    attributes = foreign("pytorch_lightning.utilities.parsing", "AttributeDict", dict)
    settings = foreign("omegaconf.dictconfig", "DictConfig")()
    settings.__dict__ |= {"_content": {"ch": 32}, "cache": collections.defaultdict(dict, a={}), "kind": typing.Any}
    content = {
        "epoch": 11,
        "global_step": 470_000,
        "pytorch-lightning_version": "1.0.8",
        "callbacks": {
            callback: {"best_model_score": torch.tensor(0.4), "best_model_path": "x.ckpt", "made": callback()}
        },
        "optimizer_states": [{"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-5}]}],
        "lr_schedulers": [],
        "state_dict": collections.OrderedDict(state),
        "hparams_name": "kwargs",
        "hyper_parameters": attributes(ddconfig=settings, embed_dim=10),
        "hparams_type": attributes,
    }
    losses = {"loss.perceptual_loss.lin0.model.1.weight": (1, 4), "loss.discriminator.main.0.bias": (8,)}
    content["state_dict"] |= {key: torch.zeros(shape) for key, shape in losses.items()}
    content["state_dict"]._metadata = collections.OrderedDict({"": {"version": 1}})
    with pytest.MonkeyPatch.context() as patch:
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        torch.save(content, path)


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("double_z", True, "`model.params.ddconfig.double_z`"),
        ("double_z", None, "`model.params.ddconfig.double_z`"),
        ("dropout", 0.1, "`model.params.ddconfig.dropout`"),
        ("resamp_with_conv", False, "`model.params.ddconfig.resamp_with_conv`"),
        ("in_channels", 1, "`model.params.ddconfig.in_channels`"),
        ("resolution", 33, "cannot be halved 2 times"),
        ("attn_type", "linear", "`model.params.ddconfig.attn_type`"),
    ],
)
def test_a_yaml_that_our_network_cannot_follow_is_refused_by_name(stage, key, value, word):
    stage.write_vqgan()
    content = copy.deepcopy(TAMING_YAML)
    content["model"]["params"]["ddconfig"][key] = value
    if value is None:
        del content["model"]["params"]["ddconfig"][key]
    (stage.folder / "model.yaml").write_text(yaml.safe_dump(content))
    stage.refused("model.yaml describes no VQ-GAN", word, method="vqgan")


@pytest.mark.parametrize(
    "text", ["", "- a", "model: [", "[" * 5000, "data: {}", "model: {target: taming.models.vqgan.GumbelVQ}"]
)
def test_what_is_no_yaml_of_a_vqgan_is_refused(stage, text):
    stage.write_vqgan()
    (stage.folder / "model.yaml").write_text(text)
    stage.refused("model.yaml describes no VQ-GAN", method="vqgan")


def test_a_vqgan_of_other_sizes_than_its_yaml_lists_its_keys(stage):
    state = stage.write_vqgan()
    del state["encoder.down.2.attn.1.q.bias"]
    state["quantize.embedding.weight"] = torch.zeros(49, 10)
    stage.write_vqgan(state)
    stage.refused(
        "missing: encoder.down.2.attn.1.q.bias: expected (64), found nothing",
        "wrong: quantize.embedding.weight: expected (50, 10), found (49, 10)",
        method="vqgan",
    )


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"method": "v2l-subword", "checkpoint": "a.pth"}, "published none of method v2l-subword"),
        ({"method": "v2l", "codebooks": "folder"}, "name both, or neither"),
        ({"method": "vqgan", "checkpoint": "a.ckpt"}, "name both, or neither"),
    ],
)
def test_entries_that_cannot_be_imported_stop_at_parse_time(entry, word):
    with pytest.raises(UserError) as caught:
        load_experiment({"experiment": "tiny", "tokenizers": {"mine": entry}})
    assert word in str(caught.value) and "`tokenizers.mine`" in str(caught.value)


def tiny_overrides(**entries: dict) -> list[str]:
    """`--config` of the tiny experiment with imported tokenizers and all 340 ids of its vocabulary."""
    tokenizers = {
        "v2l": {"checkpoint": "tiny/authors.pth", "codebooks": "tiny/codebooks"},
        "vqgan": {"checkpoint": "tiny/last.ckpt", "checkpoint_config": "tiny/model.yaml"},
    }
    network = {"channels": 32, "cross_attention_heads": 2, "cross_attention_head_channels": 8}
    training = {"network": network, "tokenizers": ["v2l", "vqgan"]}
    evaluation = {"classification": {"tokenizers": ["v2l"]}, "restoration": {"tokenizers": ["v2l", "vqgan"]}}
    values = {"tokenizers": tokenizers, "train_tokenizer": training, "expand_vocabulary": {"reserved": True}}
    values |= {"evaluate_llm": evaluation} | entries
    return [
        "--config",
        "experiment=tiny",
        *[f"{key}={yaml.safe_dump(values[key], default_flow_style=True, width=9999).strip()}" for key in values],
    ]


TARGETS = ("results/table1_classification.csv", "results/table3_reconstruction.csv")


def test_files_that_are_not_there_are_reported_before_anything_runs(tmp_path):
    """A dry run warns; a real one lists them all and starts nothing."""
    project = Project(tmp_path)
    dry = project.snakemake(*TARGETS, "-n", *tiny_overrides())
    assert dry.returncode == 0 and re.search(r"train_tokenizer_import +2\b", dry.stdout), dry.stdout
    real = project.snakemake(*TARGETS, *tiny_overrides())
    assert real.returncode != 0 and not (project.folder / "results").exists()
    for key in ("v2l.checkpoint", "v2l.codebooks", "vqgan.checkpoint", "vqgan.checkpoint_config"):
        assert f"tokenizers.{key}: tiny/" in dry.stdout and f"tokenizers.{key}: tiny/" in real.stdout


@pytest.mark.pipeline
def test_imported_tokenizers_fill_rows_of_the_tables(new_project, tmp_path):
    project = new_project()
    link = project.folder / "tiny"
    shared = link.resolve()
    link.unlink()
    link.mkdir()
    for path in shared.iterdir():
        (link / path.name).symlink_to(path)

    stage = Stage(tmp_path)
    stage.codebooks = link / "codebooks"
    stage.checkpoint = link / "authors.pth"
    size = published.Size(32, (1, 2, 2, 4), 1, latent=16, codes=340, width=16, global_codes=30, inner=16)
    stage.write_v2l(released_model(size))
    write_lightning(link / "last.ckpt", published.draw(published.vqgan_shapes(TAMING)))
    (link / "model.yaml").write_text(yaml.safe_dump(TAMING_YAML))
    planned = project.planned(*TARGETS, *tiny_overrides())
    assert planned["train_tokenizer_import"] == 2
    assert not {"train_tokenizer", "filter_vocabulary", "embed_vocabulary"} & set(planned)
    result = project.snakemake(*TARGETS, *tiny_overrides())
    assert result.returncode == 0, result.stdout[-6000:]
    rows = pd.read_csv(project.folder / TARGETS[1])
    assert {"v2l", "vqgan"} <= set(rows.method) and rows[rows.method == "v2l"].psnr.dropna().between(0, 60).all()
    assert "v2l" in set(pd.read_csv(project.folder / TARGETS[0]).method)
    assert project.planned(*TARGETS, *tiny_overrides()) == {}
    # Training settings are none of an import's; another file is.
    training = {"learning_rate": 1e-3, "tokenizers": ["v2l", "vqgan"]}
    training["network"] = {"channels": 32, "cross_attention_heads": 2, "cross_attention_head_channels": 8}
    assert project.planned(*TARGETS, *tiny_overrides(train_tokenizer=training)) == {}
    stage.write_v2l(released_model(size, seed=1))
    assert project.planned(*TARGETS, *tiny_overrides())["train_tokenizer_import"] == 1
