"""LQAE against an independent plain computation, the language model inside it, and settings that do not fit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, BertConfig, BertModel, RobertaForMaskedLM

from tests.test_train_tokenizer import SECTION, lines_of, toy, vgg  # noqa: F401 fixtures
from tests.tiny import write_roberta
from v2l.configuration.tokenizer_entries import LQAEEntry
from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.errors import UserError
from v2l.io.storage import read_tensors
from v2l.models.lqae import NO_HEAD, LQAETokenizer
from v2l.models.masked_lm import FrozenMaskedLM
from v2l.models.tokenizer_file import load_tokenizer, tokenizer_description
from v2l.models.vision_tokenizer import Batch
from v2l.models.vit import ViTDecoder, ViTEncoder
from v2l.training.trainer import Trainer

LOSS = {"pixel": 0.25, "pixel_norm": "l2", "perceptual": 0, "adversarial": 0, "commitment": 0.005, "codebook": 1.0}
LOSS |= {"perceptual_weights": "none"}
SIZES = {"patch_size": 4, "layers": 2, "heads": 2, "expansion": 2}
SETTINGS = TrainTokenizer.model_validate(SECTION | {"loss": LOSS | {"masked_lm": 0.5}})


@pytest.fixture(scope="module")
def roberta(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("roberta")
    write_roberta(folder)
    return folder


@pytest.fixture(scope="module")
def headless(roberta, tmp_path_factory) -> Path:
    """A BERT without masked-LM head, as sentence encoders are."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("bert")
    AutoTokenizer.from_pretrained(roberta, trust_remote_code=False).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(vocab_size=320, max_position_embeddings=40, initializer_range=0.3, **sizes)).save_pretrained(
        folder
    )
    return folder


def entry(folder: Path, **changes) -> LQAEEntry:
    return LQAEEntry.model_validate({"method": "lqae", "language_model": str(folder)} | SIZES | changes)


def untrained(folder: Path, **changes) -> LQAETokenizer:
    torch.manual_seed(1)
    return LQAETokenizer.create("lqae", entry(folder, **changes), SETTINGS, {})


