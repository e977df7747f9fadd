"""Both image-text encoders on tiny randomly initialised models, written to disk and loaded by path."""

import json
import logging

import numpy as np
import open_clip
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from transformers import BertConfig, BertModel, BertTokenizerFast

from v2l.configuration.model_entries import ConseEncoder, OpenClipEncoder
from v2l.encoders.conse import NETWORK
from v2l.encoders.imagenet_templates import prompt_templates
from v2l.encoders.loader import load_encoder
from v2l.encoders.open_clip import OpenClip
from v2l.errors import UserError

CPU = torch.device("cpu")
WORDS = ["cat", "dog", "rabbit", "photo", "of", "a", "drum"]
ARCHITECTURE = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def clip_entry(tmp_path_factory):
    """A two-layer CLIP."""
    folder = tmp_path_factory.mktemp("clip")
    config = folder / "two-layer-clip.json"
    config.write_text(json.dumps(ARCHITECTURE))
    torch.manual_seed(0)
    model = open_clip.CLIP(**ARCHITECTURE, quick_gelu=True)
    torch.save(model.state_dict(), folder / "weights.pt")
    return OpenClipEncoder(kind="open_clip", model=str(config), weights=str(folder / "weights.pt"))


@pytest.fixture(scope="module")
def conse_entry(tmp_path_factory):
    """A one-layer BERT and an EfficientNet-Lite0 with random weights."""
    folder = tmp_path_factory.mktemp("conse")
    vocabulary = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *WORDS,
        *"0123456789",
        *(f"##{d}" for d in range(10)),
        "thing",
    ]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    torch.manual_seed(0)
    BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder / "text")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=16, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder / "text")
    network = EfficientNet.from_name(NETWORK).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    network(torch.rand(8, 3, 64, 64) * 2 - 1)  # Without batch statistics random weights answer alike to every image.
    torch.save(network.state_dict(), folder / "image.pth")
    names = ["cat", "dog", *(f"thing {number}" for number in range(998))]
    (folder / "names.json").write_text(json.dumps(names))
    return ConseEncoder(
        kind="conse",
        text=str(folder / "text"),
        image=str(folder / "image.pth"),
        class_names=str(folder / "names.json"),
        top_classes=2,
    )


@pytest.fixture(scope="module")
def clip(clip_entry):
    return load_encoder(clip_entry, CPU)


@pytest.fixture(scope="module")
def conse(conse_entry):
    return load_encoder(conse_entry, CPU)


@pytest.fixture(scope="module", params=["clip", "conse"])
def encoder(request):
    return request.getfixturevalue(request.param)


def pictures():
    generator = np.random.default_rng(0)
    return [
        Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for height, width in [(40, 60), (300, 50), (1, 1)]
    ]


def test_features_are_unit_float32_of_the_declared_width(encoder):
    for features in (encoder.encode_text(["cat", "a photo of a dog", ""]), encoder.encode_images(pictures(), "crop")):
        assert features.shape == (3, encoder.dimension)
        assert features.dtype == torch.float32
        assert torch.allclose(features.norm(dim=1), torch.ones(3), atol=1e-5)


def test_a_batch_gives_what_single_items_give(encoder):
    texts = ["cat", "a photo of a dog", "rabbit of a drum of a photo of a cat", "a " * 60]
    singly = torch.cat([encoder.encode_text([text]) for text in texts])
    assert torch.allclose(encoder.encode_text(texts), singly, atol=1e-6)
    singly = torch.cat([encoder.encode_images([picture], "pad") for picture in pictures()])
    assert torch.allclose(encoder.encode_images(pictures(), "pad"), singly, atol=1e-5)


def test_token_counts_order_texts_by_length(encoder):
    short, same, long = encoder.token_counts(["cat", "dog", "a photo of a dog"])
    assert short == same == long - 4


def test_fit_decides_what_the_encoder_sees(encoder):
    crop, pad = (encoder.encode_images(pictures()[1:2], fit) for fit in ("crop", "pad"))
    assert not torch.allclose(crop, pad, atol=1e-4)


