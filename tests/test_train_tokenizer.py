"""Stage train_tokenizer on a dozen tiny pictures: outputs, exact resuming, data order, gradients, bad input."""

import copy
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from v2l import train_tokenizer
from v2l.configuration.slices import StageConfig
from v2l.configuration.tokenizer_entries import TOKENIZER_METHODS
from v2l.configuration.tokenizer_training import Network, TrainTokenizer
from v2l.data.manifest import SCHEMA
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.provenance import hash_path
from v2l.io.records import read_beside
from v2l.io.storage import read_tensors, write_parquet, write_tensors
from v2l.models.discriminator import Discriminator
from v2l.models.losses import PerceptualLoss, adaptive_weight
from v2l.models.lpips_network import empty_lpips
from v2l.models.tokenizer_file import load_tokenizer, tokenizer_description
from v2l.models.v2l import V2LNetwork
from v2l.models.vision_tokenizer import Batch
from v2l.training.batch_order import BatchOrder
from v2l.training.trainer import Trainer, learning_rate
from v2l.training.window import Window

IMAGES, WIDTH = 12, 8
SECTION = {
    "dataset": "toy",
    "tokenizers": ["v2l"],
    "network": {
        "image_size": 16,
        "resize_via": None,
        "channels": 8,
        "channel_multipliers": [1, 1, 2],
        "residual_blocks": 1,
        "latent_channels": 8,
        "cross_attention_heads": 2,
        "cross_attention_head_channels": 4,
        "learned_codebook_size": 24,
        "learned_codebook_channels": 6,
        "discriminator_channels": 8,
    },
    "loss": {"discriminator_start": 1, "perceptual_weights": "vgg.safetensors"},
    "max_steps": 7,
    "global_batch_size": 5,
    "match_every": 3,
    "global_tokens": 3,
    "checkpoint_every": 2,
    "log_every": 3,
}


@pytest.fixture(scope="session")
def vgg():
    torch.manual_seed(0)
    network = empty_lpips("vgg")
    for head in network.lins:
        torch.nn.init.uniform_(head.model[-1].weight, 0, 0.1)
    return network


@pytest.fixture
def toy(tmp_path, monkeypatch, vgg):
    """Inputs of the stage, and `go(**changes of SECTION)` that runs it and returns its outputs."""
    monkeypatch.setattr(train_tokenizer, "load_lpips", lambda net, weights: vgg)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    names = [f"{index:02d}.png" for index in range(IMAGES + 2)]
    for name in names:
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / name)
    columns = [
        names,
        ["train"] * IMAGES + ["val"] * 2,
        [0] * len(names),
        ["toy"] * len(names),
        *[[[]] * len(names)] * 2,
    ]
    sides = [[16] * len(names)] * 2
    arrays = [pa.array(column, field.type) for column, field in zip(columns + sides, SCHEMA, strict=True)]
    table = pa.table(arrays, SCHEMA)
    metadata = {"dataset": {"name": "toy", "root": str(tmp_path), "fit": "crop", "classes": ["toy"]}}
    inputs = {name: tmp_path / f"{name}.safetensors" for name in ("features", "codebook")}
    inputs["manifest"] = tmp_path / "toy.parquet"
    write_parquet(inputs["manifest"], table, {}, metadata)
    generator = torch.Generator().manual_seed(0)
    vectors = {key: torch.randn(size, WIDTH, generator=generator) for key, size in (("a", 14), ("b", 30), ("c", 20))}
    write_tensors(inputs["features"], {"feature_ND": F.normalize(vectors["a"])}, {})
    codebook = {"local_VD": vectors["b"], "global_VD": F.normalize(vectors["c"]), "global_entries_V": torch.arange(20)}
    codebook |= {"subword_global_VD": vectors["b"][3:9].clone(), "subword_global_entries_V": torch.arange(3, 9)}
    write_tensors(inputs["codebook"], codebook, {})
    inputs["vocabulary"] = tmp_path / "vocabulary.parquet"
    words = pa.table({"text": [f" word {number}" for number in range(60)]})
    write_parquet(inputs["vocabulary"], words, {}, {"vocabulary": {"llm": "toy", "subwords": 30}})

    def go(method: str = "v2l", entry: dict | None = None, **changes) -> dict[str, Path]:
        section = TrainTokenizer.model_validate(SECTION | changes).model_dump(mode="json")
        job = {"tokenizer": "toy-tokenizer", "work": str(tmp_path / "work"), "logs": str(tmp_path / "logs")}
        tokenizer = TOKENIZER_METHODS[method].model_validate({"method": method} | (entry or {}))
        tokenizers = {"toy-tokenizer": tokenizer.model_dump(mode="json")}
        data = {"seed": 0, "train_tokenizer": section, "tokenizers": tokenizers, "job": job}
        outputs = {"weights": tmp_path / "out.safetensors", "metrics": tmp_path / "out.metrics.jsonl"}
        outputs["words"] = tmp_path / "out.words.parquet"
        train_tokenizer.run(StageConfig("train_tokenizer", data), Inputs(inputs), outputs)
        return outputs

    go.inputs, go.folder = inputs, tmp_path
    return go


