"""The PatchGAN discriminator (Isola et al. 2017): image_BCHW -> one logit per overlapping patch."""

import torch
from torch import Tensor, nn

from v2l.configuration.tokenizer_training import Network


class Discriminator(nn.Module):
    """4x4 convolutions with BatchNorm, `discriminator_layers` of them of stride 2; weights drawn from N(0, 0.02)."""

    def __init__(self, network: Network):
        super().__init__()
        width, layers = network.discriminator_channels, network.discriminator_layers
        widths = [width * min(2**level, 8) for level in range(layers + 1)]
        parts: list[nn.Module] = [nn.Conv2d(3, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for level, (channels_in, channels_out) in enumerate(zip(widths, widths[1:], strict=False), start=1):
            stride = 2 if level < layers else 1
            parts.append(nn.Conv2d(channels_in, channels_out, 4, stride=stride, padding=1, bias=False))
            parts += [nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2)]
        parts.append(nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.main = nn.Sequential(*parts)
        for part in self.main:
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, 0.0, 0.02)
            elif isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.weight, 1.0, 0.02)
        self.to(memory_format=torch.channels_last)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.main(image_BCHW)
