"""How close an image is to its original: PSNR, SSIM and LPIPS of each pair, by the reference implementations."""

import lpips
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

SSIM_MARGIN = 5  # half a window
LPIPS_MIN_SIDE = 32  # below this AlexNet's last pooling has nothing left


def pair_metrics(
    image_BCHW: torch.Tensor, original_BCHW: torch.Tensor, network: lpips.LPIPS
) -> dict[str, torch.Tensor]:
    """`lpips`, `psnr` (dB, infinite for equal images) and `ssim`, each (B,), of RGB images in [0, 1].

    PSNR and SSIM are taken over all three channels with data range 1, not on luma as in the released code. SSIM (Wang
    et al. 2004: 11 x 11 Gaussian window, sigma 1.5) averages the windows that lie inside the image, as in its first
    code and in scikit-image; torchmetrics' own average includes windows over a reflected border. LPIPS gets its inputs
    in [-1, 1] (the released code feeds [-3, 1]).
    Raises ValueError on other shapes, types or values.
    """
    check_images(image_BCHW)
    check_images(original_BCHW)
    if image_BCHW.shape != original_BCHW.shape:
        raise ValueError(f"images are {tuple(image_BCHW.shape)}, originals {tuple(original_BCHW.shape)}")
    if min(image_BCHW.shape[2:]) < LPIPS_MIN_SIDE:
        raise ValueError(f"LPIPS needs sides of at least {LPIPS_MIN_SIDE} pixels, got {tuple(image_BCHW.shape[2:])}")
    with torch.inference_mode():
        distance_B = network(image_BCHW * 2 - 1, original_BCHW * 2 - 1).flatten()
        psnr_B = peak_signal_noise_ratio(image_BCHW, original_BCHW, data_range=1.0, reduction="none", dim=(1, 2, 3))
        _, similarity_BCHW = structural_similarity_index_measure(
            image_BCHW, original_BCHW, data_range=1.0, reduction="none", return_full_image=True
        )
    inside = slice(SSIM_MARGIN, -SSIM_MARGIN)
    return {"lpips": distance_B, "psnr": psnr_B, "ssim": similarity_BCHW[:, :, inside, inside].mean(dim=(1, 2, 3))}


def check_images(image_BCHW: torch.Tensor) -> None:
    """Raise ValueError unless this is a float32 batch of RGB images with values in [0, 1]."""
    if image_BCHW.ndim != 4 or image_BCHW.shape[1] != 3 or image_BCHW.dtype != torch.float32:
        raise ValueError(f"expected float32 B x 3 x H x W, got {image_BCHW.dtype} {tuple(image_BCHW.shape)}")
    if not ((image_BCHW >= 0) & (image_BCHW <= 1)).all():
        raise ValueError("expected values in [0, 1]")
