"""An image metric from outside the package: multi-scale SSIM (Wang et al. 2003)."""

from typing import ClassVar

from torch import Tensor

from v2l.configuration.metrics import IMAGE_METRICS, ImageMetric
from v2l.metrics.pair_metric import PairMetric

SCALES = (0.0711, 0.4530, 0.4759)  # the paper's weights of the three finest scales, as shares of their sum


class MSSSIM(PairMetric):
    """MS-SSIM over three scales with a 3 x 3 window, for images of few pixels."""

    min_side: ClassVar[int] = 12

    def __call__(self, image_BCHW: Tensor, original_BCHW: Tensor) -> Tensor:
        # Here, because every job imports this file, and this takes seconds.
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

        return multiscale_structural_similarity_index_measure(
            image_BCHW,
            original_BCHW,
            gaussian_kernel=False,
            kernel_size=3,
            reduction="none",
            data_range=1.0,
            betas=SCALES,
        )


IMAGE_METRICS.add("ms_ssim", ImageMetric("MS-SSIM", "higher", implementation=f"{__name__}:MSSSIM"))
