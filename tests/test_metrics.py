"""Every metric against an independent computation, its ranges, and what it refuses."""

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.stats import binom
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.tiny import write_inception
from v2l.configuration.config import ScorePredictions
from v2l.configuration.extensions import check_added, load_extensions
from v2l.configuration.metrics import IMAGE_METRICS
from v2l.configuration.registry import implementation_of
from v2l.errors import UserError
from v2l.metrics import bootstrap
from v2l.metrics.bootstrap import mean_interval
from v2l.metrics.frechet import frechet_distance, load_feature_network
from v2l.metrics.image_quality import LPIPS, PSNR, SSIM
from v2l.metrics.pair_metric import PairMetric, measured_pairs
from v2l.metrics.rows import Measurement
from v2l.metrics.semantics import semantic_scores
from v2l.models.lpips_network import empty_lpips

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pairs():
    """Five 40 x 48 images in [0, 1] and noisier and noisier copies of them."""
    rng = np.random.default_rng(0)
    original_BCHW = rng.random((5, 3, 40, 48)).cumsum(axis=3) / 48
    noise_BCHW = rng.normal(size=original_BCHW.shape) * np.array([0.01, 0.05, 0.1, 0.2, 0.4]).reshape(5, 1, 1, 1)
    images = (np.clip(array, 0, 1).astype(np.float32) for array in (original_BCHW + noise_BCHW, original_BCHW))
    return tuple(torch.from_numpy(image) for image in images)


@pytest.fixture(scope="module")
def metrics(tmp_path_factory):
    """Every image metric of the package; LPIPS has random weights."""
    torch.manual_seed(0)
    network = empty_lpips("alex")
    for head in network.lins:
        head.model[-1].weight.abs_()
    path = tmp_path_factory.mktemp("lpips") / "alex.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}, path)
    section = ScorePredictions(lpips_weights=str(path), frechet_weights="")
    return {name: implementation_of(metric)(section, CPU) for name, metric in IMAGE_METRICS.items()}


def test_the_image_metrics_are_the_declared_classes(metrics):
    assert [type(metric) for metric in metrics.values()] == [LPIPS, PSNR, SSIM]


def test_psnr_and_ssim_equal_scikit_image(pairs, metrics):
    measured = measured_pairs(metrics, *pairs)
    image_BCHW, original_BCHW = pairs
    for i in range(len(image_BCHW)):
        image, original = (array[i].permute(1, 2, 0).double().numpy() for array in pairs)
        ssim = structural_similarity(
            original,
            image,
            data_range=1.0,
            channel_axis=2,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert measured["psnr"][i].item() == pytest.approx(
            peak_signal_noise_ratio(original, image, data_range=1.0), abs=1e-3
        )
        assert measured["ssim"][i].item() == pytest.approx(ssim, abs=2e-4)
    assert measured["psnr"].diff().lt(0).all() and measured["ssim"].diff().lt(0).all()


def test_lpips_sees_values_between_minus_one_and_one(pairs, metrics, monkeypatch):
    def difference_of_means(image_BCHW, original_BCHW):
        return (image_BCHW - original_BCHW).mean(dim=(1, 2, 3), keepdim=True)

    image_BCHW, original_BCHW = pairs
    monkeypatch.setattr(metrics["lpips"], "network", difference_of_means)
    measured = measured_pairs(metrics, image_BCHW, original_BCHW)
    torch.testing.assert_close(measured["lpips"], 2 * (image_BCHW - original_BCHW).mean(dim=(1, 2, 3)))


def test_metrics_do_not_depend_on_the_batch(pairs, metrics):
    together = measured_pairs(metrics, *pairs)
    for i in range(len(pairs[0])):
        alone = measured_pairs(metrics, pairs[0][i : i + 1], pairs[1][i : i + 1])
        for metric, value_B in alone.items():
            assert value_B.shape == (1,)
            torch.testing.assert_close(value_B[0], together[metric][i], rtol=1e-4, atol=1e-5)


def test_an_image_equals_itself(pairs, metrics):
    measured = measured_pairs(metrics, pairs[1], pairs[1])
    assert (measured["lpips"] == 0).all()
    assert torch.isinf(measured["psnr"]).all()
    torch.testing.assert_close(measured["ssim"], torch.ones(5))
    assert (measured_pairs(metrics, *pairs)["lpips"] > 0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 2 - 1, r"values in \[0, 1\]"),
        (lambda x: x * float("nan"), r"values in \[0, 1\]"),
        (lambda x: (x * 255).to(torch.uint8), "float32"),
        (lambda x: x[:, :1], "B x 3 x H x W"),
        (lambda x: x[:, :, :32], "originals"),
        (lambda x: x[:, :, :16], "originals"),
    ],
)
def test_wrong_images_are_refused(pairs, metrics, change, message):
    with pytest.raises(ValueError, match=message):
        measured_pairs(metrics, change(pairs[0]), pairs[1])
    with pytest.raises(ValueError, match=message):
        measured_pairs(metrics, pairs[0], change(pairs[1]))


