"""The files of weights/demo/: small, told how they were made, and of the networks that the demo configures."""

import json
import re
from pathlib import Path

import pytest
import torch

from tools.demo_weights import hours
from v2l.configuration.experiment import load_experiment
from v2l.configuration.variants import variant_settings
from v2l.models.own_weights import require_method, require_settings
from v2l.models.tokenizer_file import tokenizer_class
from v2l.models.weights_file import read_weights_file

FOLDER = Path("weights/demo")
TRAINING, DEMO = (load_experiment({"experiment": name}) for name in ("demo-training", "demo"))
NAMES = TRAINING.train_tokenizer.tokenizers


def test_they_are_small_and_one_for_each_trained_tokenizer():
    assert {path.stem for path in FOLDER.iterdir()} == set(NAMES) and len(NAMES) == 6
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 45_000_000


@pytest.mark.parametrize("name", NAMES)
def test_each_says_how_it_was_made(name):
    file = read_weights_file(FOLDER / f"{name}.safetensors")
    made = file.metadata["compact"]
    assert made["command"] == "make demo-training" and made["hours"] > 0 and made["machine"]
    assert re.fullmatch("[0-9a-f]{40}", made["commit"]) and file.training["seed"] == TRAINING.seed
    assert not re.search(r"\"/(tmp|root|home|work)", json.dumps(file.metadata))
    said = file.metadata["v2l"]["config"]["train_tokenizer"]
    ours = variant_settings(TRAINING.train_tokenizer, TRAINING.tokenizers[name]).model_dump(mode="json")
    if not said["loss"]["adversarial"]:  # then it has no start
        ours["loss"]["discriminator_start"] = said["loss"]["discriminator_start"]
    assert said == {key: ours[key] for key in said}


@pytest.mark.parametrize("name", NAMES)
def test_each_is_of_the_network_that_the_demo_configures(name):
    entry, file = DEMO.tokenizers[name], read_weights_file(FOLDER / f"{name}.safetensors")
    assert entry.weights == f"{FOLDER}/{name}.safetensors"
    require_method(file, name, entry)
    if name == "lqae":
        return  # its network is built from the language model, an asset
    table_VD = torch.zeros(8192, 384)
    tables = {"local_VD": table_VD, "global_VD": table_VD[:759], "subword_global_VD": table_VD[:759]}
    settings = variant_settings(DEMO.train_tokenizer, entry)
    tokenizer = tokenizer_class(entry.method).create(name, entry, settings, tables)
    require_settings(file, tokenizer, entry, {"global_tokens": tokenizer.global_tokens})


def test_hours_are_those_of_the_benchmark_file(tmp_path):
    (tmp_path / "a.tsv").write_text("s\th:m:s\tmax_rss\n5400.5\t1:30:00\t12\n")
    assert hours(tmp_path / "a.tsv") == pytest.approx(1.50014, abs=1e-5)
