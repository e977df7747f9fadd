import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import v2l
from tests.test_spae import make as make_spae
from tests.tiny import write_roberta
from tests.token_experiment import GLOBAL_CODES, GLOBAL_TOKENS, NETWORK, SUBWORDS, WIDTH
from v2l import V2LTokenizer, tokenize
from v2l.configuration.tokenizer_entries import LQAEEntry
from v2l.configuration.tokenizer_training import TrainTokenizer
from v2l.errors import UserError
from v2l.io.storage import hash_tensor, read_tensors, write_tensors
from v2l.library import v2l_tokenizer
from v2l.library.code_vocabulary import CodeVocabulary
from v2l.library.pictures import as_pictures
from v2l.library.pretrained_folder import PretrainedSettings
from v2l.models.lqae import LQAETokenizer
from v2l.models.v2l import V2LNetwork
from v2l.models.vqgan import VQGANTokenizer
from v2l.models.weights_file import read_weights_file

WORDS = [f" word{number}" for number in range(GLOBAL_CODES)]
METADATA = {
    "v2l": {"commit": "abc", "config": {"datasets": {"pictures": {}}}},
    "training": {"seed": 3, "steps": 7, "images": 14},
    "vocabulary": {"llm": "tiny", "subwords": SUBWORDS, "sha256": "0"},
    "encoder": "fake",
    "words": WORDS,
}
VOCABULARY = {"language_model": {"llm": "tiny", "size": 20, "sha256": "0"}}


class FakeEncoder:
    """Texts are the rows of a seeded table; a picture is its mean colour."""

    dimension = WIDTH

    def __init__(self, entry, device):
        self.table_VD = entry.table_VD

    def token_counts(self, texts):
        return [1] * len(texts)

    def mean_over_templates(self, templates, texts):
        return self.table_VD[[int(text.removeprefix("word")) for text in texts]]

    def encode_images(self, images, fit):
        mean_NC = np.stack([np.asarray(image).mean(axis=(0, 1)) for image in images]) / 255
        return torch.nn.functional.normalize(torch.tensor(np.tile(mean_NC, WIDTH)[:, :WIDTH]).float(), dim=1)


def settings_of(network, encoder=None):
    return PretrainedSettings(tokenizer=network.description, fit="crop", encoder=encoder, templates=["a {}"])


@pytest.fixture
def tables():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(SUBWORDS, WIDTH, generator=generator), torch.randn(GLOBAL_CODES, WIDTH, generator=generator)


@pytest.fixture
def tokenizer(tables, tmp_path, monkeypatch):
    """A V2L tokenizer of random weights, its encoder a file of this folder."""
    torch.manual_seed(0)
    local_VD, global_VD = tables
    network = V2LNetwork("v2l", "v2l", NETWORK, GLOBAL_TOKENS, local_VD, global_VD).eval().requires_grad_(False)
    network.match_moments(torch.rand(4, 3, 16, 16) * 2 - 1)
    weights = tmp_path / "clip.safetensors"
    save_file({"table": global_VD}, weights)

    def load(entry, device):
        class Entry:
            table_VD = read_tensors(Path(entry.weights))[0]["table"]

        return FakeEncoder(Entry, device)

    monkeypatch.setattr(v2l_tokenizer, "load_encoder", load)
    encoder = {"kind": "open_clip", "weights": str(weights), "model": "ViT-B-32"}
    names = [f" sub{number}" for number in range(SUBWORDS)]
    vocabulary = CodeVocabulary(**VOCABULARY, words=WORDS, subwords=names, subword_ids=range(5, 5 + SUBWORDS))
    return V2LTokenizer(network, settings_of(network, encoder), vocabulary, METADATA)


@pytest.fixture
def pictures():
    generator = np.random.default_rng(1)
    return [Image.fromarray(generator.integers(256, size=(20 + n, 30, 3), dtype=np.uint8)) for n in range(5)]