def test_encode_images_is_square_then_encode_squares(encoder):
    squares = np.stack([encoder.square(picture, "pad") for picture in pictures()])
    assert squares.shape == (3, encoder.image_size, encoder.image_size, 3)
    assert torch.equal(encoder.encode_squares(squares), encoder.encode_images(pictures(), "pad"))


def test_clip_reads_geometry_from_the_config_file(clip):
    assert isinstance(clip, OpenClip)
    assert (clip.dimension, clip.image_size) == (12, 32)


def test_loading_adds_no_lines_to_the_log(clip_entry, caplog):
    caplog.set_level(logging.INFO)
    load_encoder(clip_entry, CPU)
    assert caplog.text == ""
    logging.info("the stage's own line")
    assert "the stage's own line" in caplog.text


def test_cutting_the_text_context_changes_no_vector(clip):
    texts = ["a", "a photo of a rabbit", "!!!", "a very long sentence " * 10]
    for batch in ([texts[0]], texts[:2], texts):
        full = clip.model.encode_text(clip.tokenizer(batch), normalize=True)
        assert torch.allclose(clip.encode_text(batch), full, atol=1e-6)


def test_clip_images_are_normalised_as_open_clip_does(clip):
    square = pictures()[0].resize((32, 32))
    transform = open_clip.image_transform(32, is_train=False)
    expected = clip.model.encode_image(transform(square)[None], normalize=True)
    assert torch.allclose(clip.encode_images([square], "crop"), expected, atol=1e-6)


def test_clip_quick_gelu_is_a_setting(clip, clip_entry):
    other = load_encoder(clip_entry.model_copy(update={"quick_gelu": False}), CPU)
    assert not torch.allclose(other.encode_text(["cat"]), clip.encode_text(["cat"]), atol=1e-6)


def test_clip_in_half_has_half_weights_and_answers_as_in_float32(clip, clip_entry):
    half = load_encoder(clip_entry.model_copy(update={"precision": "float16"}), CPU)
    assert {half.model.visual.conv1.weight.dtype, half.model.transformer.resblocks[0].mlp.c_fc.weight.dtype} == {
        torch.float16
    }
    assert half.model.transformer.resblocks[0].ln_1.weight.dtype == torch.float32
    templates = prompt_templates(["a photo of {}"])
    pairs = [
        (half.encode_text(["cat", "drum"]), clip.encode_text(["cat", "drum"])),
        (half.mean_over_templates(templates, ["cat"]), clip.mean_over_templates(templates, ["cat"])),
        (half.encode_images(pictures(), "pad"), clip.encode_images(pictures(), "pad")),
    ]
    for found, expected in pairs:
        assert found.dtype == torch.float32
        assert (found * expected).sum(dim=1).min() > 0.9999 and not torch.equal(found, expected)


@pytest.mark.filterwarnings("ignore")
def test_clip_reads_torchscript_archives(clip, clip_entry, tmp_path):
    class Archive(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, child in clip.model.named_children():
                setattr(self, name, child)
            for name, value in clip.model.named_parameters(recurse=False):
                setattr(self, name, value)
            self.register_buffer("context_length", torch.tensor(24))

        def forward(self, text):
            return self.token_embedding(text)

    torch.jit.trace(Archive(), torch.zeros(1, 24, dtype=torch.long)).save(tmp_path / "scripted.pt")
    other = load_encoder(clip_entry.model_copy(update={"weights": str(tmp_path / "scripted.pt")}), CPU)
    assert torch.equal(other.encode_text(["cat"]), clip.encode_text(["cat"]))
    assert torch.equal(other.encode_images(pictures(), "crop"), clip.encode_images(pictures(), "crop"))


def test_conse_image_of_one_certain_class_is_that_class_text(conse, monkeypatch):
    certain = torch.zeros(1, 1000)
    certain[0, 1] = 1
    monkeypatch.setattr(conse, "class_probabilities", lambda pixels_NHWC: certain)
    assert torch.allclose(
        conse.encode_images(pictures()[:1], "crop"), conse.encode_text(["a photo of a dog"]), atol=1e-5
    )


def test_conse_weighs_the_likeliest_classes_and_drops_the_rest(conse, monkeypatch):
    probability_NC = torch.full((1, 1000), 0.1 / 998)
    probability_NC[0, 0], probability_NC[0, 1] = 0.6, 0.3
    monkeypatch.setattr(conse, "class_probabilities", lambda pixels_NHWC: probability_NC)
    expected_D = 0.6 * conse.class_CD[0] + 0.3 * conse.class_CD[1]
    feature_D = conse.encode_images(pictures()[:1], "crop")[0]
    assert torch.allclose(feature_D, expected_D / expected_D.norm(), atol=1e-5)


def test_conse_class_texts_are_centred(conse):
    assert torch.allclose(conse.class_CD.mean(dim=0), torch.zeros(conse.dimension), atol=1e-5)


def test_conse_classifier_input_is_scaled_as_it_was_trained(conse):
    for value, scaled in [(127, 0.0), (255, 1.0)]:
        plain = np.full((1, 224, 224, 3), value, dtype=np.uint8)
        expected = conse.classifier(torch.full((1, 3, 224, 224), scaled)).softmax(dim=1)
        assert torch.allclose(conse.class_probabilities(plain), expected, atol=1e-6)


def broken(tmp_path, name, content=b"neither weights nor words"):
    path = tmp_path / name
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("key", ["model", "weights"])
def test_clip_missing_file_is_named(clip_entry, key):
    with pytest.raises(UserError, match=f"`{key}`: nowhere.json does not exist"):
        load_encoder(clip_entry.model_copy(update={key: "nowhere.json"}), CPU)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"neither weights nor words", "is a text")])
