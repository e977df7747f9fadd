"""GroupNorm's kernels as functions, as a module's differentiable step, and as operations that can be compiled."""

from typing import NamedTuple

import torch
import triton
from torch import Tensor

from v2l.models import norm_kernels

TILE = 4096  # elements that a program holds of a tensor at once
MOST_CHUNKS, LEAST_ROWS = 64, 32  # of an image; in a chunk


class Division(NamedTuple):
    """How programs share images: rows of an image and of a chunk, chunks of an image, images, sizes of a tile."""

    length: int
    rows: int
    chunks: int
    images: int
    tile: dict[str, int]

    @classmethod
    def of(cls, x_BCHW: Tensor) -> "Division":
        images, channels, height, width = x_BCHW.shape
        block = triton.next_power_of_2(channels)
        tile_rows = max(1, TILE // block)
        rows = triton.cdiv(max(LEAST_ROWS, triton.cdiv(height * width, MOST_CHUNKS)), tile_rows) * tile_rows
        tile = {"BLOCK": block, "TILE_ROWS": tile_rows, "num_warps": 8}
        return cls(height * width, rows, triton.cdiv(height * width, rows), images, tile)

    @property
    def extent(self) -> tuple[int, int]:
        return self.length, self.rows

    @property
    def programs(self) -> tuple[int, int]:
        return self.chunks, self.images

    def group_tile(self, channels: int, groups: int) -> dict[str, int]:
        """Sizes for a program that goes through a group's chunks."""
        size = channels // groups
        block = triton.next_power_of_2(size)
        tile_rows = min(triton.next_power_of_2(self.chunks), max(1, 2048 // block))
        return {"CHUNKS": self.chunks, "C": channels, "S": size, "BLOCK": block, "TILE_ROWS": tile_rows}


class FusedGroupNorm(torch.autograd.Function):
    """y_BCHW of (x_BCHW, weight_C, bias_C, groups, eps, swish), without the dispatch of an operation.

    An operation of the library costs a slow processor more time than the kernels take on a fast card.
    """

    @staticmethod
    def forward(ctx, x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, groups: int, eps: float, swish: bool) -> Tensor:
        y_BCHW, mean_BG, scale_BG = normalised(x_BCHW, weight_C, bias_C, groups, eps, swish)
        ctx.save_for_backward(x_BCHW, weight_C, bias_C, mean_BG, scale_BG)
        ctx.swish = swish
        return y_BCHW

    @staticmethod
    def backward(ctx, gradient_BCHW: Tensor):
        x_BCHW, weight_C, bias_C, mean_BG, scale_BG = ctx.saved_tensors
        x_gradient_BCHW, (bias_gradient_C, weight_gradient_C) = gradients(
            gradient_BCHW, x_BCHW, weight_C, bias_C, mean_BG, scale_BG, ctx.swish
        )
        return x_gradient_BCHW, weight_gradient_C, bias_gradient_C, None, None, None


def normalised(
    x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, groups: int, eps: float, swish: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(y_BCHW in the type of x and in channels-last memory, float32 mean_BG, float32 1 / deviation_BG)."""
    x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    images, channels = x_BCHW.shape[:2]
    plan = Division.of(x_BCHW)
    mean_BNC, square_BNC = x_BCHW.new_empty((2, images, plan.chunks, channels), dtype=torch.float32)
    mean_BG, scale_BG = (x_BCHW.new_empty((images, groups), dtype=torch.float32) for _ in range(2))
    y_BCHW = torch.empty_like(x_BCHW)
    norm_kernels.moments_of_chunks[plan.programs](x_BCHW, mean_BNC, square_BNC, *plan.extent, C=channels, **plan.tile)
    norm_kernels.moments_of_groups[(groups, images)](
        *(mean_BNC, square_BNC, mean_BG, scale_BG, *plan.extent, eps),
        **plan.group_tile(channels, groups),
    )
    norm_kernels.normalise[plan.programs](
        *(x_BCHW, y_BCHW, weight_C, bias_C, mean_BG, scale_BG, *plan.extent),
        **{"C": channels, "S": channels // groups, "SWISH": swish},
        **plan.tile,
    )
    return y_BCHW, mean_BG, scale_BG


def gradients(
    gradient_BCHW: Tensor,
    x_BCHW: Tensor,
    weight_C: Tensor,
    bias_C: Tensor,
    mean_BG: Tensor,
    scale_BG: Tensor,
    swish: bool,
) -> tuple[Tensor, Tensor]:
    """(gradient of x in its type and in channels-last memory, float32 gradients of bias and weight as sums_2C)."""
    x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    gradient_BCHW = gradient_BCHW.contiguous(memory_format=torch.channels_last)
    (images, channels), groups, plan = x_BCHW.shape[:2], mean_BG.shape[1], Division.of(x_BCHW)
    tensors, sizes = (weight_C, bias_C, mean_BG, scale_BG), {"C": channels, "S": channels // groups, "SWISH": swish}
    bias_sum_BNC, weight_sum_BNC = x_BCHW.new_empty((2, images, plan.chunks, channels), dtype=torch.float32)
    norm_kernels.gradient_sums[plan.programs](
        gradient_BCHW, x_BCHW, *tensors, bias_sum_BNC, weight_sum_BNC, *plan.extent, **sizes, **plan.tile
    )
    sum_BC = x_BCHW.new_empty((2, images, channels), dtype=torch.float32)
    mean_of_BG = x_BCHW.new_empty((2, images, groups), dtype=torch.float32)
    norm_kernels.gradient_means[(groups, images)](
        *(bias_sum_BNC, weight_sum_BNC, weight_C, *sum_BC, *mean_of_BG, plan.length),
        **plan.group_tile(channels, groups),
    )
    x_gradient_BCHW = torch.empty_like(x_BCHW)
    norm_kernels.input_gradient_kernel[plan.programs](
        gradient_BCHW, x_BCHW, x_gradient_BCHW, *tensors, *mean_of_BG, *plan.extent, **sizes, **plan.tile
    )
    return x_gradient_BCHW, sum_BC.sum(1)


group_norm = torch.library.custom_op("v2l::group_norm", normalised, mutates_args=())


@torch.library.custom_op("v2l::group_norm_backward", mutates_args=())
def group_norm_backward(
    gradient_BCHW: Tensor,
    x_BCHW: Tensor,
    weight_C: Tensor,
    bias_C: Tensor,
    mean_BG: Tensor,
    scale_BG: Tensor,
    swish: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, in its type and in channels-last memory, of weight and of bias, from the gradient of y."""
    x_gradient_BCHW, sums_C = gradients(gradient_BCHW, x_BCHW, weight_C, bias_C, mean_BG, scale_BG, swish)
    bias_gradient_C, weight_gradient_C = sums_C.to(weight_C.dtype)
    return x_gradient_BCHW, weight_gradient_C.clone(), bias_gradient_C.clone()


@group_norm.register_fake
def _(x_BCHW: Tensor, weight_C: Tensor, bias_C: Tensor, groups: int, eps: float, swish: bool):
    mean_BG, scale_BG = (x_BCHW.new_empty((len(x_BCHW), groups), dtype=torch.float32) for _ in range(2))
    return torch.empty_like(x_BCHW, memory_format=torch.channels_last), mean_BG, scale_BG


@group_norm_backward.register_fake
def _(gradient_BCHW, x_BCHW, weight_C, bias_C, mean_BG, scale_BG, swish):
    x_gradient_BCHW = torch.empty_like(x_BCHW, memory_format=torch.channels_last)
    return x_gradient_BCHW, torch.empty_like(weight_C), torch.empty_like(bias_C)


def _keep(ctx, inputs, output) -> None:
    x_BCHW, weight_C, bias_C, _, _, ctx.swish = inputs
    ctx.save_for_backward(x_BCHW, weight_C, bias_C, *output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, gradient_BCHW: Tensor, *_: None):
    return *group_norm_backward(gradient_BCHW, *ctx.saved_tensors, ctx.swish), None, None, None


group_norm.register_autograd(_backward, setup_context=_keep)
