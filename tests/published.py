"""The published networks written down once more, plainly, from their description: random weights and forward passes.

Nothing of v2l/models is used. Weights are a flat dict of the checkpoint's key names; every forward pass walks it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Size:
    """Sizes of a network: `attention` are the levels with self-attention."""

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    latent: int
    codes: int
    width: int
    attention: tuple[int, ...] = ()
    global_codes: int = 0
    inner: int = 0  # heads times channels of a head


def convolution(key: str, channels_in: int, channels_out: int, side: int = 3) -> Iterator[tuple[str, tuple]]:
    yield f"{key}.weight", (channels_out, channels_in, side, side)
    yield f"{key}.bias", (channels_out,)


def norm(key: str, channels: int) -> Iterator[tuple[str, tuple]]:
    yield f"{key}.weight", (channels,)
    yield f"{key}.bias", (channels,)


def residual_block(key: str, channels_in: int, channels_out: int) -> Iterator[tuple[str, tuple]]:
    yield from norm(f"{key}.norm1", channels_in)
    yield from convolution(f"{key}.conv1", channels_in, channels_out)
    yield from norm(f"{key}.norm2", channels_out)
    yield from convolution(f"{key}.conv2", channels_out, channels_out)
    if channels_in != channels_out:
        yield from convolution(f"{key}.nin_shortcut", channels_in, channels_out, 1)


def attention_block(key: str, channels: int) -> Iterator[tuple[str, tuple]]:
    yield from norm(f"{key}.norm", channels)
    for part in ("q", "k", "v", "proj_out"):
        yield from convolution(f"{key}.{part}", channels, channels, 1)


def middle(key: str, channels: int) -> Iterator[tuple[str, tuple]]:
    yield from residual_block(f"{key}.block_1", channels, channels)
    yield from attention_block(f"{key}.attn_1", channels)
    yield from residual_block(f"{key}.block_2", channels, channels)


def autoencoder(size: Size) -> Iterator[tuple[str, tuple]]:
    """Keys and shapes of encoder, decoder and the two 1x1 convolutions between them."""
    widths = [size.channels * multiplier for multiplier in size.multipliers]
    last = len(widths) - 1
    yield from convolution("encoder.conv_in", 3, size.channels)
    channels = size.channels
    for level, wide in enumerate(widths):
        for block in range(size.blocks):
            yield from residual_block(f"encoder.down.{level}.block.{block}", channels, wide)
            channels = wide
            if level in size.attention:
                yield from attention_block(f"encoder.down.{level}.attn.{block}", wide)
        if level < last:
            yield from convolution(f"encoder.down.{level}.downsample.conv", wide, wide)
    yield from middle("encoder.mid", channels)
    yield from norm("encoder.norm_out", channels)
    yield from convolution("encoder.conv_out", channels, size.latent)
    yield from convolution("quant_conv", size.latent, size.width, 1)
    yield from convolution("post_quant_conv", size.width, size.latent, 1)
    yield from convolution("decoder.conv_in", size.latent, channels)
    yield from middle("decoder.mid", channels)
    for level in range(last, -1, -1):
        for block in range(size.blocks + 1):
            yield from residual_block(f"decoder.up.{level}.block.{block}", channels, widths[level])
            channels = widths[level]
            if level in size.attention:
                yield from attention_block(f"decoder.up.{level}.attn.{block}", channels)
        if level > 0:
            yield from convolution(f"decoder.up.{level}.upsample.conv", channels, channels)
    yield from norm("decoder.norm_out", channels)
    yield from convolution("decoder.conv_out", channels, 3)


def v2l_shapes(size: Size) -> dict[str, tuple]:
    """Keys and shapes of the authors' checkpoint, without discriminator, perceptual loss and CLIP."""
    shapes = dict(autoencoder(size))
    shapes["codebook_projection.weight"] = (size.width, size.width)
    shapes["codebook_projection.bias"] = (size.width,)
    shapes["tok_embeddings.weight"] = (size.codes, size.width)
    if size.global_codes:
        wide, key = size.channels * size.multipliers[-1], "decoder.mid.cross_attn_1"
        shapes[f"{key}.to_q.weight"] = (size.inner, wide)
        shapes[f"{key}.to_k.weight"] = shapes[f"{key}.to_v.weight"] = (size.inner, size.width)
        shapes[f"{key}.to_out.0.weight"], shapes[f"{key}.to_out.0.bias"] = (wide, size.inner), (wide,)
        shapes["tok_embeddings_global.weight"] = (size.global_codes, size.width)
    return shapes


