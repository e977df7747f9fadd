"""The tokenizers by method, and the file that one of them is kept in."""

from pathlib import Path

import torch

from v2l.io.storage import read_tensors, tensor_facts
from v2l.models.lqae import LQAETokenizer
from v2l.models.spae import SPAETokenizer
from v2l.models.v2l import V2LTokenizer
from v2l.models.vision_tokenizer import VisionTokenizer
from v2l.models.vqgan import VQGANTokenizer

METHODS: dict[str, type[VisionTokenizer]] = {
    "v2l": V2LTokenizer,
    "v2l-local": V2LTokenizer,
    "v2l-subword": V2LTokenizer,
    "vqgan": VQGANTokenizer,
    "lqae": LQAETokenizer,
    "spae": SPAETokenizer,
}


def tokenizer_facts(path: Path) -> dict:
    """`VisionTokenizer.facts` of a weights file, without reading its tensors."""
    return tensor_facts(path)["tokenizer"]


def load_tokenizer(path: Path, device: torch.device | str = "cpu") -> VisionTokenizer:
    """The tokenizer that `VisionTokenizer.save` wrote, in evaluation mode and without gradients."""
    tensors, metadata = read_tensors(path)
    facts = metadata["tokenizer"]
    tokenizer = METHODS[facts["method"]].rebuild(facts, tensors)
    tokenizer.load_state_dict(tensors)
    return tokenizer.eval().requires_grad_(False).to(device)
