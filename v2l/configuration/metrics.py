"""Metrics by the name of their column: what tables call them, their unit, and which way is better."""

from dataclasses import dataclass
from typing import Literal

from v2l.configuration.registry import Registry


@dataclass(frozen=True)
class Metric:
    """A metric as tables show it. One that `stands_in` has a column only where it was measured.

    `decimals` are the digits behind the point that the Markdown and LaTeX views show.
    `released` says how `score_predictions.mode: released` computes it; empty: as the mode `standard` does.
    """

    label: str
    better: Literal["higher", "lower"]
    unit: str = ""
    stands_in: bool = False
    released: str = ""
    decimals: int = 3


@dataclass(frozen=True)
class ImageMetric(Metric):
    """A metric of an image and its original: `implementation` is a class of `v2l.metrics.pair_metric.PairMetric`."""

    implementation: str = ""


IMAGE_METRICS: Registry[ImageMetric] = Registry(
    "image metric",
    {
        "lpips": ImageMetric(
            "LPIPS",
            "lower",
            released="network inputs in [-3, 1] in place of [-1, 1]",
            implementation="v2l.metrics.image_quality:LPIPS",
        ),
        "psnr": ImageMetric(
            "PSNR",
            "higher",
            "dB",
            decimals=2,
            released="on luma alone, at most 80 dB",
            implementation="v2l.metrics.image_quality:PSNR",
        ),
        "ssim": ImageMetric(
            "SSIM",
            "higher",
            released="images of 384 pixels and more are made smaller first",
            implementation="v2l.metrics.image_quality:SSIM",
        ),
    },
    base="v2l.metrics.pair_metric:PairMetric",
)
SET_METRICS = {
    "fid": Metric("FID", "lower", stands_in=True, decimals=2, released="images resized as pytorch-fid does"),
    "fd_efficientnet_lite0": Metric("FD (EfficientNet-Lite0)", "lower", stands_in=True, decimals=2),
}
TEXT_METRICS = {
    "accuracy": Metric("accuracy", "higher"),
    "clip_score": Metric("CLIP", "higher", "100 times the cosine", decimals=2),
    "clip_r": Metric("CLIP-R", "higher"),
    "vqa_accuracy": Metric("VQA accuracy", "higher"),
    "cider": Metric("CIDEr", "higher"),
    "bleu_4": Metric("BLEU-4", "higher"),
}
