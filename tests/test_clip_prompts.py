"""CLIP's tokenizer with compiled merges, and prompts that share their beginning: equal to open_clip's own path."""

import json
import random
from unicodedata import category

import open_clip
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from v2l.configuration.model_entries import OpenClipEncoder
from v2l.encoders.clip_tokenizer import ClipTokenizer
from v2l.encoders.image_text_encoder import ImageTextEncoder
from v2l.encoders.loader import load_encoder
from v2l.encoders.prompt_templates import prompt_templates
from v2l.encoders.shared_beginnings import SharedBeginnings

REFERENCE = open_clip.SimpleTokenizer()
TOKENIZER = ClipTokenizer(REFERENCE)
IMAGENET = prompt_templates("imagenet-80")
STRANGE = [
    *["", " ", "\x00\x07a", "\x1b[31mred\x1b[0m", "a\r\nb", "a\u200bb", "\ufeffx", "a\u2028b", "\u0345", "\u088f"],
    *["&lt;end_of_text&gt;", "<end_of_text>", "!!<END_of_text>x", "&amp;amp;lt;", "&eacute;&nbsp;&#128512;"],
    *["<b>&amp;</b>", "CAFE\u0301", "ＦＵＬＬ　width", "ﬁne ﬂow", "“quoted” ‘s", "I'ſ", "don't_s", "''''s", "ΣΑΣ"],
    *["İstanbul", "ẞtraße", "ᾳΙ", "👩‍👩‍👧‍👦", "🏳️‍🌈", "日本語", "हिन्दी", "ไทย", "Ⅷ ½ ²", "١٢٣"],
    *["\U00012544À¸\x80", "Ã©tÃ©", "schÃ¶n", "Â x", "Ã ", "humanitÃ©", "ǅ", "\ufffd"],
]
POOLS = [
    *["abcdefgXYZ", "0123456789", " .,'&;<>-_#", "éÃ©Â€ßſ", "дЖя", "日本語ひカ", "ABＣ１ﬁ"],
    *["\u0301\u200d😀🏽", "\t\n\x01\x85"],
]


def words(count):
    """Random texts: of one script or mixed, with the pieces that cleaning changes."""
    generator = random.Random(0)
    for _ in range(count):
        chosen = generator.sample(POOLS, generator.randint(1, 3))
        yield "".join(generator.choice(generator.choice(chosen)) for _ in range(generator.randint(1, 8)))


TEXTS = [*STRANGE, *words(400)]


def test_ids_are_open_clip_s():
    assert TOKENIZER.encode(TEXTS) == [REFERENCE.encode(text) for text in TEXTS]


def test_padded_ids_are_open_clip_s_without_the_common_padding():
    texts = [*TEXTS, "a " * 74, "a " * 75, "a " * 76, "a " * 200]
    expected = REFERENCE(texts)
    found = TOKENIZER.padded(texts)
    assert torch.equal(found, expected[:, : found.shape[1]]) and not expected[:, found.shape[1] :].any()


def test_a_prompt_is_its_beginning_and_its_tail():
    generator = random.Random(1)
    texts = [text.strip() for text in TEXTS]
    tails = {ending: TOKENIZER.tails([text + ending for text in texts]) for _, ending in IMAGENET}
    apart = 0
    for row, text in enumerate(texts):
        for template in generator.sample(IMAGENET, 4):
            assert TOKENIZER.is_plain(template.beginning)
            tail = tails[template.ending][row]
            apart += tail is None
            beginning = TOKENIZER.encode([template.beginning])[0]
            assert tail is None or beginning + tail == REFERENCE.encode(template(text)), template(text)
    assert apart < 30


@settings(max_examples=200, deadline=None)
@example(text="\u088fÀ¸\x80")  # cleaned twice it would be another
@given(text=st.text(st.characters(codec="utf-8"), max_size=12))
def test_ids_of_any_text_are_open_clip_s(text):
    expected = REFERENCE.encode(text), REFERENCE.encode(f"a photo of {text.strip()}.")
    tail = TOKENIZER.tails([text.strip() + "."])[0]
    assert TOKENIZER.encode([text])[0] == expected[0]
    assert tail is None or TOKENIZER.encode(["a photo of"])[0] + tail == expected[1]