def lines_of(outputs: dict[str, Path]) -> list[dict]:
    return [json.loads(line) for line in outputs["metrics"].read_text().splitlines()]


@pytest.mark.parametrize("method", ["v2l", "v2l-local", "v2l-subword", "vqgan"])
def test_training_writes_weights_metrics_and_provenance(toy, method):
    outputs = toy(method)
    lines = lines_of(outputs)
    assert [line["step"] for line in lines] == [0, 1, 3, 5, 6] and [line["epoch"] for line in lines] == [0, 0, 1, 2, 3]
    losses = {"pixel", "perceptual", "quantizer", "learning_rate", "codes_used", "codes_share", "codes_perplexity"}
    assert losses <= set(lines[0]) and not {"discriminator", "adaptive_weight"} & set(lines[0])
    assert {"discriminator", "adversarial", "adaptive_weight"} <= set(lines[-1])
    assert all(line["codes_used"] > 1 for line in lines)
    assert lines[-1]["pixel"] < lines[0]["pixel"]
    metadata = tokenizer_description(outputs["weights"])
    has_global = method in ("v2l", "v2l-subword")
    assert (metadata["name"], metadata["method"], metadata["global_tokens"]) == (
        "toy-tokenizer",
        method,
        3 * has_global,
    )
    assert (metadata["codebooks"]["global"] is None) == (not has_global)
    record = read_tensors(outputs["weights"])[1]["v2l"]
    assert set(record["inputs"]) == {"manifest", "features", "codebook", "vocabulary"} and record["config"]["seed"] == 0
    assert read_beside(toy.folder / "out.metrics.jsonl") == record | {"content_sha256": hash_path(outputs["metrics"])}
    assert not list((toy.folder / "work").iterdir())


def test_training_leaves_frozen_codebooks_as_they_were(toy):
    codebook = read_tensors(toy.inputs["codebook"])[0]
    tokenizer = load_tokenizer(toy()["weights"])
    assert torch.equal(tokenizer.tok_embeddings.weight, codebook["local_VD"])
    assert torch.equal(tokenizer.tok_embeddings_global.weight, codebook["global_VD"])


@pytest.mark.parametrize(("method", "survivor"), [("v2l", 4), ("vqgan", 4), ("v2l", 2)])
def test_interrupted_and_resumed_training_equals_uninterrupted(toy, interrupt, method, survivor):
    expected_lines = (outputs := toy(method))["metrics"].read_bytes()
    expected = read_tensors(outputs["weights"])[0]
    outputs["weights"].unlink()
    taken = interrupt(Trainer)
    with pytest.raises(InterruptedError):
        toy(method)
    assert not outputs["weights"].exists()
    checkpoints = sorted((toy.folder / "work").glob("*/step-*.pt"))
    assert len(checkpoints) == 2
    if survivor == 2:
        checkpoints[-1].write_bytes(checkpoints[-1].read_bytes()[:2000])
    toy(method)
    assert taken == [0, 1, 2, 3, 4, 5, *range(survivor, 7)]
    assert outputs["metrics"].read_bytes() == expected_lines
    found = read_tensors(outputs["weights"])[0]
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


