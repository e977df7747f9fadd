"""GroupNorm, and swish behind it if asked for, as Triton kernels that read and write channels-last memory.

An image is L = H * W rows of C channels; G groups of S = C / G channels; N chunks of rows, each the work of a program.
Moments are those of Welford for each channel of a chunk, then merged over chunks and a group's channels (Chan et al.
1983): no large mean cancels. All arithmetic is float32, whatever the tensors are. Of the forward pass the input and
the groups' moments are kept; the backward pass computes the normalised values anew.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # elements that a program holds of a tensor at once
MOST_CHUNKS, LEAST_ROWS = 64, 32  # of an image; in a chunk


@triton.jit
def _loaded(pointers, mask):
    """Float32 values, 0 where masked."""
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _swish_gradient(gradient, value):
    sigmoid = tl.sigmoid(value)
    return gradient * sigmoid * (1 + value * (1 - sigmoid))


@triton.jit
def _moments_of_chunks(
    x, mean_BNC, square_BNC, length, rows, C: tl.constexpr, BLOCK: tl.constexpr, TILE_ROWS: tl.constexpr
):
    """Mean and sum of squared deviations of each channel of a chunk."""
    chunk, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, offset = tl.arange(0, BLOCK), tl.arange(0, TILE_ROWS)
    first, last = chunk * rows, tl.minimum((chunk + 1) * rows, length)
    mean = tl.zeros((TILE_ROWS, BLOCK), tl.float32)
    square = tl.zeros((TILE_ROWS, BLOCK), tl.float32)
    count = tl.zeros((TILE_ROWS,), tl.float32)
    for start in range(first, last, TILE_ROWS):
        row = start + offset
        inside = row < last
        at = image * length * C + row[:, None] * C + channel[None, :]
        value = _loaded(x + at, inside[:, None] & (channel < C)[None, :])
        count += tl.where(inside, 1.0, 0.0)
        share = tl.where(inside, 1.0 / tl.maximum(count, 1.0), 0.0)
        deviation = value - mean
        mean += deviation * share[:, None]
        square += deviation * deviation * tl.where(inside, 1.0 - share, 0.0)[:, None]
    total = tl.sum(count, 0)
    mean_C = tl.sum(mean * count[:, None], 0) / total
    deviation = mean - mean_C[None, :]
    square_C = tl.sum(square + deviation * deviation * count[:, None], 0)
    at = (image * tl.num_programs(0) + chunk) * C + channel
    tl.store(mean_BNC + at, mean_C, mask=channel < C)
    tl.store(square_BNC + at, square_C, mask=channel < C)


@triton.jit
def _moments_of_groups(
    mean_BNC, square_BNC, mean_BG, scale_BG, length, rows, eps,
    CHUNKS: tl.constexpr, C: tl.constexpr, S: tl.constexpr, BLOCK: tl.constexpr, TILE_ROWS: tl.constexpr,
):  # fmt: skip
    """Mean of each group and the reciprocal of its standard deviation."""
    group, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, offset = tl.arange(0, BLOCK), tl.arange(0, TILE_ROWS)
    base = image * CHUNKS * C + group * S
    origin = tl.load(mean_BNC + base)
    total = tl.zeros((TILE_ROWS, BLOCK), tl.float32)
    for start in range(0, CHUNKS, TILE_ROWS):
        chunk = start + offset
        inside = (chunk < CHUNKS)[:, None] & (channel < S)[None, :]
        count = tl.minimum(rows, length - chunk * rows).to(tl.float32)[:, None]
        mean = _loaded(mean_BNC + base + chunk[:, None] * C + channel[None, :], inside)
        total += tl.where(inside, count * (mean - origin), 0.0)
    mean_G = origin + tl.sum(tl.sum(total, 1), 0) / (length * S)
    total = tl.zeros((TILE_ROWS, BLOCK), tl.float32)
    for start in range(0, CHUNKS, TILE_ROWS):
        chunk = start + offset
        inside = (chunk < CHUNKS)[:, None] & (channel < S)[None, :]
        count = tl.minimum(rows, length - chunk * rows).to(tl.float32)[:, None]
        at = base + chunk[:, None] * C + channel[None, :]
        deviation = _loaded(mean_BNC + at, inside) - mean_G
        square = _loaded(square_BNC + at, inside)
        total += tl.where(inside, square + count * deviation * deviation, 0.0)
    variance = tl.sum(tl.sum(total, 1), 0) / (length * S)
    at = image * (C // S) + group
    tl.store(mean_BG + at, mean_G)
    tl.store(scale_BG + at, 1.0 / tl.sqrt(variance + eps))


@triton.jit
def _normalise(
    x, y, weight_C, bias_C, mean_BG, scale_BG, length, rows,
    C: tl.constexpr, S: tl.constexpr, SWISH: tl.constexpr, BLOCK: tl.constexpr, TILE_ROWS: tl.constexpr,
):  # fmt: skip
    """Output of a chunk."""
    chunk, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, offset = tl.arange(0, BLOCK), tl.arange(0, TILE_ROWS)
    exists = channel < C
    group = image * (C // S) + channel // S
    mean, scale = _loaded(mean_BG + group, exists), _loaded(scale_BG + group, exists)
    weight, bias = _loaded(weight_C + channel, exists), _loaded(bias_C + channel, exists)
    last = tl.minimum((chunk + 1) * rows, length)
    for start in range(chunk * rows, last, TILE_ROWS):
        row = start + offset
        at = image * length * C + row[:, None] * C + channel[None, :]
        inside = (row < last)[:, None] & exists[None, :]
        value = (_loaded(x + at, inside) - mean) * scale * weight + bias
        if SWISH:
            value = value * tl.sigmoid(value)
        tl.store(y + at, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def _gradient_sums(
    gradient, x, weight_C, bias_C, mean_BG, scale_BG, bias_sum_BNC, weight_sum_BNC, length, rows,
    C: tl.constexpr, S: tl.constexpr, SWISH: tl.constexpr, BLOCK: tl.constexpr, TILE_ROWS: tl.constexpr,
):  # fmt: skip
    """Sums over a chunk of the gradient behind the norm, and of it times the normalised values, for each channel."""
    chunk, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, offset = tl.arange(0, BLOCK), tl.arange(0, TILE_ROWS)
    exists = channel < C
    group = image * (C // S) + channel // S
    mean, scale = _loaded(mean_BG + group, exists), _loaded(scale_BG + group, exists)
    weight, bias = _loaded(weight_C + channel, exists), _loaded(bias_C + channel, exists)
    bias_sum = tl.zeros((TILE_ROWS, BLOCK), tl.float32)
    weight_sum = tl.zeros((TILE_ROWS, BLOCK), tl.float32)
    last = tl.minimum((chunk + 1) * rows, length)
    for start in range(chunk * rows, last, TILE_ROWS):
        row = start + offset
        at = image * length * C + row[:, None] * C + channel[None, :]
        inside = (row < last)[:, None] & exists[None, :]
        normed = (_loaded(x + at, inside) - mean) * scale
        change = _loaded(gradient + at, inside)
        if SWISH:
            change = _swish_gradient(change, normed * weight + bias)
        bias_sum += change
        weight_sum += change * normed
    at = (image * tl.num_programs(0) + chunk) * C + channel
    tl.store(bias_sum_BNC + at, tl.sum(bias_sum, 0), mask=exists)
    tl.store(weight_sum_BNC + at, tl.sum(weight_sum, 0), mask=exists)


@triton.jit
def _gradient_means(
    bias_sum_BNC, weight_sum_BNC, weight_C, bias_sum_BC, weight_sum_BC, bias_mean_BG, weight_mean_BG, length,
    CHUNKS: tl.constexpr, C: tl.constexpr, S: tl.constexpr, BLOCK: tl.constexpr, TILE_ROWS: tl.constexpr,
):  # fmt: skip
    """A group's sums over all chunks, for each channel, and their weighted means over its channels and rows."""
    group, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, offset = tl.arange(0, BLOCK), tl.arange(0, TILE_ROWS)
    exists = channel < S
    base = image * CHUNKS * C + group * S
    bias_sum = tl.zeros((TILE_ROWS, BLOCK), tl.float32)
    weight_sum = tl.zeros((TILE_ROWS, BLOCK), tl.float32)
    for start in range(0, CHUNKS, TILE_ROWS):
        chunk = start + offset
        inside = (chunk < CHUNKS)[:, None] & exists[None, :]
        at = base + chunk[:, None] * C + channel[None, :]
        bias_sum += _loaded(bias_sum_BNC + at, inside)
        weight_sum += _loaded(weight_sum_BNC + at, inside)
    weight = _loaded(weight_C + group * S + channel, exists)
    bias_sum_S, weight_sum_S = tl.sum(bias_sum, 0), tl.sum(weight_sum, 0)
    at = image * C + group * S + channel
    tl.store(bias_sum_BC + at, bias_sum_S, mask=exists)
    tl.store(weight_sum_BC + at, weight_sum_S, mask=exists)
    at = image * (C // S) + group
    tl.store(bias_mean_BG + at, tl.sum(bias_sum_S * weight, 0) / (length * S))
    tl.store(weight_mean_BG + at, tl.sum(weight_sum_S * weight, 0) / (length * S))


@triton.jit
def _input_gradient(
    gradient, x, x_gradient, weight_C, bias_C, mean_BG, scale_BG, bias_mean_BG, weight_mean_BG, length, rows,
    C: tl.constexpr, S: tl.constexpr, SWISH: tl.constexpr, BLOCK: tl.constexpr, TILE_ROWS: tl.constexpr,
):  # fmt: skip
    """Gradient of a chunk of the input."""
    chunk, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    channel, offset = tl.arange(0, BLOCK), tl.arange(0, TILE_ROWS)
    exists = channel < C
    group = image * (C // S) + channel // S
    mean, scale = _loaded(mean_BG + group, exists), _loaded(scale_BG + group, exists)
    bias_mean, weight_mean = _loaded(bias_mean_BG + group, exists), _loaded(weight_mean_BG + group, exists)
    weight, bias = _loaded(weight_C + channel, exists), _loaded(bias_C + channel, exists)
    last = tl.minimum((chunk + 1) * rows, length)
    for start in range(chunk * rows, last, TILE_ROWS):
        row = start + offset
        at = image * length * C + row[:, None] * C + channel[None, :]
        inside = (row < last)[:, None] & exists[None, :]
        normed = (_loaded(x + at, inside) - mean) * scale
        change = _loaded(gradient + at, inside)
        if SWISH:
            change = _swish_gradient(change, normed * weight + bias)
        change = scale * (weight * change - bias_mean - normed * weight_mean)
        tl.store(x_gradient + at, change.to(x_gradient.dtype.element_ty), mask=inside)


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
        x_gradient_BCHW, sums_C = input_gradient(gradient_BCHW, *ctx.saved_tensors, ctx.swish)
        bias_gradient_C, weight_gradient_C = sums_C
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
    _moments_of_chunks[plan.programs](x_BCHW, mean_BNC, square_BNC, *plan.extent, C=channels, **plan.tile)
    _moments_of_groups[(groups, images)](
        *(mean_BNC, square_BNC, mean_BG, scale_BG, *plan.extent, eps),
        **plan.group_tile(channels, groups),
    )
    _normalise[plan.programs](
        *(x_BCHW, y_BCHW, weight_C, bias_C, mean_BG, scale_BG, *plan.extent),
        **{"C": channels, "S": channels // groups, "SWISH": swish},
        **plan.tile,
    )
    return y_BCHW, mean_BG, scale_BG


def input_gradient(
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
    _gradient_sums[plan.programs](
        gradient_BCHW, x_BCHW, *tensors, bias_sum_BNC, weight_sum_BNC, *plan.extent, **sizes, **plan.tile
    )
    sum_BC = x_BCHW.new_empty((2, images, channels), dtype=torch.float32)
    mean_of_BG = x_BCHW.new_empty((2, images, groups), dtype=torch.float32)
    _gradient_means[(groups, images)](
        *(bias_sum_BNC, weight_sum_BNC, weight_C, *sum_BC, *mean_of_BG, plan.length),
        **plan.group_tile(channels, groups),
    )
    x_gradient_BCHW = torch.empty_like(x_BCHW)
    _input_gradient[plan.programs](
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
    x_gradient_BCHW, sums_C = input_gradient(gradient_BCHW, x_BCHW, weight_C, bias_C, mean_BG, scale_BG, swish)
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
