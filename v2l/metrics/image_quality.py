"""How close an image is to its original: PSNR, SSIM and LPIPS of each pair, by the reference implementations."""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from v2l.configuration.config import ScorePredictions
from v2l.metrics.pair_metric import PairMetric
from v2l.models.lpips_network import load_lpips

SSIM_MARGIN = 5  # half a window


class LPIPS(PairMetric):
    """LPIPS on AlexNet, which gets its inputs in [-1, 1] (the released code feeds [-3, 1])."""

    min_side: ClassVar[int] = 32  # below this AlexNet's last pooling has nothing left

    def __init__(self, section: ScorePredictions, device: torch.device):
        super().__init__(section, device)
        self.network = load_lpips("alex", Path(section.lpips_weights)).to(device)

    def __call__(self, image_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
        return self.network(image_BCHW * 2 - 1, original_BCHW * 2 - 1).flatten()


class PSNR(PairMetric):
    """Peak signal-to-noise ratio in dB, infinite for equal images, over all channels (released code: on luma)."""

    def __call__(self, image_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
        return peak_signal_noise_ratio(image_BCHW, original_BCHW, data_range=1.0, reduction="none", dim=(1, 2, 3))


class SSIM(PairMetric):
    """Structural similarity (Wang et al. 2004: 11 x 11 Gaussian window, sigma 1.5) over all channels.

    The released code takes it on luma. This averages the windows that lie inside the image, as in its first code and in
    scikit-image; torchmetrics' own average includes windows over a reflected border.
    """

    min_side: ClassVar[int] = 2 * SSIM_MARGIN + 1

    def __call__(self, image_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
        _, similarity_BCHW = structural_similarity_index_measure(
            image_BCHW, original_BCHW, data_range=1.0, reduction="none", return_full_image=True
        )
        inside = slice(SSIM_MARGIN, -SSIM_MARGIN)
        return similarity_BCHW[:, :, inside, inside].mean(dim=(1, 2, 3))