def test_a_changed_configuration_does_not_continue_an_old_run(toy, interrupt):
    interrupt(Trainer)
    with pytest.raises(InterruptedError):
        toy()
    assert list((toy.folder / "work").glob("*/step-*.pt"))
    outputs = toy(learning_rate=2e-4)
    assert lines_of(outputs)[0]["step"] == 0 and not list((toy.folder / "work").iterdir()), "the old one is swept"


def test_released_settings_leave_the_projector_as_drawn(toy):
    """With `normal` and no training the projector is N(0, d^-1/2), and the cross-attention has no residual."""
    network = SECTION["network"] | {"cross_attention_residual": False}
    steps = {"max_steps": 1, "network": network}  # the warm-up's first step has rate 0
    drawn = load_tokenizer(toy(projector_init="normal", **steps)["weights"])
    matched = load_tokenizer(toy(projector_init="match-moments", **steps)["weights"])
    assert drawn.codebook_projection.weight.std().item() == pytest.approx(WIDTH**-0.5, rel=0.3)
    assert not torch.equal(drawn.codebook_projection.weight, matched.codebook_projection.weight)
    assert drawn.decoder.mid.cross_attn_1.residual is False


def test_bfloat16_trains_and_stores_float32(toy):
    tensors = read_tensors(toy(precision="bfloat16")["weights"])[0]
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}


def test_without_perceptual_loss_no_weights_are_read(toy, monkeypatch):
    monkeypatch.setattr(train_tokenizer, "load_lpips", lambda net, weights: pytest.fail("weights were read"))
    lines = lines_of(toy(loss=SECTION["loss"] | {"perceptual": 0.0}))
    assert all("perceptual" not in line for line in lines) and lines[-1]["pixel"] < lines[0]["pixel"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"splits": ["train", "test"]}, ["train_tokenizer.splits", "'test'", "'train', 'val'"]),
        ({"global_batch_size": 13}, ["train_tokenizer.global_batch_size is 13", "12"]),
        ({"learning_rate": 1e30, "warmup_share": 0.0}, ["diverged at step", "pixel", "train_tokenizer.learning_rate"]),
    ],
)
def test_settings_that_cannot_work_are_named(toy, changes, words):
    with pytest.raises(UserError) as caught:
        toy(**changes)
    assert all(word in str(caught.value) for word in words)
    assert not (toy.folder / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("rows", "width", "words"),
    [
        (13, WIDTH, ["13 rows", "14 images", "embed_images"]),
        (14, WIDTH + 1, ["differ in width", "features", "`encoder`"]),
    ],
)
def test_features_that_do_not_fit_are_named(toy, rows, width, words):
    write_tensors(toy.inputs["features"], {"feature_ND": torch.ones(rows, width)}, {})
    with pytest.raises(UserError) as caught:
        toy()
    assert all(word in str(caught.value) for word in words)


def test_an_image_that_vanished_is_named(toy):
    (toy.folder / "03.png").unlink()
    with pytest.raises(UserError, match="03.png"):
        toy()


def test_images_that_are_not_kept_are_decoded_by_the_loader(toy, monkeypatch):
    expected = toy()["metrics"].read_bytes()
    monkeypatch.setattr("v2l.training.training_images.CACHE_BYTES", 0)
    assert toy()["metrics"].read_bytes() == expected


