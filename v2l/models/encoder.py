"""The image encoder: image_BCHW in [-1, 1] -> latent_BCHW, 2^(levels - 1) times smaller (paper section 3.3)."""

from torch import Tensor, nn

from v2l.configuration.tokenizer_training import Network
from v2l.models.blocks import Downsample, Level, Middle
from v2l.models.fused_norm import ActivatedGroupNorm


class ConvolutionalEncoder(nn.Module):
    """VQ-GAN encoder of `network`; its state-dict keys are those of VQ-GAN checkpoints."""

    def __init__(self, network: Network):
        super().__init__()
        groups = network.norm_groups
        widths = [network.channels * multiplier for multiplier in network.channel_multipliers]
        self.conv_in = nn.Conv2d(3, network.channels, 3, padding=1)
        self.down = nn.ModuleList()
        for level, (channels_in, channels_out) in enumerate(zip([network.channels] + widths, widths, strict=False)):
            attention = level in network.attention_levels
            stage = Level(channels_in, channels_out, groups, network.residual_blocks, attention)
            if level < len(widths) - 1:
                stage.downsample = Downsample(channels_out)
            self.down.append(stage)
        self.mid = Middle(widths[-1], groups)
        self.norm_out = ActivatedGroupNorm(widths[-1], groups)
        self.conv_out = nn.Conv2d(widths[-1], network.latent_channels, 3, padding=1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        hidden = self.conv_in(image_BCHW)
        for stage in self.down:
            hidden = stage(hidden)
            if downsample := getattr(stage, "downsample", None):
                hidden = downsample(hidden)
        return self.conv_out(self.norm_out(self.mid(hidden)))
