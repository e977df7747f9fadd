"""The vision transformers of LQAE's encoder and decoder (Liu et al. 2023; its code's base_vit).

No plain ViT: a norm stands behind the attention as well, feed-forward layers are gated and mix neighbours by a
depthwise convolution, linear layers have no bias, there is no class token and no last norm. Shape suffixes: B images,
C channels, H and W pixels, L = h * w positions in row-major order, D the width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2l.models.blocks import codes_as_map

INIT_DEVIATION = 0.02


class GatedFeedForward(nn.Module):
    """x_BLD -> x_BLD: GELU-gated, with a 3x3 depthwise convolution over the `grid` x `grid` map inside."""

    def __init__(self, width: int, hidden: int, grid: int):
        super().__init__()
        self.grid = grid
        self.norm_in = nn.LayerNorm(width)
        self.gate, self.value = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.norm_hidden = nn.LayerNorm(hidden)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        x_BLD = self.norm_in(x_BLD)
        hidden = F.gelu(self.gate(x_BLD), approximate="tanh") * self.value(x_BLD)
        mixed = self.mix(codes_as_map(hidden, self.grid)).flatten(2).transpose(1, 2)
        return self.out(self.norm_hidden(mixed))


class Block(nn.Module):
    """x_BLD -> x_BLD: norm, self-attention, norm; then the gated layer; each added to its input."""

    def __init__(self, width: int, heads: int, hidden: int, grid: int):
        super().__init__()
        self.norm_before = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, bias=False, batch_first=True)
        self.norm_after = nn.LayerNorm(width)
        self.feed_forward = GatedFeedForward(width, hidden, grid)

    def forward(self, x_BLD: Tensor) -> Tensor:
        normed = self.norm_before(x_BLD)
        x_BLD = x_BLD + self.norm_after(self.attention(normed, normed, normed, need_weights=False)[0])
        return x_BLD + self.feed_forward(x_BLD)


class Transformer(nn.Module):
    """x_BLD -> x_BLD: learned positions, then `layers` blocks; every weight drawn from N(0, 0.02), biases 0."""

    def __init__(self, width: int, layers: int, heads: int, expansion: int, grid: int):
        super().__init__()
        self.position_LD = nn.Parameter(torch.empty(grid**2, width))
        self.blocks = nn.Sequential(*(Block(width, heads, expansion * width, grid) for _ in range(layers)))

    def draw(self) -> None:
        """Draw all weights; norms stay the identity."""
        for name, parameter in self.named_parameters():
            if "norm_" not in name:
                nn.init.zeros_(parameter) if name.endswith("bias") else nn.init.normal_(parameter, std=INIT_DEVIATION)

    def transformed(self, x_BLD: Tensor) -> Tensor:
        """Behind positions and blocks, in float32."""
        return self.blocks(x_BLD + self.position_LD).float()


class ViTEncoder(Transformer):
    """image_BCHW -> vector_BLD, one for each patch."""

    def __init__(self, width: int, layers: int, heads: int, expansion: int, grid: int, patch_size: int):
        super().__init__(width, layers, heads, expansion, grid)
        self.patches = nn.Conv2d(3, width, patch_size, stride=patch_size, bias=False)
        self.draw()

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.transformed(self.patches(image_BCHW).flatten(2).transpose(1, 2))


class ViTDecoder(Transformer):
    """vector_BLD -> image_BCHW."""

    def __init__(self, width: int, layers: int, heads: int, expansion: int, grid: int, patch_size: int):
        super().__init__(width, layers, heads, expansion, grid)
        self.grid = grid
        self.patches = nn.ConvTranspose2d(width, 3, patch_size, stride=patch_size)
        self.draw()

    def forward(self, vector_BLD: Tensor) -> Tensor:
        return self.patches(codes_as_map(self.transformed(vector_BLD), self.grid)).float()