@pytest.fixture
def folder(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def same(first, second):
    return torch.equal(first.local_ids, second.local_ids) and torch.equal(first.global_ids, second.global_ids)


def test_shapes_words_and_pictures(tokenizer, pictures):
    codes = tokenizer.encode(pictures)
    assert codes.local_ids.shape == (5, 4, 4) and codes.global_ids.shape == (5, GLOBAL_TOKENS) and len(codes) == 5
    assert codes.words[2] == [WORDS[code] for code in codes.global_ids[2].tolist()]
    assert codes.local_words[1][2][3] == f" sub{int(codes.local_ids[1, 2, 3])}"
    images = tokenizer.decode(codes)
    assert images.shape == (5, 16, 16, 3) and images.dtype == np.uint8
    assert np.array_equal(tokenizer.decode(codes[1:3]), images[1:3])


def test_batches_change_no_code(tokenizer, pictures):
    whole = tokenizer.encode(pictures)
    assert same(whole, tokenizer.encode(pictures, batch_size=2))
    assert np.array_equal(tokenizer.decode(whole), tokenizer.decode(whole, batch_size=3))


def test_hidden_codes_reach_no_picture(tokenizer, pictures):
    codes = tokenizer.encode(pictures[:2])
    visible = torch.zeros(2, 4, 4, dtype=torch.bool)
    hidden = tokenizer.decode(codes[:1], visible=visible[:1])
    other = tokenizer.encode(pictures[1:2]).local_ids
    replaced = v2l.ImageCodes(other, codes.global_ids[:1], codes.tokenizer, codes.vocabulary)
    assert np.array_equal(hidden, tokenizer.decode(replaced, visible=visible[:1]))
    assert not np.array_equal(hidden, tokenizer.decode(codes[:1]))
    assert np.array_equal(tokenizer.decode(codes, visible=~visible), tokenizer.decode(codes))


def test_a_folder_gives_the_same_codes_wherever_it_lies(folder, tokenizer, pictures, tmp_path, monkeypatch):
    (tmp_path / "clip.safetensors").unlink()
    monkeypatch.chdir(folder.parent)
    moved = folder.rename(tmp_path / "moved")
    again = V2LTokenizer.from_pretrained("moved")
    expected = tokenizer
    assert {path.name for path in moved.iterdir()} == {
        *("README.md", "config.json", "encoder", "model.safetensors", "vocabulary.json")
    }
    codes = again.encode(pictures)
    assert codes.vocabulary == expected.vocabulary and again.metadata["training"] == METADATA["training"]
    local = codes.local_ids.flatten(1)
    assert torch.equal(local, expected.network.encode(_squares(expected, pictures), torch.ones(5, WIDTH)).local_BL)
    again.save_pretrained(tmp_path / "twice")
    names = ("config.json", "model.safetensors", "vocabulary.json", "README.md")
    assert all((moved / name).read_bytes() == (tmp_path / "twice" / name).read_bytes() for name in names)


def _squares(tokenizer, pictures):
    squares = [v2l_tokenizer.tokenizer_image(picture, tokenizer.network.geometry, "crop") for picture in pictures]
    return v2l_tokenizer.to_tensor(squares)


def test_saving_over_the_own_folder_keeps_it(folder, pictures):
    first = V2LTokenizer.from_pretrained(folder)
    first.save_pretrained(folder)
    assert same(first.encode(pictures), V2LTokenizer.from_pretrained(folder).encode(pictures))


def test_an_encoder_that_is_only_named(tokenizer, tmp_path, pictures):
    tokenizer.save_pretrained(tmp_path / "named", include_encoder=False)
    assert not (tmp_path / "named/encoder").exists()
    assert same(V2LTokenizer.from_pretrained(tmp_path / "named").encode(pictures), tokenizer.encode(pictures))


def test_an_encoder_of_a_folder_is_named_by_where_it_lies(tokenizer, tmp_path, pictures, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokenizer.save_pretrained("whole")
    V2LTokenizer.from_pretrained("whole").save_pretrained("named", include_encoder=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert same(V2LTokenizer.from_pretrained(tmp_path / "named").encode(pictures), tokenizer.encode(pictures))


def test_no_push_without_the_encoder(tokenizer, tmp_path):
    with pytest.raises(UserError, match="push_to_hub without include_encoder"):
        tokenizer.save_pretrained(tmp_path / "x", include_encoder=False, push_to_hub=True, repo_id="a/b")
    assert not (tmp_path / "x").exists()


def test_another_encoder_is_refused(folder, pictures, tables, tmp_path):
    save_file({"table": -tables[1]}, tmp_path / "other.safetensors")
    entry = {"kind": "open_clip", "weights": str(tmp_path / "other.safetensors")}
    with pytest.raises(UserError, match=r"cosine -1\.00.*encoder fake"):
        V2LTokenizer.from_pretrained(folder, encoder=entry).encode(pictures)
    with pytest.raises(UserError, match="encoder: .*Expected: an entry"):
        V2LTokenizer.from_pretrained(folder, encoder={"kind": "open_clip"}).encode(pictures)


def test_the_weights_are_a_weights_file_of_the_pipeline(folder, tokenizer):
    file = read_weights_file(folder / "model.safetensors")
    assert file.training == METADATA["training"] and file.tokenizer == tokenizer.network.description
    table_VD = tokenizer.network.codebooks[0]
    assert hash_tensor(file.tensors["tok_embeddings.weight"]) == hash_tensor(table_VD)


def test_the_card_says_what_made_it_and_a_users_own_stays(folder, tokenizer):
    card = (folder / "README.md").read_text()
    assert "library_name: v2l" in card and "| commit | abc |" in card and "| steps | 7 |" in card
    assert f"{GLOBAL_TOKENS} global codes of {GLOBAL_CODES}" in card and "fake" in card
    (folder / "README.md").write_text("mine")
    tokenizer.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"


def test_codes_without_words(tables):
    network = V2LNetwork("v2l-local", "v2l-local", NETWORK, 0, tables[0]).eval()
    vocabulary = CodeVocabulary(**VOCABULARY, words=[], subwords=WORDS + [" a"] * 3, subword_ids=range(SUBWORDS))
    codes = V2LTokenizer(network, settings_of(network), vocabulary, METADATA).encode(np.zeros((9, 9, 3), np.uint8))
    assert codes.global_ids is None and len(codes.local_words[0]) == 4
    with pytest.raises(UserError, match="v2l-local.* stand for no words"):
        _ = codes.words
    network = VQGANTokenizer("vqgan", NETWORK).eval()
    vocabulary = CodeVocabulary(**VOCABULARY, words=[], subwords=[], subword_ids=[])
    other = V2LTokenizer(network, settings_of(network), vocabulary, METADATA)
    found = other.encode(np.zeros((9, 9, 3), np.uint8))
    with pytest.raises(UserError, match="no subwords"):
        _ = found.local_words
    with pytest.raises(UserError, match="those of tokenizer 'v2l-local'.*Expected: codes of tokenizer 'vqgan'"):
        other.decode(codes)


def test_baselines_keep_their_codes_and_words_in_a_folder(tmp_path, pictures):
    write_roberta(tmp_path)
    entry = LQAEEntry(method="lqae", language_model=str(tmp_path), patch_size=4, layers=1, heads=2, expansion=1)
    network = NETWORK.model_dump()
    section = {"dataset": "pictures", "tokenizers": [], "network": network, "loss": {"perceptual_weights": "none"}}
    torch.manual_seed(0)
    lqae = LQAETokenizer.create("lqae", entry, TrainTokenizer.model_validate(section), {}).eval()
    for network, shape in ((make_spae(), (8, 8)), (lqae, (4, 4)), (VQGANTokenizer("vqgan", NETWORK).eval(), (4, 4))):
        texts = [f" {number}" for number in range(network.local_size)]
        shown = texts if network.shown_as == "subword" else []
        numbers = list(range(len(shown)))
        vocabulary = CodeVocabulary(**VOCABULARY, words=texts, subwords=shown, subword_ids=numbers)
        first = V2LTokenizer(network, settings_of(network), vocabulary, METADATA)
        first.save_pretrained(tmp_path / network.name)
        codes, again = first.encode(pictures[:2]), V2LTokenizer.from_pretrained(tmp_path / network.name)
        found = again.encode(pictures[:2])
        assert torch.equal(codes.local_ids, found.local_ids) and found.local_ids.shape[1:] == shape
        assert np.array_equal(first.decode(codes), again.decode(found))
        if network.worded_ids:
            ids = codes.global_ids if network.worded_ids == "global" else codes.local_ids.flatten(1)
            assert found.words[1] == [f" {code}" for code in ids[1].tolist()]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"local_ids": torch.full((1, 4, 4), SUBWORDS)}, f"`local_ids` runs from {SUBWORDS}.*ids of 0..{SUBWORDS - 1}"),
        ({"local_ids": torch.zeros(1, 4, 5, dtype=torch.int64)}, r"shape \(1, 4, 5\).*\(1, 4, 4\)"),
        ({"local_ids": torch.zeros(1, 4, 4)}, "torch.float32"),
        ({"global_ids": None}, "`global_ids` is NoneType"),
        ({"global_ids": torch.full((1, GLOBAL_TOKENS), -1)}, "`global_ids` runs from -1"),
    ],
)
def test_wrong_codes_are_refused(tokenizer, pictures, change, message):
    codes = tokenizer.encode(pictures[:1])
    with pytest.raises(UserError, match=message):
        tokenizer.decode(v2l.ImageCodes(**(vars(codes) | change)))


