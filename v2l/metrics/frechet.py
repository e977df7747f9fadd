"""Frechet distance between two sets of images, on features of a network whose weights are a local file.

Only Inception-v3 with the FID weights makes a number called `fid`; every other network has a name of its own.
"""

import io
from collections.abc import Callable
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

from v2l.errors import UserError
from v2l.io.state_dicts import read_state_dict

METRIC_NAMES = {"inception-v3-fid": "fid", "efficientnet-lite0": "fd_efficientnet_lite0"}
WEIGHTS_KEY = "`score_predictions.frechet_weights`"
MIN_IMAGES = 2
EFFICIENTNET_SIDE = 224
INCEPTION_SIDE = 299
CPU_IMAGES = 4  # at once: with more a CPU is several times slower

FeatureNetwork = Callable[[torch.Tensor], torch.Tensor]


def load_feature_network(kind: str, weights: Path, device: torch.device, mode: str = "standard") -> FeatureNetwork:
    """A function from uint8 image_BCHW (RGB, 0..255, any size) to float32 feature_BD on the CPU.

    `inception-v3-fid`: 2048 pooled features by torch-fidelity, which resizes as the original TensorFlow graph does; in
    mode `released` images are resized by PyTorch's bilinear interpolation and scaled to [-1, 1], as pytorch-fid does.
    `efficientnet-lite0`: 1280 pooled features, input (x - 127) / 128 at 224 px. Raises UserError when the file is
    missing or holds another network.
    """
    state = read_state_dict(weights, WEIGHTS_KEY)
    try:
        if kind == "inception-v3-fid":
            checked = io.BytesIO()  # torch-fidelity reads its file in full, code included: it gets one of our own
            torch.save(state, checked)
            checked.seek(0)
            network = FeatureExtractorInceptionV3(kind, ["2048"], feature_extractor_weights_path=checked)
        else:
            network = EfficientNet.from_name(kind)
            network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"{WEIGHTS_KEY}: {weights} does not fit the network ({reason})",
            f"weights of {kind}",
            "name the right file, or change `score_predictions.frechet`",
        ) from None
    network = network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)
    if kind == "inception-v3-fid":
        pooled = _pytorch_fid_features if mode == "released" else _inception_features
    else:
        pooled = _efficientnet_features

    def features(image_BCHW: torch.Tensor) -> torch.Tensor:
        if image_BCHW.dtype != torch.uint8 or image_BCHW.ndim != 4 or image_BCHW.shape[1] != 3:
            raise ValueError(f"expected uint8 B x 3 x H x W, got {image_BCHW.dtype} {tuple(image_BCHW.shape)}")
        with torch.inference_mode():
            return pooled(network, image_BCHW.to(device)).float().cpu()

    return features


def frechet_distance(feature_ND: torch.Tensor, original_MD: torch.Tensor) -> float:
    """Squared Frechet distance of the Gaussians fitted to two feature sets, in float64; 0 for equal sets, unbounded.

    Both sets are first rotated into the space they span when it is smaller than D: the distance is the same, and small
    sets take milliseconds. Raises ValueError for fewer than two rows on either side, UserError for features
    that are not finite.
    """
    if min(len(feature_ND), len(original_MD)) < MIN_IMAGES:
        raise ValueError(f"a Frechet distance needs at least {MIN_IMAGES} images on each side")
    for features in (feature_ND, original_MD):
        if not bool(features.isfinite().all()):
            raise UserError(
                f"{WEIGHTS_KEY}: the network gives features that are not finite",
                "finite numbers",
                "its weights are damaged, or of another network: get them again",
            )
    feature_ND, original_MD = feature_ND.double(), original_MD.double()
    both_KD = torch.cat([feature_ND, original_MD])
    if len(both_KD) < both_KD.shape[1]:
        basis_DK = torch.linalg.qr(both_KD.T).Q
        feature_ND, original_MD = feature_ND @ basis_DK, original_MD @ basis_DK
    statistics = [fid_features_to_statistics(features) for features in (feature_ND, original_MD)]
    return max(0.0, fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID])


def _inception_features(network: torch.nn.Module, image_BCHW: torch.Tensor) -> torch.Tensor:
    return network(image_BCHW)[0]


def _pytorch_fid_features(network: torch.nn.Module, image_BCHW: torch.Tensor) -> torch.Tensor:
    """Features by the network's layers up to its pooling, which stand in the order in which they are computed."""
    size = (INCEPTION_SIDE, INCEPTION_SIDE)
    found_BCHW = torch.nn.functional.interpolate(image_BCHW.float() / 255, size, mode="bilinear") * 2 - 1
    for layer in list(network.children())[:-1]:  # the last one classifies
        found_BCHW = layer(found_BCHW)
    return found_BCHW.flatten(1)


def _efficientnet_features(network: EfficientNet, image_BCHW: torch.Tensor) -> torch.Tensor:
    size = (EFFICIENTNET_SIDE, EFFICIENTNET_SIDE)
    found = []
    for part in image_BCHW.split(CPU_IMAGES if image_BCHW.device.type == "cpu" else len(image_BCHW)):
        resized_BCHW = torch.nn.functional.interpolate(part.float(), size, mode="bilinear", antialias=True)
        found.append(network.extract_features((resized_BCHW - 127) / 128).mean(dim=(2, 3)))
    return torch.cat(found)