def test_characters_on_which_libraries_disagree_go_to_open_clip_s_tokenizer():
    newer = "".join(chr(code) for code in range(0x0500, 0x0A00) if category(chr(code)) == "Cn")
    assert len(newer) > 50
    assert TOKENIZER.encode([f"q{letter}!\u0345" for letter in newer]) == [
        REFERENCE.encode(f"q{letter}!\u0345") for letter in newer
    ]


@pytest.mark.parametrize("beginning", ["", "photo:", "a photo of 1 ", "a <b ", "r&d ", "café au ", "a photo of the"])
def test_beginnings_that_could_change_are_not_plain(beginning):
    assert not TOKENIZER.is_plain(beginning)


def test_other_tokenizers_are_not_taken_for_clip_s():
    assert ClipTokenizer.reads_as(REFERENCE)
    assert not ClipTokenizer.reads_as(open_clip.SimpleTokenizer(clean="canonicalize"))
    assert not ClipTokenizer.reads_as(open_clip.SimpleTokenizer(reduction_mask="simple"))
    assert not ClipTokenizer.reads_as(open_clip.SimpleTokenizer(additional_special_tokens=["<mask>"]))


VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3}
ARCHITECTURES = {
    "plain": ({}, True),
    "one-layer": ({"layers": 1, "heads": 4}, True),
    "layer-scale": ({"ls_init_value": 0.5, "proj_bias": True}, True),
    "no-projection": ({"proj_type": "none"}, True),
    "not-causal": ({"no_causal_mask": True}, False),
    "pooled-last": ({"pool_type": "last"}, False),
    "custom-blocks": ({"block_type": "custom"}, False),
}


@pytest.fixture(params=ARCHITECTURES)
def encoder(request, tmp_path):
    """A small CLIP of random weights and whether beginnings can be shared in it."""
    changed, shared = ARCHITECTURES[request.param]
    dimension = 32 if changed.get("proj_type") == "none" else 12
    architecture = {"embed_dim": dimension, "vision_cfg": VISION, "text_cfg": TEXT | changed}
    config = tmp_path / f"{request.param}-clip.json"
    config.write_text(json.dumps(architecture))
    torch.manual_seed(0)
    model = open_clip.CLIP(**architecture)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    entry = OpenClipEncoder(kind="open_clip", model=str(config), weights=str(tmp_path / "weights.pt"), quick_gelu=False)
    return load_encoder(entry, torch.device("cpu")), shared


def test_shared_beginnings_give_the_features_of_whole_prompts(encoder):
    clip, shared = encoder
    assert SharedBeginnings.fits(clip.model) == shared
    templates = [*IMAGENET[::20], *prompt_templates(["{}", "{} it is", "a {} or", "see: {}", "a picture of {} & co."])]
    texts = ["cat", "", "don't", "Â x", "a <end_of_text> b", "日本語 and 日本語", "1 " * 90, "x" * 7]
    found = clip.mean_over_templates(templates, texts)
    assert (found - ImageTextEncoder.mean_over_templates(clip, templates, texts)).abs().max() < 1e-6
    assert (found[0] - found[2]).abs().max() > 1e-5


def test_texts_that_cleaning_joins_to_the_beginning_are_encoded_whole(encoder, monkeypatch):
    clip, _ = encoder
    templates, texts = prompt_templates(["a photo of {}", "a {}!"]), ["cat", "dog", "rabbit"]
    expected = clip.mean_over_templates(templates, texts)
    tails = ClipTokenizer.tails

    def second_apart(self, texts):
        return [None if text.startswith("dog") else tail for text, tail in zip(texts, tails(self, texts), strict=True)]

    monkeypatch.setattr(ClipTokenizer, "tails", second_apart)
    assert (clip.mean_over_templates(templates, texts) - expected).abs().max() < 1e-6
    assert (clip.mean_over_templates(templates, ["dog"]) - expected[1:2]).abs().max() < 1e-6


def test_a_beginning_is_computed_once(encoder, monkeypatch):
    clip, shared = encoder
    if not shared:
        return
    lengths = []
    embedded = SharedBeginnings._embedded

    def noted(self, ids_BT, start):
        lengths.append(tuple(ids_BT.shape))
        return embedded(self, ids_BT, start)

    monkeypatch.setattr(SharedBeginnings, "_embedded", noted)
    for _ in range(2):
        clip.mean_over_templates(prompt_templates(["a photo of a {}", "a photo of a {}!"]), ["cat", "dog"])
    assert lengths == [(1, 5), (2, 2), (2, 3), (2, 2), (2, 3)]
