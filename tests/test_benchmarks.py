"""The command that measures every stage: one run with tiny models, and the arithmetic behind its limit."""

import json
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.__main__ import STAGES
from benchmarks.language_models import Words, classifications, owed, random_llm, restorations
from benchmarks.measuring import Case, Rates, counted, default_switches, measured
from benchmarks.sizes import CPU, QUICK

CPU_DEVICE = torch.device("cpu")
LEAST = {"equal_share": 0.99, "cosine": 0.99}
KEYS = {
    "items_per_second",
    "unit",
    "published_items_per_second",
    "ratio",
    "share_of_limit",
    "flop_per_item",
    "flops",
    "peak_bytes",
    "agreement",
}
# As `python -m benchmarks`, on a machine without Snakemake.
WITHOUT_SNAKEMAKE = """
import runpy, sys
sys.modules["snakemake"] = None
sys.argv[0] = "benchmarks"
runpy.run_module("benchmarks", run_name="__main__")
"""


def test_quick_run_measures_every_stage_without_snakemake(tmp_path):
    output = tmp_path / "speed.json"
    arguments = ["--device", "cpu", "--quick", "--seconds", "0", "--output", str(output)]
    command = [sys.executable, "-c", WITHOUT_SNAKEMAKE, *arguments]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads(output.read_text())
    assert {"device", "torch", "commit", "products", "stages"} <= set(report) and "errors" not in report
    assert {name.split(".")[0] for name in report["stages"]} == set(STAGES)
    assert {"evaluate_llm.restoration", "evaluate_llm.classification", "embed_images.squares"} <= set(report["stages"])
    for stage, precisions in report["stages"].items():
        for precision, found in precisions.items():
            assert set(found) >= KEYS
            assert 0 < found["share_of_limit"] < 1.2 and found["flop_per_item"] > 0, stage
            assert report["products"][precision] > 0
            assert f"| {stage} | {precision} |" in done.stdout
            for measure, value in found["agreement"].items():
                assert value <= 1e-4 if measure == "loss_difference" else value >= LEAST[measure], (stage, measure)


def test_cuda_is_refused_where_there_is_none():
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "benchmarks", "--device", "cuda"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "use --device cpu" in done.stderr


def test_operations_of_products_convolutions_and_attention_are_counted():
    ones = torch.ones
    assert counted(lambda: ones(3, 5) @ ones(5, 7)) == 2 * 3 * 5 * 7
    assert counted(lambda: F.conv2d(ones(1, 2, 6, 6), ones(4, 2, 3, 3))) == 2 * 4 * 4 * 4 * 2 * 3 * 3
    query = torch.randn(2, 3, 8, 16)
    assert counted(lambda: F.scaled_dot_product_attention(query, query, query)) == 2 * 2 * 2 * 3 * 8 * 8 * 16


def test_operations_of_frozen_attention_layers_and_of_gradients_are_counted():
    """The fused inference path of attention, and a gradient of a network's input, which the counter alone refuses."""
    layer, shown = nn.MultiheadAttention(16, 2, batch_first=True).eval(), torch.randn(1, 8, 16)
    with torch.no_grad():
        products = 4 * 2 * 8 * 16 * 16 + 2 * 2 * 8 * 8 * 16
        assert counted(lambda: layer(shown, shown, shown, need_weights=False)) == products
    network, given = nn.Linear(4, 6, bias=False), torch.randn(3, 4, requires_grad=True)
    assert counted(lambda: torch.autograd.grad(network(given).sum(), given)) == 2 * (2 * 3 * 4 * 6)


def test_a_prompt_owes_its_own_tokens_once():
    model = random_llm(QUICK, CPU_DEVICE, "float32")
    token_1T = torch.arange(40)[None]
    with torch.no_grad():
        alone = counted(lambda: model(token_1T, use_cache=False, logits_to_keep=1))
    assert owed(model, [list(range(40))], [[5]]) == pytest.approx(alone, rel=1e-6)
    head = 2 * QUICK.llama["hidden_size"] * QUICK.llama["vocab_size"]  # the logits of one position
    twice = owed(model, [list(range(40)), [*range(39), 7]], [[5], [5]])  # all tokens but the last are shared
    assert twice == pytest.approx((alone - head) / 2 + head, rel=0.05)


def test_prompts_are_as_long_as_the_papers():
    words = Words(CPU.llama["vocab_size"])
    for workload, least, most in ((restorations(CPU, words), 200, 440), (classifications(CPU, words), 300, 500)):
        lengths = [len(prompt) for prompt in workload.prompts]
        assert least <= sum(lengths) / len(lengths) <= most and max(lengths) + workload.most < 4096


def test_medians_ratio_and_limit_are_those_of_the_rounds(monkeypatch):
    durations = iter([4.0, 30.0, 2.0, 10.0, 3.0, 20.0])  # own, published, own, published, ...
    monkeypatch.setattr("benchmarks.measuring.timed", lambda function, where: next(durations))
    case = Case("stage", "bfloat16", "items", lambda: 1, 6, lambda: 2, 2, lambda: 8.0, lambda *found: {"pair": found})
    found = measured(case, CPU_DEVICE, Rates({"float32": 1.0, "bfloat16": 32.0}, 1.0), 0)
    assert found["items_per_second"] == 2 and found["published_items_per_second"] == 0.1 and found["ratio"] == 20
    assert found["share_of_limit"] == 0.5 and found["flops"] == 16 and found["agreement"] == {"pair": (1, 2)}


def test_default_switches_are_pytorchs_and_end():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    with default_switches():
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (False, True)
    assert not torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before[1]