def test_a_wrong_mask_is_refused(tokenizer, pictures):
    with pytest.raises(UserError, match=r"`visible` is torch.int64 of shape \(4, 4\).*bool of shape \(1, 4, 4\)"):
        tokenizer.decode(tokenizer.encode(pictures[:1]), visible=np.ones((4, 4), dtype=np.int64))


RGB = st.lists(st.integers(0, 255), min_size=2 * 3 * 3, max_size=2 * 3 * 3).map(
    lambda values: np.array(values, dtype=np.uint8).reshape(2, 3, 3)
)


@given(RGB)
@settings(max_examples=50, deadline=None)
def test_all_ways_to_hold_a_picture_give_one(pixels_HWC):
    float_CHW = np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)).astype(np.float32) / 255
    ways = [
        Image.fromarray(pixels_HWC),
        pixels_HWC,
        pixels_HWC[None],
        torch.from_numpy(pixels_HWC),
        float_CHW,
        torch.from_numpy(float_CHW)[None],
        float_CHW.astype(np.float64),
        [Image.fromarray(pixels_HWC)],
    ]
    for way in ways:
        (picture,) = as_pictures(way)
        assert picture.mode == "RGB" and np.array_equal(np.asarray(picture), pixels_HWC)


@pytest.mark.parametrize(
    "images, message",
    [
        ("picture.png", "images is of type str"),
        ([Image.new("RGB", (4, 4)), "picture.png"], r"images\[1\] is of type str"),
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\)"),
        (np.zeros((3, 4, 4), np.uint8), r"uint8 of shape \(3, 4, 4\), its last axis is not RGB"),
        (np.zeros((4, 4, 3), np.float32), r"float of shape \(4, 4, 3\)"),
        (np.full((3, 4, 4), -0.1), "values from -0.1 to -0.1"),
        (np.full((3, 4, 4), 255.0), "values from 255"),
        (torch.full((3, 4, 4), float("nan")), "values from nan"),
        (torch.zeros(4, 4, 3, dtype=torch.int64), "holds int64"),
        (np.zeros((0, 4, 4, 3), np.uint8), "shape"),
    ],
)
def test_other_images_are_refused_by_name(images, message):
    with pytest.raises(UserError, match=f"{message}.*uint8 arrays or tensors of 0..255"):
        as_pictures(images)


