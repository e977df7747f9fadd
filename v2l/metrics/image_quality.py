"""How close an image is to its original: PSNR, SSIM and LPIPS of each pair.

In mode `standard` by the reference implementations, in mode `released` as the authors' evaluation code takes them.
"""

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from v2l.configuration.config import ScorePredictions
from v2l.metrics.pair_metric import PairMetric
from v2l.models.lpips_network import load_lpips

SSIM_MARGIN = 5  # half a window
SSIM_SIDE = 256  # to which the released code shrinks larger images, by whole factors
LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)  # ITU-R BT.601, from RGB in [0, 1] to [16, 235] / 255
LUMA_FLOOR = 1e-8  # added to the mean square error, so that equal images have 80 dB


class LPIPS(PairMetric):
    """LPIPS on AlexNet (Zhang et al. 2018, version 0.1), which is made for inputs in [-1, 1].

    The released code hands images in [-1, 1] to a function that takes [0, 1], so its network sees [-3, 1].
    """

    min_side: ClassVar[int] = 32  # below this AlexNet's last pooling has nothing left

    def __init__(self, section: ScorePredictions, device: torch.device):
        super().__init__(section, device)
        self.network = load_lpips("alex", Path(section.lpips_weights)).to(device)

    def __call__(self, image_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
        images = [array_BCHW * 2 - 1 for array_BCHW in (image_BCHW, original_BCHW)]
        if self.section.mode == "released":
            images = [array_BCHW * 2 - 1 for array_BCHW in images]
        return self.network(*images).flatten()


class PSNR(PairMetric):
    """Peak signal-to-noise ratio in dB over all channels, infinite for equal images.

    The released code takes it on luma (ITU-R BT.601, 16..235), with a peak of 255 all the same.
    """

    def __call__(self, image_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
        if self.section.mode == "released":
            weight_C11 = torch.tensor(LUMA, device=image_BCHW.device)[:, None, None]
            error_BHW = ((image_BCHW - original_BCHW) * weight_C11).sum(dim=1)
            return -10 * (error_BHW.square().mean(dim=(1, 2)) + LUMA_FLOOR).log10()
        return peak_signal_noise_ratio(image_BCHW, original_BCHW, data_range=1.0, reduction="none", dim=(1, 2, 3))


class SSIM(PairMetric):
    """Structural similarity (Wang et al. 2004: 11 x 11 Gaussian window, sigma 1.5) over all channels.

    This averages the windows that lie inside the image, as in its first code, in scikit-image and in the released code;
    torchmetrics' own average includes windows over a reflected border. The released code pools images of 384 pixels and
    more to about 256 first.
    """

    min_side: ClassVar[int] = 2 * SSIM_MARGIN + 1

    def __call__(self, image_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
        factor = max(1, round(min(image_BCHW.shape[2:]) / SSIM_SIDE))
        if self.section.mode == "released" and factor > 1:
            image_BCHW, original_BCHW = avg_pool2d(image_BCHW, factor), avg_pool2d(original_BCHW, factor)
        _, similarity_BCHW = structural_similarity_index_measure(
            image_BCHW, original_BCHW, data_range=1.0, reduction="none", return_full_image=True
        )
        inside = slice(SSIM_MARGIN, -SSIM_MARGIN)
        return similarity_BCHW[:, :, inside, inside].mean(dim=(1, 2, 3))
