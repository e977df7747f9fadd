"""The training step against the published one, written plainly: same losses, one pass instead of two."""

import copy

import pytest
import torch
import torch.nn.functional as F

from benchmarks.published_training import PublishedTraining
from tests.test_train_tokenizer import SECTION, WIDTH, vgg  # noqa: F401
from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss
from v2l.models.v2l import V2LNetwork
from v2l.models.vision_tokenizer import Batch
from v2l.training.trainer import Trainer, learning_rate

GENERATOR = ("pixel", "perceptual", "quantizer", "adversarial")


@pytest.fixture
def pair(vgg):  # noqa: F811
    """`make(**changes)`: our trainer and the published one on copies of the same networks, and a batch for both.

    The rate is small: Adam turns rounding in tiny gradients into steps of that size.
    """

    def make(**changes):
        released = {"projector_init": "normal", "projector_learning_rate": 1.0, "learning_rate": 5e-5}
        config = TrainTokenizer.model_validate(SECTION | released | changes)
        torch.manual_seed(0)
        codebooks = torch.randn(30, WIDTH), F.normalize(torch.randn(20, WIDTH))
        tokenizer = V2LNetwork("toy", "v2l", config.network, 3, *codebooks)
        image_BCHW = torch.rand(4, 3, 16, 16) * 2 - 1
        tokenizer.match_moments(image_BCHW)
        discriminator = Discriminator(config.network)
        tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, WIDTH)).requires_grad_(False)
        clip_image_BCHW = torch.randn(4, 3, 8, 8)
        networks = copy.deepcopy(tokenizer), copy.deepcopy(discriminator)
        published = PublishedTraining(config, *networks, vgg, tower)
        ours = Trainer(config, tokenizer, discriminator, PerceptualLoss(vgg), steps=100)
        batch = Batch(image_BCHW, global_ids_BK=tokenizer.global_ids(F.normalize(tower(clip_image_BCHW), dim=1)))
        return ours, published, batch, clip_image_BCHW

    return make


def steps(ours, published, batch, clip_image_BCHW, count: int, rerun: str) -> list[tuple[dict, dict]]:
    """Losses of both, step by step, from step 20 on (the discriminator has started)."""
    pairs = []
    for step in range(20, 20 + count):
        reference = published.step(
            learning_rate(ours.config, step, ours.steps), batch.image_BCHW, clip_image_BCHW, rerun
        )
        pairs.append((ours.step(step, batch)[0], reference))
    return pairs


def assert_alike(pairs: list[tuple[dict, dict]]) -> None:
    """Losses within 1e-4; the adaptive weight, a ratio of small gradients in which rounding grows, within 1 %."""
    for found, wanted in pairs:
        for name in (*GENERATOR, "discriminator"):
            assert found[name] == pytest.approx(wanted[name], abs=1e-4, rel=1e-4), name
        assert found["adaptive_weight"] == pytest.approx(wanted["adaptive_weight"], rel=1e-2)


def test_losses_equal_those_of_a_plain_step_with_one_pass(pair):
    assert_alike(steps(*pair(), count=3, rerun="none"))


def test_the_first_step_has_the_published_generator_losses_and_another_discriminator_loss(pair):
    found, wanted = steps(*pair(), count=1, rerun="whole")[0]
    for name in (*GENERATOR, "adaptive_weight"):
        assert found[name] == pytest.approx(wanted[name], abs=1e-5, rel=1e-5), name
    assert found["discriminator"] != pytest.approx(wanted["discriminator"], abs=1e-6)


def test_the_setting_rerun_is_the_published_step(pair):
    assert_alike(steps(*pair(discriminator_step="rerun"), count=3, rerun="whole"))


def test_compiled_networks_train_alike(pair, monkeypatch):
    """Graphs are captured and differentiated as on a GPU; only generating code, which takes minutes, is left out."""
    compile_with = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part, **how: compile_with(part, backend="aot_eager", **how))
    plain, _, batch, _ = pair()
    compiled = pair(compile=True)[0]
    for step in range(20, 22):
        wanted, found = (
            {name: float(value) for name, value in trainer.step(step, batch)[0].items()}
            for trainer in (plain, compiled)
        )
        assert found == pytest.approx(wanted, abs=1e-4, rel=1e-2)
