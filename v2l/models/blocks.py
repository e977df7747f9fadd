"""Parts of the VQ-GAN encoder and decoder (Esser et al. 2021); module names follow its checkpoints' keys.

Shape suffixes: B images, C channels, H and W positions, L = H * W, K context vectors, D their width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.models.fused_norm import ActivatedGroupNorm


class ResidualBlock(nn.Module):
    """x_BCHW -> x_BEHW: two 3x3 convolutions behind GroupNorm and swish, and a 1x1 shortcut when C and E differ."""

    def __init__(self, channels_in: int, channels_out: int, groups: int):
        super().__init__()
        self.norm1 = ActivatedGroupNorm(channels_in, groups)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = ActivatedGroupNorm(channels_out, groups)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        if channels_in != channels_out:
            self.nin_shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        hidden = self.conv2(self.norm2(self.conv1(self.norm1(x_BCHW))))
        shortcut = self.nin_shortcut(x_BCHW) if hasattr(self, "nin_shortcut") else x_BCHW
        return shortcut + hidden


class SelfAttention(nn.Module):
    """x_BCHW -> x_BCHW: one attention head over all positions, added to the input."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.norm = ActivatedGroupNorm(channels, groups, swish=False)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        normed = self.norm(x_BCHW)
        query_BLC, key_BLC, value_BLC = (part(normed).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v))
        mixed_BLC = F.scaled_dot_product_attention(query_BLC, key_BLC, value_BLC)
        return x_BCHW + self.proj_out(mixed_BLC.transpose(1, 2).unflatten(2, x_BCHW.shape[2:]))


class CrossAttention(nn.Module):
    """Positions attend to context vectors: x_BCHW, context_BKD -> x_BCHW.

    No normalisation, no bias on queries, keys and values (released). `residual` adds the input; the released network
    does not, so that what it passes on of space is only how positions weight the context vectors. `from_zero`: its
    output begins as zeros, so that with `residual` it passes the input on until training gives it something to add.
    """

    def __init__(
        self, channels: int, context_width: int, heads: int, head_channels: int, residual: bool, from_zero: bool = False
    ):
        super().__init__()
        inner = heads * head_channels
        self.heads, self.residual = heads, residual
        self.to_q = nn.Linear(channels, inner, bias=False)
        self.to_k = nn.Linear(context_width, inner, bias=False)
        self.to_v = nn.Linear(context_width, inner, bias=False)
        output = nn.Linear(inner, channels)
        if from_zero:
            nn.init.zeros_(output.weight)
            nn.init.zeros_(output.bias)
        self.to_out = nn.ModuleList([output])

    def forward(self, x_BCHW: Tensor, context_BKD: Tensor) -> Tensor:
        query_BLC = self.to_q(x_BCHW.flatten(2).transpose(1, 2))
        split = [
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in (query_BLC, self.to_k(context_BKD), self.to_v(context_BKD))
        ]
        mixed_BLC = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        mixed_BCHW = self.to_out[0](mixed_BLC).transpose(1, 2).unflatten(2, x_BCHW.shape[2:])
        return x_BCHW + mixed_BCHW if self.residual else mixed_BCHW


class Downsample(nn.Module):
    """x_BCHW -> half the height and width: 3x3 convolution of stride 2, zeros only at the right and bottom edge."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """x_BCHW -> twice the height and width: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))


class Middle(nn.Module):
    """Residual block, self-attention, cross-attention if there is a context, residual block."""

    def __init__(self, channels: int, groups: int, cross_attention: CrossAttention | None = None):
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups)
        self.attn_1 = SelfAttention(channels, groups)
        if cross_attention is not None:
            self.cross_attn_1 = cross_attention
        self.block_2 = ResidualBlock(channels, channels, groups)

    def forward(self, x_BCHW: Tensor, context_BKD: Tensor | None = None) -> Tensor:
        hidden = self.attn_1(self.block_1(x_BCHW))
        if context_BKD is not None:
            hidden = self.cross_attn_1(hidden, context_BKD)
        return self.block_2(hidden)


class Level(nn.Module):
    """The blocks of one resolution, each followed by self-attention when `attention`."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, blocks: int, attention: bool):
        super().__init__()
        widths = [channels_in] + [channels_out] * blocks
        self.block = nn.ModuleList(ResidualBlock(*pair, groups) for pair in zip(widths, widths[1:], strict=False))
        self.attn = nn.ModuleList(SelfAttention(channels_out, groups) for _ in range(blocks if attention else 0))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for index, block in enumerate(self.block):
            x_BCHW = block(x_BCHW)
            if self.attn:
                x_BCHW = self.attn[index](x_BCHW)
        return x_BCHW


def codes_as_map(vector_BLD: Tensor, grid: int) -> Tensor:
    """Row-major vectors of a square token map as vector_BDHW with H = W = `grid`."""
    return torch.unflatten(vector_BLD.transpose(1, 2), 2, (grid, grid))
