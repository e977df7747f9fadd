"""The image decoder: latent_BCHW and the global codes' vectors -> image_BCHW in about [-1, 1] (paper section 3.3)."""

from torch import Tensor, nn

from v2l.configuration.tokenizer_training import Network
from v2l.models.blocks import CrossAttention, Level, Middle, Upsample
from v2l.models.fused_norm import ActivatedGroupNorm


class ConvolutionalDecoder(nn.Module):
    """VQ-GAN decoder of `network`, with cross-attention to vectors of width `context_width` unless that is None.

    Each level has one block more than in the encoder. `up` is indexed like the encoder's levels: up[0] is the finest.
    """

    def __init__(self, network: Network, context_width: int | None):
        super().__init__()
        groups = network.norm_groups
        widths = [network.channels * multiplier for multiplier in network.channel_multipliers]
        attention = None
        if context_width is not None:
            attention = CrossAttention(
                widths[-1],
                context_width,
                network.cross_attention_heads,
                network.cross_attention_head_channels,
                network.cross_attention_residual,
                network.cross_attention_init == "zero",
            )
        self.conv_in = nn.Conv2d(network.latent_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1], groups, attention)
        self.up = nn.ModuleList()
        for level, (channels_in, channels_out) in enumerate(zip(widths[1:] + widths[-1:], widths, strict=True)):
            attends = level in network.attention_levels
            stage = Level(channels_in, channels_out, groups, network.residual_blocks + 1, attends)
            if level > 0:
                stage.upsample = Upsample(channels_out)
            self.up.append(stage)
        self.norm_out = ActivatedGroupNorm(widths[0], groups)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, latent_BCHW: Tensor, context_BKD: Tensor | None) -> Tensor:
        hidden = self.mid(self.conv_in(latent_BCHW), context_BKD)
        for stage in reversed(self.up):
            hidden = stage(hidden)
            if upsample := getattr(stage, "upsample", None):
                hidden = upsample(hidden)
        return self.conv_out(self.norm_out(hidden))