def test_clip_unreadable_weights_are_named(clip_entry, tmp_path, name, content, words):
    with pytest.raises(UserError, match=f"`weights`: .*{name} {words}"):
        load_encoder(clip_entry.model_copy(update={"weights": broken(tmp_path, name, content)}), CPU)


def test_clip_weights_of_another_shape_are_named(clip_entry, tmp_path):
    torch.save(open_clip.CLIP(**ARCHITECTURE | {"embed_dim": 8}).state_dict(), tmp_path / "eight.pt")
    with pytest.raises(UserError, match="eight.pt does not fit .*text_projection: 32 x 8 in place of 32 x 12"):
        load_encoder(clip_entry.model_copy(update={"weights": str(tmp_path / "eight.pt")}), CPU)


def test_clip_bad_architectures_are_named(clip_entry, tmp_path):
    cases = {
        "ViT-L-41": "knows no architecture 'ViT-L-41'",
        "hf-hub:someone/model": "knows no architecture",
        broken(tmp_path, "unlike.json", b'{"embed_dim": 3}'): "unlike.json is not a model config",
        broken(tmp_path, "no.json"): "no.json is not a model config",
        "ViT-B-16-SigLIP": "from a hub",
        "roberta-ViT-B-32": "from a hub",
    }
    for model, message in cases.items():
        with pytest.raises(UserError, match=message):
            load_encoder(clip_entry.model_copy(update={"model": model}), CPU)


@pytest.mark.parametrize("key", ["text", "image", "class_names"])
def test_conse_missing_and_unfitting_files_are_named(conse_entry, tmp_path, key):
    with pytest.raises(UserError, match=f"`{key}`: nowhere does not exist"):
        load_encoder(conse_entry.model_copy(update={key: "nowhere"}), CPU)
    path = broken(tmp_path, "other")
    with pytest.raises(UserError, match=path):
        load_encoder(conse_entry.model_copy(update={key: path}), CPU)


def test_conse_class_names_must_fit_the_classifier(conse_entry, tmp_path):
    short = broken(tmp_path, "short.json", json.dumps(["cat"] * 999).encode())
    with pytest.raises(UserError, match="a JSON list of 1000 names"):
        load_encoder(conse_entry.model_copy(update={"class_names": short}), CPU)


def test_conse_text_folder_with_missing_weights_is_refused(conse_entry, tmp_path):
    tokenizer = BertTokenizerFast.from_pretrained(conse_entry.text)
    tokenizer.save_pretrained(tmp_path)
    model = BertModel.from_pretrained(conse_entry.text, add_pooling_layer=False)
    state = {key: value for key, value in model.state_dict().items() if "embeddings.word" not in key}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(UserError, match="lacks embeddings.word_embeddings.weight"):
        load_encoder(conse_entry.model_copy(update={"text": str(tmp_path)}), CPU)
