"""GroupNorm with the activation behind it in one operation where the device has kernels for that."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.runtime import device

_assumed = False


class ActivatedGroupNorm(nn.GroupNorm):
    """x_BCHW -> x_BCHW: GroupNorm, and swish if `swish`.

    At most `groups` groups, fewer when `channels` is not a multiple of them; epsilon 1e-6. On GPUs the output has the
    input's type and lies channels last, moments are float32 whatever the autocast, and the normalised values are not
    kept for the backward pass; elsewhere both are PyTorch's own operations.
    """

    def __init__(self, channels: int, groups: int, swish: bool = True):
        super().__init__(math.gcd(groups, channels), channels, eps=1e-6)
        self.swish = swish

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if _assumed or x_BCHW.is_cuda and has_kernels():
            given = (x_BCHW, self.weight, self.bias, self.num_groups, self.eps, self.swish)
            if torch.compiler.is_compiling() or type(x_BCHW) is not Tensor:  # a tensor without memory
                return torch.ops.v2l.group_norm(*given)[0]
            from v2l.models.norm_operations import FusedGroupNorm

            return FusedGroupNorm.apply(*given)
        normed = super().forward(x_BCHW)
        return F.silu(normed) if self.swish else normed


@contextmanager
def as_on_gpus() -> Iterator[None]:
    """Norms as they are on GPUs with kernels, for tensors without data: what a pass would keep there."""
    import v2l.models.norm_operations  # noqa: F401 - registers the operations

    global _assumed
    _assumed = True
    try:
        yield
    finally:
        _assumed = False


@torch.compiler.assume_constant_result
def has_kernels() -> bool:
    """Whether GPUs have kernels for it here; said once in the log if not."""
    return _kernels_run()


@cache
def _kernels_run() -> bool:
    """Found by running them: Triton may be missing, a C compiler that it needs, or code for the card."""
    try:
        from v2l.models.norm_operations import gradients, normalised

        x_BCHW, one_C = torch.zeros(1, 2, 2, 2, device=device()), torch.ones(2, device=device())
        y_BCHW, mean_BG, scale_BG = normalised(x_BCHW, one_C, one_C, 1, 1e-6, True)
        gradients(y_BCHW, x_BCHW, one_C, one_C, mean_BG, scale_BG, True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        logging.warning("GroupNorm without fused kernels, so that a training takes several times longer: %s", reason)
        return False
    return True
