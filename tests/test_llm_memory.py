"""How many GPUs a language model asks for, against the model that transformers would build."""

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.conftest import Project
from v2l.cluster import site
from v2l.configuration.experiment import load_experiment
from v2l.configuration.model_entries import LLM
from v2l.llm import memory, model_facts

LLAMA_70B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "model_type": "llama",
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}


@pytest.mark.parametrize(
    "config",
    [
        LLAMA_70B,
        LLAMA_70B | {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "head_dim": 24},
        LLAMA_70B | {"hidden_size": 128, "num_hidden_layers": 2, "tie_word_embeddings": True},
    ],
)
def test_parameters_are_those_of_the_built_model(config):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**config), trust_remote_code=False)
    assert model_facts.parameters(config) == sum(parameter.numel() for parameter in model.parameters())


def test_70b_in_half_precision_needs_several_gpus(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_70B))
    entry = LLM(path=str(tmp_path), dtype="float16")
    assert memory.megabytes(entry) == 137954
    assert [memory.gpus(entry, size) for size in (24000, 40000, 80000, 192000)] == [8, 5, 3, 1]


def test_a_model_that_is_not_there_yet_asks_for_one(tmp_path):
    assert memory.gpus(LLM(path=str(tmp_path)), 80000) == 1


@pytest.mark.parametrize(
    ("local", "cards", "memory_mb", "model_mb", "expected"),
    [
        (True, [], 8 * 2500, 0, 1),
        (True, [], 64000, 0, 1),
        (True, [], 8000, 0, 3),
        (True, [], 8000, 30000, 33),
        (True, ["a card"], 8000, 0, 8),
        (False, [], 8000, 0, 8),
    ],
)
def test_jobs_on_cpus_leave_cores_to_others_that_memory_holds(
    tmp_path, monkeypatch, local, cards, memory_mb, model_mb, expected
):
    config = load_experiment({"experiment": "demo"})
    config.llms["big"] = LLM(path=str(tmp_path))
    monkeypatch.setattr(site, "local_cards", lambda: cards)
    monkeypatch.setattr(site.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(site.os, "sysconf", {"SC_PAGE_SIZE": 4000, "SC_PHYS_PAGES": memory_mb * 250}.get)
    monkeypatch.setattr(site.memory, "megabytes", lambda entry: model_mb)
    workflow = SimpleNamespace(local_exec=local, resource_settings=SimpleNamespace(_parsed_default_resources={}))
    wildcards = {"predictor": "big@held-out"} if model_mb else {}
    assert site.Site(workflow, config).cores(wildcards) == expected


def test_the_dry_run_shows_it(tmp_path):
    project = Project(tmp_path)
    folder = project.folder / "models" / "llama-2-70b-hf"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA_70B))
    result = project.snakemake("all_tables", "-n", "--profile", "slurm", "--config", "experiment=paper")
    assert "by llama2-70b (3 GPUs, 153954 MB)" in result.stdout
    assert "by llama2-7b (1 GPUs" in result.stdout and "by token-overlap (0 GPUs" in result.stdout