@pytest.mark.parametrize(("name", "side"), [("lpips", 32), ("ssim", 11)])
def test_a_metric_refuses_images_that_are_too_small(pairs, metrics, name, side):
    metrics = {name: metrics[name]}
    with pytest.raises(ValueError, match=f"{name} needs sides of at least {side} pixels"):
        measured_pairs(metrics, *(images[:, :, : side - 1] for images in pairs))
    assert torch.isfinite(measured_pairs(metrics, *(images[:, :, :side] for images in pairs))[name]).all()


def test_a_metric_gives_one_value_a_pair(pairs):
    class Mean(PairMetric):
        def __call__(self, image_BCHW, original_BCHW):
            return (image_BCHW - original_BCHW).mean()

    with pytest.raises(ValueError, match=r"metric mean gave shape \(\) for 5 pairs"):
        measured_pairs({"mean": Mean(None, CPU)}, *pairs)


@pytest.fixture
def ms_ssim(registries):
    """The image metric of tests/extending."""
    load_extensions(["tests/extending/image_metric.py"])
    return IMAGE_METRICS["ms_ssim"]


def test_an_image_metric_can_be_added_by_one_file(pairs, ms_ssim):
    check_added([IMAGE_METRICS])
    section = ScorePredictions(lpips_weights="", frechet_weights="", image_metrics=["psnr", "ms_ssim"])
    metrics = {"ms_ssim": implementation_of(ms_ssim)(section, CPU)}
    torch.testing.assert_close(measured_pairs(metrics, pairs[1], pairs[1])["ms_ssim"], torch.ones(5))
    noisier = measured_pairs(metrics, *pairs)["ms_ssim"]
    assert noisier.lt(1).all() and noisier.diff().lt(0).all() and noisier.gt(0).all()
    side = metrics["ms_ssim"].min_side
    smallest = measured_pairs(metrics, *(images[:, :, :side] for images in pairs))
    assert torch.isfinite(smallest["ms_ssim"]).all()


def diagonal_set(mean_D: np.ndarray, deviation_D: np.ndarray) -> torch.Tensor:
    """2 D points whose mean and (unbiased) covariance diagonal are exactly these."""
    d = len(mean_D)
    offsets = np.diag(deviation_D) * np.sqrt((2 * d - 1) / 2)
    return torch.from_numpy(np.concatenate([mean_D + offsets, mean_D - offsets]))


GAUSSIAN = st.lists(
    st.tuples(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-3, 3), st.floats(0.1, 3)), min_size=2, max_size=5
)


@settings(max_examples=30, deadline=None)
@given(GAUSSIAN, st.booleans())
def test_frechet_of_diagonal_gaussians_has_its_closed_form(parameters, in_a_larger_space):
    mean, deviation, other_mean, other_deviation = np.array(parameters).T
    sets = [diagonal_set(mean, deviation), diagonal_set(other_mean, other_deviation)]
    if in_a_larger_space:
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(64, len(mean)))).Q.T
        sets = [points @ torch.from_numpy(turn) for points in sets]
    expected = ((mean - other_mean) ** 2 + (deviation - other_deviation) ** 2).sum()
    assert frechet_distance(*sets) == pytest.approx(expected, abs=1e-4)
    assert frechet_distance(*reversed(sets)) == pytest.approx(expected, abs=1e-4)


def test_frechet_of_a_set_with_itself_is_zero_and_needs_two_images():
    feature_ND = torch.from_numpy(np.random.default_rng(0).normal(size=(6, 20)))
    assert frechet_distance(feature_ND, feature_ND.flip(0)) == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(feature_ND[:1], feature_ND)


def test_efficientnet_features_are_what_its_classifier_sees(tmp_path):
    torch.manual_seed(0)
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    torch.save(network.state_dict(), tmp_path / "lite0.pth")
    features = load_feature_network("efficientnet-lite0", tmp_path / "lite0.pth", CPU)
    image_BCHW = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224), dtype=np.uint8))
    feature_BD = features(image_BCHW)
    assert feature_BD.shape == (3, 1280)
    with torch.inference_mode():
        torch.testing.assert_close(network._fc(feature_BD), network((image_BCHW.float() - 127) / 128))
    torch.testing.assert_close(features(image_BCHW[1:2])[0], feature_BD[1])
    with pytest.raises(ValueError, match="uint8"):
        features(image_BCHW.float())


