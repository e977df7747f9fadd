"""Training by several processes: the losses of one, also through an interruption; what ranks compute together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.test_train_tokenizer import SECTION, toy, vgg  # noqa: F401
from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.configuration.variants import merge
from v2l.errors import INTERRUPTED
from v2l.io.canonical import canonical_json
from v2l.io.storage import read_tensors

STEPS = 20
LOSSES = {"pixel", "perceptual", "quantizer", "adversarial", "discriminator"}
CHANGES = {
    "max_steps": STEPS,
    "learning_rate": 2e-5,  # at higher rates Adam makes steps of rounding, and a code flips within 20 steps
    "global_batch_size": 4,
    "log_every": 1,
    "match_every": 4,
    "match_until": 0.2,
    "projector_learning_rate": 1.0,
    "loss": {"discriminator_start": 5},
    "checkpoint_every": 100,
}


@pytest.fixture
def stage(toy, vgg, tmp_path):  # noqa: F811
    """`start(ranks, folder, **changes of SECTION)` runs the stage in processes of its own; returns the first."""
    weights = tmp_path / "vgg.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in vgg.state_dict().items()}, weights)

    def start(ranks: int, folder: str, method: str = "v2l", **changes) -> subprocess.Popen:
        where = tmp_path / folder
        settings = merge(merge(SECTION, CHANGES), merge({"loss": {"perceptual_weights": str(weights)}}, changes))
        job = {"tokenizer": "toy-tokenizer", "work": str(where / "work"), "logs": str(where / "logs")}
        section = TrainTokenizer.model_validate(settings).model_dump(mode="json")
        data = {"seed": 0, "train_tokenizer": section, "tokenizers": {"toy-tokenizer": {"method": method}}, "job": job}
        command = ["-m", "v2l.train_tokenizer", "--config", canonical_json(data)]
        for name, path in toy.inputs.items():
            command += ["--input", name, str(path)]
        for name in ("weights.safetensors", "words.parquet", "metrics.jsonl"):
            command += ["--output", name.split(".")[0], str(where / name)]
        launcher = [sys.executable]
        if ranks > 1:
            launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen([*launcher, *command], env=environment, stderr=subprocess.PIPE, text=True)

    start.folder = tmp_path
    return start


def finish(process: subprocess.Popen) -> str:
    """Wait for a run that must succeed; what it said."""
    said = process.communicate(timeout=600)[1]
    assert process.returncode == 0, said[-3000:]
    return said


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def largest_difference(first: list[dict], second: list[dict], names: set[str]) -> float:
    """Largest difference of any of `names` in any step, relative where a value is above 1."""
    assert [line.keys() for line in first] == [line.keys() for line in second] and len(first) == STEPS
    assert names <= first[-1].keys()
    return max(
        abs(a[name] - b[name]) / max(1, abs(a[name]))
        for a, b in zip(first, second, strict=True)
        for name in names
        if name in a
    )


def test_two_ranks_have_the_losses_of_one_and_each_rank_alone_has_not(stage):
    for ranks, folder, changes in [(1, "one", {}), (2, "two", {}), (2, "each", {"rank_statistics": "each"})]:
        finish(stage(ranks, folder, **changes))
    one, two, each = (lines(stage.folder / name) for name in ("one", "two", "each"))
    assert largest_difference(one, two, LOSSES) < 1e-4
    # A ratio of gradients, no loss: rounding alone moves it by 2e-4 (one rank with two threads instead of one).
    assert largest_difference(one, two, {"adaptive_weight"}) < 1e-3
    assert [line["codes_used"] for line in one] == [line["codes_used"] for line in two]
    assert largest_difference(one, each, LOSSES) > 1e-3, "statistics of half a batch are others"
    first, second = (read_tensors(stage.folder / name / "weights.safetensors")[0] for name in ("one", "two"))
    assert all(torch.allclose(first[key], second[key], atol=1e-3) for key in first)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_ends_all_ranks_after_a_step_and_a_new_start_goes_on_exactly(stage, number):
    whole = finish(stage(2, "whole"))
    assert "interrupted" not in whole
    process = stage(2, "stopped")
    work = stage.folder / "stopped" / "work"
    deadline = time.monotonic() + 600
    while not (found := list(work.glob("*/progress.json"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    step = json.loads(found[0].read_text())["step"]
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[0]), number)  # one of the ranks
    said = process.communicate(timeout=600)[1]
    assert process.returncode != 0 and f"exitcode  : {INTERRUPTED}" in said, said[-3000:]
    assert "interrupted; a checkpoint holds everything before step" in said
    assert not (stage.folder / "stopped" / "weights.safetensors").exists() and step < STEPS
    assert "resumed before step" in finish(stage(2, "stopped"))
    first, second = (stage.folder / name for name in ("whole", "stopped"))
    assert (first / "metrics.jsonl").read_bytes() == (second / "metrics.jsonl").read_bytes()
    first, second = (read_tensors(folder / "weights.safetensors")[0] for folder in (first, second))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_micro_batches_add_up_to_the_whole_batch(stage):
    changes = {"loss": {"adversarial": 0.0}}
    finish(stage(1, "whole", **changes))
    finish(stage(2, "parts", micro_batch_size=1, **changes))
    whole, parts = (lines(stage.folder / name) for name in ("whole", "parts"))
    assert "discriminator" not in whole[-1] and "adversarial" not in whole[-1]
    for name in ("pixel", "perceptual", "quantizer"):
        assert [line[name] for line in parts] == pytest.approx([line[name] for line in whole], abs=1e-4)


def test_a_batch_that_the_ranks_cannot_share_is_refused(stage):
    process = stage(2, "odd", global_batch_size=5)
    said = process.communicate(timeout=600)[1]
    assert process.returncode != 0
    assert "train_tokenizer.global_batch_size is 5, with 2 ranks. Expected: a multiple of the ranks" in said


def _statistics(rank: int, port: int, folder: str) -> None:
    from v2l.training.ranks import Ranks, share_statistics

    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = Ranks.connect()
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    share_statistics(network, ranks)
    x_BCHW = torch.randn(6, 3, 5, 5)[rank::2].requires_grad_()
    loss = ranks.mean((network(x_BCHW).sin() * torch.arange(4.0)[:, None, None]).mean().detach().clone())
    (network(x_BCHW).sin() * torch.arange(4.0)[:, None, None]).mean().backward()
    ranks.average_gradients(network.parameters())
    result = {"gathered": ranks.gather(x_BCHW.detach()), "input": ranks.gather(x_BCHW.grad), "loss": loss}
    result |= {name: value.grad for name, value in network.named_parameters()} | dict(network.named_buffers())
    halved = nn.Sequential(nn.BatchNorm2d(3))
    share_statistics(halved, ranks)
    out_BCHW = halved((x_BCHW + 9).detach().bfloat16())
    assert out_BCHW.dtype == torch.bfloat16
    result |= {"halved": ranks.gather(out_BCHW.float()), "halved mean": halved[0].running_mean}
    result |= {"halved variance": halved[0].running_var}
    if ranks.first:
        torch.save({name: value.detach().clone() for name, value in result.items()}, folder)
    assert ranks.any(rank == 1) and not ranks.any(False)
    ranks.wait()
    ranks.close()


def test_shared_batch_norm_is_that_of_the_whole_batch(tmp_path):
    """Outputs, running statistics and gradients of two ranks are those of one, which torch computes; of inputs in
    bfloat16 too, whose statistics stay float32."""
    from torch.multiprocessing import spawn

    spawn(_statistics, (29571, str(tmp_path / "result.pt")), nprocs=2)
    found = torch.load(tmp_path / "result.pt", weights_only=True)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).train()
    x_BCHW = torch.randn(6, 3, 5, 5).requires_grad_()
    for _ in range(2):
        network.zero_grad()
        x_BCHW.grad = None
        loss = (network(x_BCHW).sin() * torch.arange(4.0)[:, None, None]).mean()
        loss.backward()
    assert torch.equal(found["gathered"], x_BCHW.detach())
    wanted = {name: value.grad for name, value in network.named_parameters()} | dict(network.named_buffers())
    for name, value in (wanted | {"loss": loss.detach(), "input": 2 * x_BCHW.grad}).items():
        torch.testing.assert_close(found[name], value, atol=1e-6, rtol=1e-5)
    halved = nn.BatchNorm2d(3)
    out_BCHW = halved((x_BCHW + 9).detach().bfloat16()).float()
    torch.testing.assert_close(found["halved"], out_BCHW, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(found["halved mean"], halved.running_mean, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found["halved variance"], halved.running_var, atol=1e-6, rtol=1e-5)
