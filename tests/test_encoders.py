"""Both image-text encoders on tiny randomly initialised models, written to disk and loaded by path."""

import json
import logging

import numpy as np
import open_clip
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from open_clip.transformer import QuickGELU
from PIL import Image
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizerFast,
    GPT2Config,
    GPT2Model,
    RobertaConfig,
    RobertaModel,
)

from v2l.configuration.model_entries import ConseEncoder, OpenClipEncoder
from v2l.encoders import activation_check
from v2l.encoders.conse import NETWORK
from v2l.encoders.image_text_encoder import require_features
from v2l.encoders.loader import load_encoder
from v2l.encoders.open_clip import OpenClip
from v2l.encoders.prompt_templates import prompt_templates
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


def clip_state(**changes) -> dict:
    torch.manual_seed(0)
    return open_clip.CLIP(**ARCHITECTURE | changes, quick_gelu=True).state_dict()


def changed(entry, tmp_path, state, **more):
    torch.save(state, tmp_path / "other.pt")
    return entry.model_copy(update={"weights": str(tmp_path / "other.pt")} | more)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (
            lambda: clip_state(vision_cfg=ARCHITECTURE["vision_cfg"] | {"image_size": 64}),
            r"trained on images of 64 px \(4 x 4 patches\), two-layer-clip takes 32 px \(2 x 2\)",
        ),
        (
            lambda: clip_state(text_cfg=ARCHITECTURE["text_cfg"] | {"context_length": 77}),
            "text contexts of 77 tokens, two-layer-clip of 24",
        ),
        (
            lambda: clip_state(text_cfg=ARCHITECTURE["text_cfg"] | {"vocab_size": 1000}),
            "text vocabularies of 1000 tokens, two-layer-clip of 49408",
        ),
        (
            lambda: clip_state(text_cfg=ARCHITECTURE["text_cfg"] | {"layers": 3}),
            "not of this network: transformer.resblocks.2.*and 7 more",
        ),
        (lambda: {key: value for key, value in clip_state().items() if key != "logit_scale"}, "missing: logit_scale"),
        (lambda: {f"vision_model.{key}": value for key, value in clip_state().items()}, "transformers library"),
        (lambda: {"state_dict": clip_state(), "state_dict_ema": clip_state()}, "2 sets of weights"),
        (lambda: clip_state() | {"visual.proj": torch.full((32, 12), float("nan"))}, "not finite.*: visual.proj"),
    ],
)
def test_clip_weights_that_are_not_the_networks_are_refused_by_name(clip_entry, tmp_path, state, words):
    with pytest.raises(UserError, match=words) as caught:
        load_encoder(changed(clip_entry, tmp_path, state()), CPU)
    assert "\n" not in str(caught.value)


def test_clip_weights_of_training_scripts_are_read(clip, clip_entry, tmp_path):
    state = {f"module.{key}": value.half() for key, value in clip_state().items()}
    state["module.logit_scale"] = state["module.logit_scale"].reshape(1)
    other = load_encoder(changed(clip_entry, tmp_path, {"epoch": 1, "state_dict": state, "optimizer": {}}), CPU)
    assert torch.allclose(other.encode_text(["cat"]), clip.encode_text(["cat"]), atol=1e-2)


@pytest.mark.parametrize(
    ("changes", "entry_keys", "words"),
    [
        (
            {"quick_gelu": True},
            {"quick_gelu": False},
            "`quick_gelu` is false, but architecture .* says quick_gelu true",
        ),
        ({"quick_gelu": False}, {}, "`quick_gelu` is true, but .* says quick_gelu false"),
        ({"text_cfg": ARCHITECTURE["text_cfg"] | {"vocab_size": 32000}}, {}, "vocabulary of 32000 entries"),
        ({"vision_cfg": ARCHITECTURE["vision_cfg"] | {"image_size": [32, 64]}}, {}, "images of 32 x 64 px"),
        ({"vision_cfg": ARCHITECTURE["vision_cfg"] | {"breadth": 3}}, {}, "open_clip cannot build .*breadth"),
        ({"text_cfg": 3}, {}, "is not a model config"),
    ],
)
def test_clip_architectures_that_contradict_are_refused(clip_entry, tmp_path, changes, entry_keys, words):
    path = tmp_path / f"contradicting-{abs(hash(words))}.json"
    path.write_text(json.dumps(ARCHITECTURE | changes))
    with pytest.raises(UserError, match=words):
        load_encoder(clip_entry.model_copy(update={"model": str(path)} | entry_keys), CPU)