def test_inception_takes_local_weights_and_gives_2048_features(tmp_path):
    torch.manual_seed(0)
    write_inception(tmp_path / "inception.pth")
    features = load_feature_network("inception-v3-fid", tmp_path / "inception.pth", CPU)
    feature_BD = features(torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert feature_BD.shape == (2, 2048)
    torch.testing.assert_close(feature_BD[0], feature_BD[1])


class Harmful:
    """A pickle that would run code when loaded."""

    def __reduce__(self):
        return (exec, ("raise AssertionError('code of a weights file ran')",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read .No such file"),
        ({"weight": torch.zeros(2)}, "does not fit the network"),
        (Harmful(), "names builtins.exec, which is not run"),
    ],
)
@pytest.mark.parametrize("kind", ["efficientnet-lite0", "inception-v3-fid"])
def test_wrong_frechet_weights_are_named(tmp_path, content, message, kind):
    if content is not None:
        torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(UserError, match=f"frechet_weights.*{message}"):
        load_feature_network(kind, tmp_path / "weights.pth", CPU)


def interval(values, samples=200, seed=0):
    return mean_interval(np.array(values, dtype=np.float64), samples, np.random.default_rng(seed))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=30))
def test_interval_lies_within_the_values_and_ignores_their_order(values):
    low, high, reason = interval(values)
    if np.ptp(values) == 0:
        assert (low, high) == (None, None) and "equal" in reason
        return
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert interval(values[::-1]) == (low, high, "")


def test_interval_of_an_accuracy_is_the_binomial_one():
    low, high, _ = interval([1] * 30 + [0] * 20, samples=20000)
    assert low == pytest.approx(binom.ppf(0.025, 50, 0.6) / 50, abs=0.02)
    assert high == pytest.approx(binom.ppf(0.975, 50, 0.6) / 50, abs=0.02)


def test_interval_does_not_depend_on_how_many_resamples_are_drawn_at_once(monkeypatch):
    values = list(range(10))
    whole = interval(values)
    monkeypatch.setattr(bootstrap, "RESAMPLED_VALUES", 70)
    assert interval(values) == whole


def test_interval_needs_items_and_spread():
    assert interval([3.0]) == (None, None, "no confidence interval: a single item")
    assert interval([1.0, 1.0]) == (None, None, "no confidence interval: all items are equal")
    for values in ([], [1.0, float("inf")]):
        with pytest.raises(ValueError, match="finite"):
            interval(values)


def test_semantic_scores_by_hand():
    entry_VD = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0]])
    feature_ND = torch.tensor([[2.0, 0.0], [0.0, -1.0]])
    scores = semantic_scores(feature_ND, entry_VD, entry_VD[torch.tensor([[0, 2], [1, 0]])], [1, 2])
    torch.testing.assert_close(scores[1][0], torch.tensor([100.0, 0.0]))
    torch.testing.assert_close(scores[2][0], torch.tensor([80.0, 0.0]))
    torch.testing.assert_close(scores[2][1], torch.tensor([0.8, 0.0]))  # the second image is like nothing: 0, not NaN


def measurement(values, **changes):
    items = [str(i) for i in range(len(values))]
    return Measurement({"method": "v2l", "global_tokens": 21}, "psnr", "paper", items, np.array(values), **changes)


def test_infinite_items_are_left_out_and_said_so():
    row = measurement([10.0, float("inf"), 20.0], note="remark").row(seed=0, samples=100)
    assert (row["value"], row["n"]) == (15.0, 2) and 10 <= row["ci_low"] < row["ci_high"] <= 20
    assert row["note"] == "remark; psnr: 1 of 3 items are infinite and left out"
    assert measurement([float("inf")]).row(seed=0, samples=100)["value"] is None
    note = measurement([10.0, float("nan"), float("inf")]).row(seed=0, samples=100)["note"]
    said = "psnr: 1 of 3 items are infinite and left out; psnr: 1 of 3 items are not a number and left out; "
    assert note.startswith(said)


def test_features_that_are_not_finite_make_no_distance():
    feature_ND = torch.rand(4, 3)
    broken_ND = feature_ND.index_fill(0, torch.tensor(0), torch.nan)
    for sets in ((feature_ND, broken_ND), (broken_ND, feature_ND)):
        with pytest.raises(UserError, match="the network gives features that are not finite"):
            frechet_distance(*sets)


def test_the_interval_depends_on_seed_and_row_alone():
    values = list(np.random.default_rng(0).normal(size=20))
    row = measurement(values).row(0, 100)
    assert row == measurement(values[::-1]).row(0, 100)
    assert row["ci_low"] != measurement(values).row(1, 100)["ci_low"]
