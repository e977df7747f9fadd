"""In which precision a network computes, each in a scope of its own.

Searches for nearest codes, moments, losses and metrics open a scope of float32 themselves, inside whichever they stand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

from v2l.gpu_support import require_precision
from v2l.runtime import device

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
WEIGHTS = {"float32": torch.float32, "tf32": torch.float32} | AUTOCAST  # how a model that computes so holds its weights


@contextmanager
def computed_in(precision: str) -> Iterator[None]:
    """Products and convolutions of this stage's device in `precision`; a decorator, too, of functions that return.

    float32: in full. tf32: float32 tensors, factors rounded to 10 bits where the GPU does so; CPUs compute in full.
    bfloat16, float16: autocast of forward passes. A backward pass belongs in a scope of float32 or tf32: its products
    have the types of the forward pass, but whether float32 ones are rounded is decided when they are started.
    Raises UserError for a precision that the GPU does not compute in.
    """
    _check_precision(precision)
    half = AUTOCAST.get(precision)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    _allow_tf32(precision == "tf32", precision == "tf32")
    try:
        with torch.autocast(device().type, half or torch.bfloat16, enabled=half is not None):
            yield
    finally:
        _allow_tf32(*before)


def backward_of(precision: str) -> str:
    """The precision of the scope for the backward pass of what was computed in `precision`."""
    return "float32" if precision in AUTOCAST else precision


@cache
def _check_precision(precision: str) -> None:
    if device().type == "cuda":
        require_precision("precision", precision, torch.cuda.get_device_name(), torch.cuda.get_device_capability())


def _allow_tf32(in_products: bool, in_convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = in_products
    torch.backends.cudnn.allow_tf32 = in_convolutions