def a_batch(images: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(2)
    image_BCHW = torch.rand(images, 3, 16, 16, generator=generator) * 2 - 1
    return Batch(image_BCHW, torch.zeros(images, 1), torch.rand(images, 16, generator=generator))


def plain_norm(x, weights, name):
    centred = x - x.mean(-1, keepdim=True)
    return (
        centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weights[f"{name}.weight"]
        + weights[f"{name}.bias"]
    )


def plain_blocks(x, weights, heads=2):
    """The blocks written out: attention head by head, the depthwise convolution as a sum over nine shifts."""
    for layer in range(2):
        own = {k.removeprefix(f"blocks.{layer}."): v for k, v in weights.items() if k.startswith(f"blocks.{layer}.")}
        normed = plain_norm(x, own, "norm_before")
        query, key, value = (normed @ part.T for part in own["attention.in_proj_weight"].chunk(3))
        width = x.shape[-1] // heads
        mixed = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = torch.einsum("bqd,bkd->bqk", query[..., part], key[..., part]) / width**0.5
            mixed.append(scores.exp() / scores.exp().sum(-1, keepdim=True) @ value[..., part])
        x = x + plain_norm(torch.cat(mixed, -1) @ own["attention.out_proj.weight"].T, own, "norm_after")
        normed = plain_norm(x, own, "feed_forward.norm_in")
        gate = normed @ own["feed_forward.gate.weight"].T
        gate = 0.5 * gate * (1 + torch.tanh((2 / np.pi) ** 0.5 * (gate + 0.044715 * gate**3)))
        hidden = (gate * (normed @ own["feed_forward.value.weight"].T)).unflatten(1, (4, 4))
        framed = F.pad(hidden, (0, 0, 1, 1, 1, 1))
        kernel = own["feed_forward.mix.weight"]
        hidden = sum(kernel[:, 0, i, j] * framed[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3))
        hidden = plain_norm(hidden.flatten(1, 2), own, "feed_forward.norm_hidden")
        x = x + hidden @ own["feed_forward.out.weight"].T
    return x


def plain_forward(tokenizer, folder, batch, share=0.5):
    """(image, quantizer loss, masked-LM loss, ids) by the equations, with the folder's own language model."""
    language_model = RobertaForMaskedLM.from_pretrained(folder).eval()
    table = language_model.roberta.embeddings.word_embeddings.weight.detach()
    encoder, decoder = dict(tokenizer.encoder.named_parameters()), dict(tokenizer.decoder.named_parameters())
    patches = (batch.image_BCHW / 2 + 0.5).unfold(2, 4, 4).unfold(3, 4, 4)  # B C h w 4 4
    x = torch.einsum("bchwij,dcij->bhwd", patches, encoder["patches.weight"]).flatten(1, 2)
    x = plain_blocks(x + encoder["position_LD"], encoder)
    similarity = F.normalize(x, dim=-1) @ F.normalize(table, dim=-1).T  # nearest unit vector: largest cosine
    ids = similarity.argmax(-1)
    code = table[ids]
    quantizer = sum(0.005 * (code - x).square().mean() + (code - x.detach()).square().mean() for _ in range(2))
    is_masked = batch.noise_BL < share
    mask_vector = table[AutoTokenizer.from_pretrained(folder, trust_remote_code=False).mask_token_id]
    seen = torch.where(is_masked[..., None], mask_vector, x + (code - x).detach())
    positions = torch.stack([(row != 1).cumsum(0) * (row != 1) + 1 for row in ids])  # id 1 is padding
    output = language_model(inputs_embeds=seen, position_ids=positions, output_hidden_states=True)
    picked = output.logits.log_softmax(-1).gather(2, ids[..., None])[..., 0]
    masked = torch.stack([-row[mask].mean() for row, mask in zip(picked, is_masked, strict=True)]).mean()
    y = plain_blocks(output.hidden_states[-1] + decoder["position_LD"], decoder).unflatten(1, (4, 4))
    image = torch.einsum("bhwd,dcij->bchiwj", y, decoder["patches.weight"]).flatten(4, 5).flatten(2, 3)
    return (image + decoder["patches.bias"][:, None, None]) * 2 - 1, quantizer, masked, ids


def test_forward_and_gradients_equal_the_equations(roberta):
    tokenizer, batch = untrained(roberta).train(), a_batch()
    image, losses, ids = tokenizer(batch, SETTINGS.loss)
    wanted, quantizer, masked, wanted_ids = plain_forward(tokenizer, roberta, batch)
    assert torch.equal(ids, wanted_ids) and ids.unique().numel() > 1
    torch.testing.assert_close(image, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(losses["quantizer"], quantizer, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["masked_lm"], masked, rtol=1e-4, atol=1e-5)
    trained = {name: part for name, part in tokenizer.named_parameters() if part.requires_grad}
    assert not any(name.startswith("language_model") for name in trained)
    total = F.mse_loss(wanted / 2, batch.image_BCHW / 2) + quantizer + 0.5 * masked
    expected = torch.autograd.grad(total, list(trained.values()))
    trainer = Trainer(SETTINGS, tokenizer, None, None, steps=10)
    trainer.step(5, batch)
    for (name, part), gradient in zip(trained.items(), expected, strict=True):
        scale = gradient.abs().max().item()
        torch.testing.assert_close(part.grad, gradient, rtol=1e-3, atol=1e-4 * scale + 1e-8, msg=name)


def test_the_codebook_term_has_no_gradient_and_the_commitment_term_counts_twice(roberta):
    tokenizer, batch = untrained(roberta), a_batch()
    gradients = []
    for codebook in (0.0, 1.0):
        loss = SETTINGS.loss.model_copy(update={"codebook": codebook})
        quantizer = tokenizer(batch, loss).losses["quantizer"]
        gradients.append(torch.autograd.grad(quantizer, tokenizer.encoder.position_LD)[0])
    assert torch.equal(*gradients)
    vector_BLD = tokenizer.vectors(batch.image_BCHW)
    code_BLD = tokenizer.codes(tokenizer.nearest(vector_BLD))
    once = 0.005 * F.mse_loss(vector_BLD, code_BLD)
    torch.testing.assert_close(gradients[0], 2 * torch.autograd.grad(once, tokenizer.encoder.position_LD)[0])


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_words_are_masked_by_their_own_draw(roberta, monkeypatch, share):
    tokenizer, batch, seen = untrained(roberta, mask_share=share), a_batch(40), []
    original = FrozenMaskedLM.forward

    def watched(self, vector_BLD, *arguments):
        seen.append(vector_BLD)
        return original(self, vector_BLD, *arguments)

    monkeypatch.setattr(FrozenMaskedLM, "forward", watched)
    _, losses, ids_BL = tokenizer(batch, SETTINGS.loss)
    mask_D = tokenizer.language_model.embedding_VD[tokenizer.language_model.mask_id]
    is_masked_BL = (seen[0] == mask_D).all(2)
    assert torch.equal(is_masked_BL, batch.noise_BL < share)
    assert abs(is_masked_BL.float().mean() - share) < 0.08
    assert losses["masked_lm"].isfinite() and (losses["masked_lm"] > 0) == (share > 0)
    tokenizer.decode(ids_BL, None)
    assert torch.equal(seen[1], tokenizer.codes(ids_BL))  # nothing is masked in evaluation


def test_encoding_and_decoding_are_the_training_pass_without_masks(roberta):
    tokenizer, batch = untrained(roberta, mask_share=0.0).eval(), a_batch()
    with torch.no_grad():
        image_BCHW, _, ids_BL = tokenizer(batch, SETTINGS.loss)
        codes = tokenizer.encode(batch.image_BCHW)
        assert codes.global_BK is None and torch.equal(codes.local_BL, ids_BL)
        torch.testing.assert_close(tokenizer.decode(*codes), image_BCHW, rtol=1e-4, atol=1e-4)


def test_the_output_norm_gives_vectors_the_embeddings_moments_and_uses_more_words(roberta):
    bare, normed = untrained(roberta), untrained(roberta, output_norm="batch")
    image_BCHW = a_batch(40).image_BCHW
    assert {name for name in normed.state_dict() if name not in bare.state_dict()} == {
        f"output_norm.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    with torch.no_grad():
        vector_ND, table = normed.train().vectors(image_BCHW).flatten(0, 1), normed.language_model.embedding_VD
        torch.testing.assert_close(vector_ND.mean(0), table.mean(0), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(vector_ND.std(0), table.std(0), rtol=0.02, atol=1e-3)
        for _ in range(60):
            normed.vectors(image_BCHW)
        alone = normed.eval().vectors(image_BCHW[:1])  # evaluation does not depend on the batch
        torch.testing.assert_close(alone, normed.vectors(image_BCHW)[:1], rtol=1e-4, atol=1e-5)
        used = [tokenizer.encode(image_BCHW).local_BL.unique().numel() for tokenizer in (bare, normed)]
    assert used[1] > used[0]


def test_the_language_model_stays_in_evaluation_mode(roberta):
    tokenizer = untrained(roberta).train()
    assert tokenizer.encoder.training and not any(part.training for part in tokenizer.language_model.modules())
    batch = a_batch()
    first, second = (tokenizer(batch, SETTINGS.loss).image_BCHW for _ in range(2))
    assert torch.equal(first, second)


def test_the_language_model_reads_words_as_it_does_ids(roberta):
    """Also where an id is that of padding, which RoBERTa gives no position."""
    language_model = FrozenMaskedLM.load(roberta)
    ids_BL = torch.randint(5, 320, (2, 16), generator=torch.Generator().manual_seed(0))
    ids_BL[0, 3] = 1
    hidden_BLD, logits_BLV = language_model(F.embedding(ids_BL, language_model.embedding_VD), ids_BL, True)
    plain = RobertaForMaskedLM.from_pretrained(roberta).eval()
    found = plain(input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL))
    torch.testing.assert_close(logits_BLV, found.logits)
    assert torch.equal(language_model(F.embedding(ids_BL, language_model.embedding_VD), ids_BL)[0], hidden_BLD)


@pytest.mark.parametrize("kind", ["roberta", "headless"])
def test_a_weights_file_needs_no_folder(kind, request, tmp_path):
    tokenizer, batch = untrained(request.getfixturevalue(kind)), a_batch()
    tokenizer.eval().requires_grad_(False).save(tmp_path / "lqae.safetensors", {})
    metadata = tokenizer_description(tmp_path / "lqae.safetensors")
    metadata["build"]["entry"]["language_model"] = "gone"
    loaded = load_tokenizer(tmp_path / "lqae.safetensors")
    assert json.loads(json.dumps(loaded.description)) == json.loads(json.dumps(tokenizer.description))
    rebuilt = LQAETokenizer.rebuild(metadata, {})
    rebuilt.load_state_dict(read_tensors(tmp_path / "lqae.safetensors")[0])
    with torch.no_grad():
        codes = tokenizer.encode(batch.image_BCHW)
        for other in (loaded, rebuilt.eval().requires_grad_(False)):
            assert torch.equal(other.encode(batch.image_BCHW).local_BL, codes.local_BL)
            assert torch.equal(other.decode(*codes), tokenizer.decode(*codes))
    tensors = read_tensors(tmp_path / "lqae.safetensors")[0]
    assert not any("lm_head.decoder" in key or "pooler" in key for key in tensors)  # tied, or of no use


def test_without_head_there_is_no_masked_lm_loss_and_the_note_says_so(headless, roberta):
    tokenizer = untrained(headless)
    assert set(tokenizer(a_batch(), SETTINGS.loss).losses) == {"quantizer"}
    assert tokenizer.note == NO_HEAD == tokenizer.description["note"] and untrained(roberta).note == ""
    weightless = SETTINGS.loss.model_copy(update={"masked_lm": 0.0})
    assert set(untrained(roberta)(a_batch(), weightless).losses) == {"quantizer"}


def test_words_are_the_texts_of_the_language_models_ids(roberta):
    texts, entries = LQAETokenizer.words(entry(roberta), {}, None)
    assert len(texts) == len(entries) == 320 and set(entries) == {None}
    assert texts[:5] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] and " cat" in texts and "house" in texts


@pytest.mark.parametrize("kind", ["roberta", "headless"])
def test_the_stage_trains_it_and_resumes_exactly(toy, request, kind, interrupt):  # noqa: F811
    made = {"language_model": str(request.getfixturevalue(kind))} | SIZES
    changes = {"loss": LOSS, "augmentation": "random-resized-crop"}
    outputs = toy("lqae", made, **changes)
    expected, lines = read_tensors(outputs["weights"])[0], lines_of(outputs)
    assert lines[-1]["pixel"] < lines[0]["pixel"] and ("masked_lm" in lines[0]) == (kind == "roberta")
    assert "perceptual" not in lines[-1] and "discriminator" not in lines[-1]
    frozen = FrozenMaskedLM.load(Path(made["language_model"])).embedding_VD
    key = next(key for key in expected if key.endswith("word_embeddings.weight"))
    assert torch.equal(expected[key], frozen)
    interrupt(Trainer)
    with pytest.raises(InterruptedError):
        toy("lqae", made, **changes)
    found = read_tensors(toy("lqae", made, **changes)["weights"])[0]
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)
    assert lines_of(outputs) == lines


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"patch_size": 5}, ["tokenizers.lqae.patch_size` is 5", "16 pixels", "network.image_size"]),
        ({"heads": 3}, ["tokenizers.lqae.heads` is 3", "16 wide"]),
        ({"patch_size": 2}, ["64 words", "reads 38", "patch_size"]),
        ({"language_model": "nowhere"}, ["language_model", "nowhere is not a folder", "fetch_assets"]),
    ],
)
def test_settings_that_do_not_fit_are_named(roberta, changes, words):
    with pytest.raises(UserError) as caught:
        untrained(roberta, **changes)
    assert all(word in str(caught.value) for word in words)