def test_a_named_quick_gelu_architecture_needs_the_key(clip_entry):
    keys = {"model": "ViT-B-32-quickgelu", "quick_gelu": False}
    with pytest.raises(UserError, match="set `quick_gelu: true`"):
        load_encoder(clip_entry.model_copy(update=keys), CPU)


def test_clip_normalises_as_the_published_config_says(clip, clip_entry, tmp_path):
    path = tmp_path / "open_clip_config.json"
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    path.write_text(json.dumps({"model_cfg": ARCHITECTURE, "preprocess_cfg": preprocess}))
    other = load_encoder(clip_entry.model_copy(update={"model": str(path)}), CPU)
    assert other.mean_C11.flatten().tolist() == preprocess["mean"]
    assert other.std_C11.flatten().tolist() == preprocess["std"]
    assert torch.equal(other.encode_text(["cat"]), clip.encode_text(["cat"]))
    path.write_text(json.dumps({"model_cfg": ARCHITECTURE, "preprocess_cfg": {"resize_mode": "squash", "mean": 0.5}}))
    with pytest.raises(UserError, match="asks for resize_mode 'squash' in place of 'shortest', mean 0.5"):
        load_encoder(clip_entry.model_copy(update={"model": str(path)}), CPU)


def fitted_to_colours(clip_entry):
    """Weights whose projections are solved so that plain pictures and the sentences on them agree."""
    encoder = load_encoder(clip_entry, CPU)
    model, side = encoder.model, encoder.image_size
    pixels = np.stack([np.full((side, side, 3), colour, np.uint8) for colour in activation_check.COLOURS.values()])
    ids = encoder.tokenizer([activation_check.SENTENCE.format(colour) for colour in activation_check.COLOURS])
    wanted = torch.nn.functional.one_hot(torch.arange(len(pixels)), 12).float()
    model.visual.proj.data, model.text_projection.data = torch.eye(32), torch.eye(32)
    image_NCHW = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - encoder.mean_C11) / encoder.std_C11
    image_ND, text_ND = model.encode_image(image_NCHW), model.encode_text(ids)
    model.visual.proj.data = torch.linalg.pinv(image_ND) @ wanted
    model.text_projection.data = torch.linalg.pinv(text_ND) @ wanted
    model.logit_scale.data = torch.tensor(100.0).log()
    return model.state_dict()


def test_weights_that_name_colours_are_not_warned_of(clip_entry, tmp_path, caplog):
    encoder = load_encoder(changed(clip_entry, tmp_path, fitted_to_colours(clip_entry)), CPU)
    assert activation_check.colour_loss(encoder, 100.0) < 0.01
    assert not caplog.records


def test_a_wrong_activation_is_warned_of_and_the_right_one_is_not(clip_entry, tmp_path, caplog, monkeypatch):
    def loss_of_openai_weights(encoder, scale):
        blocks = [*encoder.model.visual.transformer.resblocks, *encoder.model.transformer.resblocks]
        (kind,) = {type(block.mlp.gelu) for block in blocks}
        return 0.3 if kind is QuickGELU else 1.4

    monkeypatch.setattr(activation_check, "colour_loss", loss_of_openai_weights)
    entry = changed(clip_entry, tmp_path, clip_state() | {"logit_scale": torch.tensor(100.0).log()})
    load_encoder(entry, CPU)
    assert not caplog.records
    encoder = load_encoder(entry.model_copy(update={"quick_gelu": False}), CPU)
    (record,) = caplog.records
    assert "with `quick_gelu: false` features of plain pictures" in record.getMessage()
    assert "1.40 nats) than with `quick_gelu: true` (0.30" in record.getMessage()
    assert type(encoder.model.transformer.resblocks[0].mlp.gelu) is torch.nn.GELU, "the entry's is used on"


def test_features_that_hardly_agree_are_warned_of(clip_entry, tmp_path, caplog):
    state = clip_state() | {"logit_scale": torch.tensor(100.0).log()}
    load_encoder(changed(clip_entry, tmp_path, state), CPU)
    (record,) = caplog.records
    assert "hardly agree" in record.getMessage() and "chance 2.08" in record.getMessage()


