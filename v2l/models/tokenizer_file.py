"""The networks of tokenizers by method, and the file that one of them is kept in."""

from pathlib import Path

import torch

from v2l.configuration.registry import implementation_of
from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.io.storage import read_tensors, tensor_metadata
from v2l.models.vision_tokenizer import VisionTokenizer


def tokenizer_class(method: str) -> type[VisionTokenizer]:
    """The network of a method."""
    return implementation_of(TOKENIZER_METHODS[method])


def tokenizer_description(path: Path) -> dict:
    """`VisionTokenizer.description` of a weights file, without reading its tensors."""
    return tensor_metadata(path)["tokenizer"]


def load_tokenizer(path: Path, device: torch.device | str = "cpu") -> VisionTokenizer:
    """The tokenizer that `VisionTokenizer.save` wrote, in evaluation mode and without gradients."""
    tensors, metadata = read_tensors(path)
    description = metadata["tokenizer"]
    tokenizer = tokenizer_class(description["method"]).rebuild(description, tensors)
    tokenizer.load_state_dict(tensors)
    return tokenizer.eval().requires_grad_(False).to(device)