def test_a_damaged_language_model_is_named(roberta, tmp_path):
    for file in roberta.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes((roberta / "model.safetensors").read_bytes()[:200])
    with pytest.raises(UserError, match="cannot be loaded"):
        untrained(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="cannot be loaded|no mask token"):
        untrained(tmp_path)


def test_a_language_model_that_is_used_in_part_is_refused(roberta, tmp_path):
    for file in roberta.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((roberta / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 0}))
    with pytest.raises(UserError, match="config.json does not use weights .*encoder.layer.0"):
        untrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n")
    with pytest.raises(UserError, match="model.safetensors is a Git LFS pointer.*git lfs pull"):
        untrained(tmp_path)


def test_the_papers_sizes():
    """256 px in patches of 16: 16 x 16 words of RoBERTa-base, ViTs of 12 blocks, 12 heads and width 768."""
    made = LQAEEntry(method="lqae", language_model="models/roberta-base")
    assert (made.patch_size, made.layers, made.heads, made.expansion, made.mask_share) == (16, 12, 12, 4, 0.5)
    with torch.device("meta"):
        encoder, decoder = (kind(768, 12, 12, 4, 16, 16) for kind in (ViTEncoder, ViTDecoder))
        image_BCHW = torch.empty(2, 3, 256, 256)
        assert encoder(image_BCHW).shape == (2, 256, 768) and decoder(encoder(image_BCHW)).shape == image_BCHW.shape
    block = 4 * 768**2 + 3 * 768 * 3072 + 9 * 3072 + 3 * 2 * 768 + 2 * 3072
    shared, patches = 12 * block + 256 * 768, 3 * 16 * 16 * 768
    assert sum(part.numel() for part in encoder.parameters()) == shared + patches
    assert sum(part.numel() for part in decoder.parameters()) == shared + patches + 3