def test_features_without_direction_are_named():
    feature_ND = torch.tensor([[1.0, 0], [float("nan"), 1], [0, 0], [float("inf"), 0]])
    require_features(feature_ND[:1], ["a"])
    with pytest.raises(UserError, match=r"zero or not finite for 3 of 4 inputs at once: 'b', 'c', 'd'"):
        require_features(feature_ND, ["a", "b", "c", "d"])


def test_conse_image_weights_of_other_classes_or_files_are_named(conse_entry, tmp_path):
    state = torch.load(conse_entry.image, weights_only=True)
    cases = [
        (state | {"_fc.weight": torch.zeros(10, 1280), "_fc.bias": torch.zeros(10)}, r"\(10 classes\)"),
        ({key: value for key, value in state.items() if "_conv_head" not in key}, "missing: _conv_head.weight"),
        (state | {"_extra.weight": torch.zeros(1)}, "not of this network: _extra.weight"),
    ]
    for content, words in cases:
        torch.save(content, tmp_path / "image.pth")
        with pytest.raises(UserError, match=f"`image`: .*image.pth does not hold weights of {NETWORK} .*{words}"):
            load_encoder(conse_entry.model_copy(update={"image": str(tmp_path / "image.pth")}), CPU)
    old = {key: value for key, value in state.items() if "num_batches_tracked" not in key}
    torch.save(old, tmp_path / "image.pth")
    load_encoder(conse_entry.model_copy(update={"image": str(tmp_path / "image.pth")}), CPU)


def text_folder(conse_entry, tmp_path, model=None, **files):
    BertTokenizerFast.from_pretrained(conse_entry.text).save_pretrained(tmp_path / "text")
    (model or BertModel.from_pretrained(conse_entry.text, add_pooling_layer=False)).save_pretrained(tmp_path / "text")
    for name, content in files.items():
        path = tmp_path / "text" / name.replace("__", "/").replace("_json", ".json")
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    return conse_entry.model_copy(update={"text": str(tmp_path / "text")})


SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def test_conse_text_folders_that_make_sentences_otherwise_are_refused(conse_entry, tmp_path):
    cls = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    mean = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
    parts = [{"type": f"sentence_transformers.models.{name}"} for name in ("Transformer", "Pooling", "Dense")]
    config = BertModel.from_pretrained(conse_entry.text, add_pooling_layer=False).config.to_dict()
    gpt = GPT2Model(GPT2Config(vocab_size=99, n_positions=16, n_embd=16, n_layer=1, n_head=2))
    cases = [
        ({"1_Pooling__config_json": cls}, "makes a sentence by cls_token"),
        ({"modules_json": parts}, "has a part Dense behind its transformer"),
        ({"model": gpt}, "reads texts in one direction"),
        ({"model": BertModel(BertConfig(vocab_size=9, **SIZES))}, "a tokenizer of .* tokens, but a model of 9"),
        ({"config_json": config | {"num_hidden_layers": 0}}, r"config.json does not use \(encoder.layer.0"),
        ({"config_json": config | {"num_hidden_layers": 2}}, r"lacks encoder.layer.1"),
        ({"config_json": config | {"vocab_size": 99}}, r"of other shapes .*word_embeddings.weight: \(33, 16\) for"),
    ]
    for number, (changes, words) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(UserError, match=f"`text`: .*{words}"):
            load_encoder(text_folder(conse_entry, folder, **changes), CPU)
    load_encoder(text_folder(conse_entry, tmp_path, modules_json=parts[:2], **{"1_Pooling__config_json": mean}), CPU)


def test_conse_text_weights_that_git_lfs_left_out_are_called_so(conse_entry, tmp_path):
    entry = text_folder(conse_entry, tmp_path)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 90868376\n"
    (tmp_path / "text" / "model.safetensors").write_text(pointer)
    with pytest.raises(UserError, match="model.safetensors is a Git LFS pointer.*git lfs pull"):
        load_encoder(entry, CPU)


def test_positions_of_a_roberta_begin_behind_its_padding(conse_entry, tmp_path):
    roberta = RobertaModel(RobertaConfig(vocab_size=99, max_position_embeddings=18, **SIZES), add_pooling_layer=False)
    encoder = load_encoder(text_folder(conse_entry, tmp_path, roberta), CPU)
    assert encoder.longest_text == 16
    assert encoder.encode_text(["cat " * 60]).isfinite().all()
