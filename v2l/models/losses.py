"""Terms of the training loss (paper section 3.3; released: models_v2l)."""

import lpips
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_ADAPTIVE_WEIGHT = 1e4


class PerceptualLoss(nn.Module):
    """LPIPS of images in [-1, 1], averaged over the batch (Zhang et al. 2018).

    The same value as the wrapped network's own forward pass; here only VGG's convolutions follow the autocast, the
    target costs no graph, and positions whose features are all zero have a gradient. `dropout` drops half of the
    features before the heads, as the network does in training mode.
    """

    def __init__(self, network: lpips.LPIPS, dropout: bool = False):
        super().__init__()
        self.dropout = dropout
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, reconstruction_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
        with torch.no_grad():
            target = self._features(image_BCHW)
        total = reconstruction_BCHW.new_zeros(())
        for found, wanted, head in zip(self._features(reconstruction_BCHW), target, self.network.lins, strict=True):
            difference = (_unit(found) - _unit(wanted)).square()
            difference = F.dropout(difference, 0.5, self.dropout)
            total = total + (difference * head.model[-1].weight).sum(1).mean()  # 1x1 convolution, in float32
        return total

    def _features(self, image_BCHW: Tensor) -> list[Tensor]:
        return list(self.network.net(self.network.scaling_layer(image_BCHW)))


def _unit(feature_BCHW: Tensor) -> Tensor:
    feature_BCHW = feature_BCHW.float()
    return feature_BCHW / (feature_BCHW.square().sum(1, keepdim=True) + 1e-20).sqrt()


def generator_hinge(fake_logits: Tensor) -> Tensor:
    """The generator's adversarial loss: -mean(logits of reconstructions)."""
    return -fake_logits.mean()


def discriminator_hinge(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """0.5 * (mean(relu(1 - real)) + mean(relu(1 + fake)))."""
    return 0.5 * (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean())


def adaptive_weight(content_gradient: Tensor, adversarial_gradient: Tensor) -> Tensor:
    """|gradient of the content loss| / (|gradient of the adversarial loss| + 1e-4), in [0, 1e4] (VQ-GAN, equation 7).

    Both gradients are taken at the decoder's last convolution; content loss: weighted L1 + LPIPS.
    """
    ratio = content_gradient.norm() / (adversarial_gradient.norm() + 1e-4)
    return ratio.clamp(0, MAX_ADAPTIVE_WEIGHT).detach()
