"""GroupNorm, and swish behind it if asked for, as Triton kernels that read and write channels-last memory.

An image is L = H * W rows of C channels; G groups of S = C / G channels; N chunks of rows, each the work of a program.
Moments are those of Welford for each channel of a chunk, then merged over chunks and a group's channels (Chan et al.
1983): no large mean cancels. All arithmetic is float32, whatever the tensors are. Of the forward pass the input and
the groups' moments are kept; the backward pass computes the normalised values anew.
"""

import triton
import triton.language as tl


@triton.jit
def _loaded(pointers, mask):
    """Float32 values, 0 where masked."""
    return tl.load(pointers, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _swish_gradient(gradient, value):
    sigmoid = tl.sigmoid(value)
    return gradient * sigmoid * (1 + value * (1 - sigmoid))


@triton.jit
def moments_of_chunks(
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
def moments_of_groups(
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
def normalise(
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
def gradient_sums(
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
def gradient_means(
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
def input_gradient_kernel(
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