def test_grey_and_transparent_pictures_are_read_as_files_are():
    assert as_pictures(Image.new("RGBA", (2, 2), (0, 0, 0, 0)))[0].getpixel((0, 0)) == (255, 255, 255)
    assert as_pictures(Image.new("L", (2, 2), 7))[0].getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json .it holds README.md, encoder"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "llama"}'), "another kind .*'llama'"),
        (lambda folder: (folder / "config.json").write_text('{"architectures": ["A"]}'), r"another kind .*\['A'\]"),
        (lambda folder: change(folder / "config.json", "fit", "stretch"), "config.json is damaged .fit"),
        (lambda folder: change(folder / "vocabulary.json", "subword_ids", [1]), "vocabulary.json is damaged"),
        (lambda folder: (folder / "vocabulary.json").unlink(), "vocabulary.json cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is not there"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), "model.safetensors"),
        (lambda folder: less(folder / "model.safetensors"), "does not hold the network that it describes"),
    ],
)
def test_folders_of_another_kind_are_refused(folder, spoil, message):
    spoil(folder)
    with pytest.raises(UserError, match=message):
        V2LTokenizer.from_pretrained(folder)


def change(path, key, value):
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))


def less(path):
    tensors, metadata = read_tensors(path)
    tensors.pop("encoder.conv_in.weight")
    write_tensors(path, tensors, metadata.pop("v2l"), metadata)


