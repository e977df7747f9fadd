import json
import sys
from types import ModuleType

import pytest
import torch

from v2l.errors import UserError
from v2l.training.log import TrainingLog
from v2l.training.trackers import TRACKERS, tag, trackers
from v2l.training.window import Window

CODES = 6


@pytest.fixture
def calls(monkeypatch):
    """Stand-ins of TensorBoard and Weights & Biases, and what they are told, in order."""
    told = []

    class SummaryWriter:
        def __init__(self, folder):
            told.append(("folder", folder))

        def add_scalar(self, name, value, step):
            told.append((name, value, step))

        def add_image(self, name, grid_CHW, step):
            told.append((name, tuple(grid_CHW.shape), step))

        def flush(self):
            told.append("flush")

    class Run:
        def log(self, values, step):
            told.append((values, step))

    board, wandb = ModuleType("torch.utils.tensorboard"), ModuleType("wandb")
    board.SummaryWriter = SummaryWriter
    wandb.init = lambda **settings: told.append(settings) or Run()
    wandb.Image = lambda pixels_HWC, caption: (pixels_HWC.shape, caption)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return told


def closed_log(folder, tracking, writes=True):
    log = TrainingLog(folder, folder / "shown", Window(CODES), 40, writes, tracking)
    log.window.add({"pixel": 0.5})
    log.count(torch.ones(CODES), 2)
    log.close_window(7, 1)
    if writes:
        log.show(1, torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
    return log


def test_tensorboard_gets_every_value_of_the_line_and_the_grid(calls, tmp_path):
    log = closed_log(tmp_path, "tensorboard")
    assert calls[0] == ("folder", str(tmp_path / "shown/tensorboard")) and calls[-1] == "flush"
    line = json.loads(log.lines[-1])
    assert sorted(calls[1:-2]) == sorted((tag(name), value, 7) for name, value in line.items() if name != "step")
    name, shape, step = calls[-2]
    assert name == "samples" and shape[0] == 3 and step == 7


def test_wandb_is_offline_and_gets_the_same(calls, tmp_path):
    log = closed_log(tmp_path, "wandb")
    assert calls[0]["mode"] == "offline" and calls[0]["dir"] == str(tmp_path / "shown")
    line = json.loads(log.lines[-1])
    assert calls[1] == ({tag(name): value for name, value in line.items() if name != "step"}, 7)
    values, step = calls[2]
    assert step == 7 and values["samples"][1] == "epoch 1" and values["samples"][0][2] == 3


def test_both_and_none_and_other_ranks(calls, tmp_path):
    assert [type(one) for one in trackers("tensorboard, wandb", tmp_path)] == list(TRACKERS.values())
    calls.clear()
    closed_log(tmp_path, "")
    closed_log(tmp_path, "wandb", writes=False)
    assert calls == []


def test_unknown_trackers_are_refused(tmp_path):
    with pytest.raises(UserError, match="names mlflow. Expected: any of tensorboard, wandb"):
        trackers("wandb,mlflow", tmp_path)


@pytest.mark.parametrize("name, module", [("tensorboard", "tensorboard"), ("wandb", "wandb")])
def test_trackers_that_are_not_installed_are_named(monkeypatch, tmp_path, name, module):
    monkeypatch.setitem(sys.modules, module, None)  # which makes its import fail
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(UserError, match=f"names {name}, which cannot be imported.*pip install {name}"):
        trackers(name, tmp_path)


@pytest.mark.parametrize(
    "name, shown",
    [
        ("codes_share", "codebook/share"),
        ("epoch", "schedule/epoch"),
        ("learning_rate", "schedule/learning_rate"),
        ("pixel", "loss/pixel"),
    ],
)
def test_values_are_grouped(name, shown):
    assert tag(name) == shown