def vqgan_shapes(size: Size) -> dict[str, tuple]:
    """Keys and shapes of a taming-transformers VQ-GAN without its losses."""
    return dict(autoencoder(size)) | {"quantize.embedding.weight": (size.codes, size.width)}


def draw(shapes: dict[str, tuple], seed: int = 0) -> Weights:
    """Random weights at the scale of trained ones: norms near 1, tables of unit vectors, the rest by fan-in."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if "norm" in key:
            value = value * 0.1 + (1 if key.endswith("weight") else 0)
        elif "embedding" in key:
            value = F.normalize(value, dim=1)
        else:
            value = value / (value[0].numel() ** 0.5 if value.ndim > 1 else 10)
        weights[key] = value
    return weights


def group_normed(weights: Weights, key: str, x: torch.Tensor) -> torch.Tensor:
    return F.group_norm(x, 32, weights[f"{key}.weight"], weights[f"{key}.bias"], 1e-6)


def convolved(weights: Weights, key: str, x: torch.Tensor, **kwargs) -> torch.Tensor:
    kernel = weights[f"{key}.weight"]
    kwargs = {"padding": kernel.shape[-1] // 2} | kwargs
    return F.conv2d(x, kernel, weights[f"{key}.bias"], **kwargs)


def swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)


def through_residual(weights: Weights, key: str, x: torch.Tensor) -> torch.Tensor:
    hidden = convolved(weights, f"{key}.conv1", swish(group_normed(weights, f"{key}.norm1", x)))
    hidden = convolved(weights, f"{key}.conv2", swish(group_normed(weights, f"{key}.norm2", hidden)))
    if f"{key}.nin_shortcut.weight" in weights:
        x = convolved(weights, f"{key}.nin_shortcut", x)
    return x + hidden


def through_attention(weights: Weights, key: str, x: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = x.shape
    normed = group_normed(weights, f"{key}.norm", x)
    q, k, v = (convolved(weights, f"{key}.{part}", normed).reshape(batch, channels, -1) for part in "qkv")
    weight = torch.softmax(torch.bmm(q.permute(0, 2, 1), k) * channels**-0.5, dim=2)
    mixed = torch.bmm(v, weight.permute(0, 2, 1)).reshape(batch, channels, height, width)
    return x + convolved(weights, f"{key}.proj_out", mixed)


def through_cross_attention(
    weights: Weights, key: str, x: torch.Tensor, context: torch.Tensor, heads: int
) -> torch.Tensor:
    """Multi-head attention of positions to context vectors; the result takes the place of x."""
    batch, channels, height, width = x.shape
    positions = x.reshape(batch, channels, -1).permute(0, 2, 1)
    q = positions @ weights[f"{key}.to_q.weight"].T
    k, v = (context @ weights[f"{key}.to_{part}.weight"].T for part in "kv")
    size = q.shape[2] // heads
    mixed = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        weight = torch.softmax(q[..., part] @ k[..., part].transpose(1, 2) * size**-0.5, dim=-1)
        mixed.append(weight @ v[..., part])
    out = torch.cat(mixed, dim=2) @ weights[f"{key}.to_out.0.weight"].T + weights[f"{key}.to_out.0.bias"]
    return out.permute(0, 2, 1).reshape(batch, channels, height, width)


def blocks_of(weights: Weights, key: str) -> Iterator[tuple[str, str | None]]:
    """Keys of a level's residual blocks, each with the key of its attention if it has one."""
    index = 0
    while f"{key}.block.{index}.conv1.weight" in weights:
        attention = f"{key}.attn.{index}"
        yield f"{key}.block.{index}", attention if f"{attention}.q.weight" in weights else None
        index += 1