def test_paths_without_a_folder_are_refused_offline(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        V2LTokenizer.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        V2LTokenizer.from_pretrained(tmp_path / "file")


def test_a_name_that_is_neither_folder_nor_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="someone/nothing is no folder here"):
        V2LTokenizer.from_pretrained("someone/nothing", local_files_only=True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["gone.png"], "gone.png does not exist"),
        (["text.png"], "text.png cannot be read as a picture"),
        (["ok.png", "ok.png", "--output", "a.png"], "--output is one file, for 2 pictures"),
        (["ok.png", "--output", "a.jpg"], "--output is a.jpg"),
        (["ok.png"], "--weights: .*nowhere does not exist"),
        (["ok.png", "--from-experiment", "demo", "v2l", "--weights", "."], ". exists. Expected: a new folder"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("text")
    Image.new("RGB", (4, 4)).save("ok.png")
    with pytest.raises(UserError, match=message):
        tokenize.run(tokenize.parser().parse_args(["--weights", str(tmp_path / "nowhere"), *arguments]))


def test_the_command_prints_words(folder, pictures, tmp_path, capsys):
    pictures[0].save(tmp_path / "a.png")
    tokenize.run(tokenize.parser().parse_args([str(tmp_path / "a.png"), "--weights", str(folder)]))
    words = [word.strip() for word in V2LTokenizer.from_pretrained(folder).encode(pictures[0]).words[0]]
    assert capsys.readouterr().out == f"{tmp_path}/a.png: {', '.join(words)}\n"


def test_the_command_ends_with_one_line_and_loads_no_network_for_it(tmp_path):
    code = "import sys, runpy; sys.argv = ['tokenize', 'gone.png', '--weights', 'x']\n"
    code += "try: runpy.run_module('v2l.tokenize', run_name='__main__')\nfinally: print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1 and result.stdout == "False\n"
    assert result.stderr.startswith("tokenize: error: gone.png does not exist") and result.stderr.count("\n") == 1


def test_importing_the_package_imports_nothing_heavy_and_names_everything():
    code = "import v2l, sys; print('torch' in sys.modules, *v2l.__all__)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", *v2l.__all__]
    assert set(v2l.__all__) == set(v2l.PUBLIC) <= set(dir(v2l)) and all(hasattr(v2l, name) for name in v2l.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = v2l.nothing


def test_unknown_experiments_and_tokenizers_are_named():
    with pytest.raises(UserError, match="experiment demo has no tokenizer 'other'.*v2l-local"):
        V2LTokenizer.from_experiment("other", "demo")
    with pytest.raises(UserError, match="config key `experiment` is 'none'"):
        V2LTokenizer.from_experiment("v2l", "none")
