"""How many GPUs a language model asks for, against the model that transformers would build."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from tests.conftest import Project
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


def test_the_dry_run_shows_it(tmp_path):
    project = Project(tmp_path)
    folder = project.folder / "models" / "llama-2-70b-hf"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA_70B))
    result = project.snakemake("all_tables", "-n", "--profile", "slurm", "--config", "experiment=paper")
    assert "by llama2-70b (3 GPUs, 153954 MB)" in result.stdout
    assert "by llama2-7b (1 GPUs" in result.stdout and "by token-overlap (0 GPUs" in result.stdout
