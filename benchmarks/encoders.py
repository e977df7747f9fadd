"""A CLIP model with random weights, as the stages use it and as it is published."""

import copy
import json
import logging
from pathlib import Path
from unittest.mock import patch

import open_clip
import torch
from torch import nn

from benchmarks.sizes import Sizes
from v2l.configuration.model_entries import OpenClipEncoder
from v2l.encoders import open_clip as own_encoder

TINY = "v2l-benchmark"


def random_clip(sizes: Sizes, where: torch.device, folder: Path) -> open_clip.CLIP:
    """The same draw each time, in evaluation mode and float32, without gradients."""
    torch.manual_seed(0)
    name = architecture(sizes, folder)
    if name.endswith(".json"):
        open_clip.add_model_config(folder)
        name = TINY
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # that no weights were loaded
    model = open_clip.create_model(name, load_weights=False, device=where, force_quick_gelu=True)
    logging.disable(level)
    return model.eval().requires_grad_(False)


def architecture(sizes: Sizes, folder: Path) -> str:
    """What `encoders.<name>.model` says: a known name, or a file in `folder`."""
    if isinstance(sizes.clip, str):
        return sizes.clip
    (folder / f"{TINY}.json").write_text(json.dumps(sizes.clip))
    return str(folder / f"{TINY}.json")


def random_encoder(sizes: Sizes, where: torch.device, folder: Path, precision: str) -> own_encoder.OpenClip:
    """The encoder of the stages; its weights come from no file."""
    keys = {"model": architecture(sizes, folder), "weights": str(folder), "precision": precision}
    weights = random_clip(sizes, where, folder).state_dict()
    with patch.object(own_encoder, "load_weights", lambda model, *_: model.load_state_dict(weights)):
        return own_encoder.OpenClip(OpenClipEncoder(kind="open_clip", **keys), where)


def as_published(model: nn.Module, where: torch.device) -> nn.Module:
    """CLIP as its authors' package loads it: float16 on a GPU, float32 on CPUs."""
    return copy.deepcopy(model).half() if where.type == "cuda" else model