def through_level(weights: Weights, key: str, x: torch.Tensor) -> torch.Tensor:
    for block, attention in blocks_of(weights, key):
        x = through_residual(weights, block, x)
        x = through_attention(weights, attention, x) if attention else x
    return x


def encoded(weights: Weights, image: torch.Tensor) -> torch.Tensor:
    """What `quant_conv` gives for images in [-1, 1]."""
    x, level = convolved(weights, "encoder.conv_in", image), 0
    while f"encoder.down.{level}.block.0.conv1.weight" in weights:
        x = through_level(weights, f"encoder.down.{level}", x)
        if f"encoder.down.{level}.downsample.conv.weight" in weights:
            x = convolved(weights, f"encoder.down.{level}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
        level += 1
    x = through_middle(weights, "encoder.mid", x)
    x = convolved(weights, "encoder.conv_out", swish(group_normed(weights, "encoder.norm_out", x)))
    return convolved(weights, "quant_conv", x)


def through_middle(weights: Weights, key: str, x: torch.Tensor, between: Callable | None = None) -> torch.Tensor:
    x = through_attention(weights, f"{key}.attn_1", through_residual(weights, f"{key}.block_1", x))
    return through_residual(weights, f"{key}.block_2", between(x) if between else x)


def decoded(weights: Weights, code: torch.Tensor, between: Callable | None = None) -> torch.Tensor:
    """Images of a map of code vectors (B, D, h, w)."""
    x = convolved(weights, "decoder.conv_in", convolved(weights, "post_quant_conv", code))
    x = through_middle(weights, "decoder.mid", x, between)
    levels = [int(key.split(".")[2]) for key in weights if key.startswith("decoder.up.")]
    for level in range(max(levels), -1, -1):
        x = through_level(weights, f"decoder.up.{level}", x)
        if level > 0:
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            x = convolved(weights, f"decoder.up.{level}.upsample.conv", x)
    return convolved(weights, "decoder.conv_out", swish(group_normed(weights, "decoder.norm_out", x)))


def nearest(vector: torch.Tensor, table: torch.Tensor, k: int) -> torch.Tensor:
    """The k nearest rows of `table` by squared Euclidean distance, nearest first."""
    distance = (vector**2).sum(1, keepdim=True) + (table**2).sum(1) - 2 * vector @ table.T
    return torch.topk(distance, k, dim=1, largest=False).indices


def v2l_forward(
    weights: Weights, image: torch.Tensor, feature: torch.Tensor, k: int, heads: int
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
    """Local ids (B, L), global ids (B, k) and the reconstruction, as the authors' model computes them."""
    z = encoded(weights, image)
    batch, width, height, wide = z.shape
    vector = F.normalize(z.permute(0, 2, 3, 1).reshape(-1, width), dim=1)
    table = weights["tok_embeddings.weight"] @ weights["codebook_projection.weight"].T
    table = table + weights["codebook_projection.bias"]
    local = nearest(vector, table, 1)[:, 0]
    code = table[local].reshape(batch, height, wide, width).permute(0, 3, 1, 2)
    if "tok_embeddings_global.weight" not in weights:
        return local.reshape(batch, -1), None, decoded(weights, code)
    shared = nearest(feature, weights["tok_embeddings_global.weight"], k)
    context = weights["tok_embeddings_global.weight"][shared]
    key = "decoder.mid.cross_attn_1"
    image = decoded(weights, code, lambda x: through_cross_attention(weights, key, x, context, heads))
    return local.reshape(batch, -1), shared, image


def vqgan_forward(weights: Weights, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, L) and the reconstruction, as a taming-transformers VQ-GAN computes them."""
    z = encoded(weights, image)
    batch, width, height, wide = z.shape
    table = weights["quantize.embedding.weight"]
    ids = nearest(z.permute(0, 2, 3, 1).reshape(-1, width), table, 1)[:, 0]
    return ids.reshape(batch, -1), decoded(weights, table[ids].reshape(batch, height, wide, width).permute(0, 3, 1, 2))