@given(st.integers(4, 30), st.integers(1, 4), st.integers(0, 20))
def test_batch_order_is_a_function_of_seed_and_step(images, batch_size, first_step):
    steps = 20
    whole = list(BatchOrder(7, images, batch_size, 0, steps))
    assert list(BatchOrder(7, images, batch_size, first_step, steps)) == whole[first_step:]
    epoch = [index for batch in whole[: images // batch_size] for index in batch]
    assert len(set(epoch)) == len(epoch) and all(0 <= index < images for index in epoch)
    ranks = [list(BatchOrder(7, images, batch_size, 0, steps, rank, 2)) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(batch) for batch in whole]


def test_epochs_are_shuffled_anew():
    batches = list(BatchOrder(0, 50, 50, 0, 2))
    assert batches[0] != batches[1] and batches[0] != list(BatchOrder(1, 50, 50, 0, 1))[0]


def test_learning_rate_warms_up_linearly_and_falls_by_half_a_cosine():
    config = TrainTokenizer.model_validate(SECTION | {"learning_rate": 1.0, "warmup_share": 0.1})
    rates = [learning_rate(config, step, 100) for step in (0, 5, 10, 55, 100)]
    assert rates == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_window_counts_codes_and_averages():
    window = Window(4)
    window.add({"a": 1.0})
    window.count(torch.tensor([2, 0, 0, 0]))
    window.add({"a": 3.0, "b": 5.0})
    window.count(torch.tensor([0, 2, 0, 0]))
    line = {"a": 2.0, "b": 5.0, "codes_used": 2, "codes_share": 0.5, "codes_perplexity": pytest.approx(2.0)}
    assert window.close() == line
    window.add({"a": 7.0})
    window.count(torch.tensor([0, 0, 0, 2]))
    assert window.close() == {"a": 7.0, "codes_used": 1, "codes_share": 0.25, "codes_perplexity": 1.0}


def test_the_step_has_the_gradient_of_the_weighted_sum_of_all_losses(vgg):
    """The short way round (one backward pass, adaptive weight from the last convolution) against plain autograd."""
    config = TrainTokenizer.model_validate(SECTION | {"projector_init": "normal"})
    torch.manual_seed(0)
    codebooks = torch.randn(30, WIDTH), F.normalize(torch.randn(20, WIDTH))
    tokenizer = V2LNetwork("toy", "v2l", Network.model_validate(SECTION["network"]), 3, *codebooks)
    tokenizer.match_moments(image_BCHW := torch.rand(4, 3, 16, 16) * 2 - 1)
    trainer = Trainer(config, tokenizer, Discriminator(config.network), PerceptualLoss(vgg), steps=10)
    batch = Batch(image_BCHW, global_ids_BK=tokenizer.global_ids(F.normalize(torch.randn(4, WIDTH))))

    reference, judge = copy.deepcopy(tokenizer), copy.deepcopy(trainer.adversary.network)
    output, losses, _ = reference(batch, config.loss)
    quantizer = losses["quantizer"]
    content = (output - image_BCHW).abs().mean() + vgg(output, image_BCHW).mean()
    adversarial = -judge(output).mean()
    last = reference.decoder.conv_out.weight
    norms = [torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (content, adversarial)]
    weight = norms[0].norm() / (norms[1].norm() + 1e-4)
    torch.testing.assert_close(adaptive_weight(*norms), weight)
    (content + quantizer + 0.1 * weight * adversarial).backward()

    losses, _ = trainer.step(5, batch)
    assert losses["adaptive_weight"] == pytest.approx(weight.item(), rel=1e-3)
    wanted = {name: parameter.grad for name, parameter in reference.named_parameters() if parameter.grad is not None}
    found = {name: parameter.grad for name, parameter in tokenizer.named_parameters() if parameter.grad is not None}
    assert wanted.keys() == found.keys() and len(wanted) > 40
    for name in wanted:
        tolerance = 1e-4 * wanted[name].abs().max().item() + 1e-6
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-2, atol=tolerance)


def test_matching_forgets_the_optimizer_state_of_the_projector(vgg):
    config = TrainTokenizer.model_validate(SECTION | {"match_every": 2, "match_until": 1.0})
    torch.manual_seed(0)
    tokenizer = V2LNetwork("toy", "v2l-local", config.network, 3, torch.randn(30, WIDTH))
    trainer = Trainer(config, tokenizer, Discriminator(config.network), PerceptualLoss(vgg), steps=10)
    for step in range(3):
        trainer.step(step, Batch(torch.rand(4, 3, 16, 16) * 2 - 1, torch.zeros(4, WIDTH), torch.zeros(4, 16)))
    state = trainer.generator_optimizer.state
    assert state[tokenizer.codebook_projection.weight]["step"] == 1 and state[tokenizer.quant_conv.weight]["step"] == 3


def test_the_projector_is_matched_from_the_first_step_until_its_share_of_them(vgg):
    def matched(**changes) -> list[int]:
        config = TrainTokenizer.model_validate(SECTION | changes)
        tokenizer = V2LNetwork("toy", "v2l-local", config.network, 3, torch.randn(30, WIDTH))
        trainer = Trainer(config, tokenizer, None, None, steps=100)
        return [step for step in range(100) if trainer.is_matched(step)]

    assert matched(match_every=20, match_until=0.5) == [0, 20, 40]
    assert matched(match_every=20, match_until=0.0) == [0]
    assert matched(projector_init="normal") == []


def test_the_projector_and_the_discriminator_have_rates_of_their_own(vgg):
    changes = {"projector_learning_rate": 0.1, "discriminator_learning_rate": 0.5, "learning_rate": 1e-3}
    config = TrainTokenizer.model_validate(SECTION | changes | {"warmup_share": 0.0})
    tokenizer = V2LNetwork("toy", "v2l-local", config.network, 3, torch.randn(30, WIDTH))
    trainer = Trainer(config, tokenizer, Discriminator(config.network), PerceptualLoss(vgg), steps=10)
    trainer.step(0, Batch(torch.rand(4, 3, 16, 16) * 2 - 1, torch.zeros(4, WIDTH), torch.zeros(4, 16)))
    others, projector = trainer.generator_optimizer.param_groups
    assert (others["lr"], projector["lr"]) == (1e-3, pytest.approx(1e-4))
    assert {id(value) for value in projector["params"]} == {id(v) for v in tokenizer.codebook_projection.parameters()}
    assert trainer.adversary.optimizer.param_groups[0]["lr"] == 5e-4


def test_the_average_of_the_weights_is_kept(toy):
    """With a decay of 0.5 the kept weights lie between those of two steps."""
    kept, last = (load_tokenizer(toy(average_decay=decay, learning_rate=1e-3)["weights"]) for decay in (0.5, 0.0))
    assert not torch.equal(kept.decoder.conv_out.weight, last.decoder.conv_out.weight)
    torch.testing.assert_close(kept.decoder.conv_out.weight, last.decoder.conv_out.weight, atol=5e-3, rtol=0)
    assert torch.equal(kept.tok_embeddings.weight, last.tok_embeddings.weight)


def test_hidden_codes_reach_the_decoder_as_zeros(vgg):
    """The decoder's input has zeros exactly where the batch's numbers are below the share."""
    config = TrainTokenizer.model_validate(SECTION | {"loss": SECTION["loss"] | {"hidden_codes": 0.4}})
    tokenizer = V2LNetwork("toy", "v2l-local", config.network, 3, torch.randn(30, WIDTH))
    seen = []
    tokenizer.post_quant_conv.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    noise_BL = torch.rand(2, 16)
    tokenizer(Batch(torch.rand(2, 3, 16, 16), torch.zeros(2, WIDTH), noise_BL), config.loss)
    assert torch.equal((seen[0] == 0).all(1).flatten(1), noise_BL < 0.4)
