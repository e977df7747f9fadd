"""Which entries of released vocabularies are words and why the others are none; `make test` fetches them first."""

import string
from collections import Counter

import pytest

from tests.published_vocabularies import NAMES, are_there, published_tokenizer
from v2l.llm.prompts import classification_prompt
from v2l.llm.text_ids import TextIds
from v2l.llm.token_kinds import FORM, MARKUP, PART, SPECIAL, UNPRINTABLE
from v2l.llm.vocabulary import Vocabulary

pytestmark = pytest.mark.skipif(not are_there(), reason="run `make test`, which fetches the vocabularies")
COUNTS = {  # entries, ordinary subwords, and the others by reason
    "llama-tokenizer-js": (32000, 31831, {SPECIAL: 3, UNPRINTABLE: 36, PART: 130}),
    "tokenizer-llama3": (128256, 126576, {SPECIAL: 256, UNPRINTABLE: 63, PART: 1361}),
    "tokenizer-qwen3": (151669, 150155, {SPECIAL: 14, FORM: 9, MARKUP: 6, UNPRINTABLE: 28, PART: 1457}),
    "tokenizer-gemma3": (262145, 255626, {SPECIAL: 10, FORM: 6244, MARKUP: 69, UNPRINTABLE: 62, PART: 134}),
    "tokenizer-gptoss": (200019, 198383, {SPECIAL: 21, UNPRINTABLE: 31, PART: 1584}),
    "tokenizer-deepseek-v3": (128815, 126489, {SPECIAL: 804, FORM: 14, UNPRINTABLE: 24, PART: 1484}),
}
BEGINNINGS = {  # ids of "Hello this is a test" at the beginning of a sequence
    "llama-tokenizer-js": [1, 15043, 445, 338, 263, 1243],  # in the documentation of transformers' LlamaTokenizer
    "tokenizer-llama3": [9906, 420, 374, 264, 1296],
    "tokenizer-qwen3": [9707, 419, 374, 264, 1273],
    "tokenizer-gemma3": [2, 9259, 672, 563, 496, 1594],
    "tokenizer-gptoss": [13225, 495, 382, 261, 1746],
    "tokenizer-deepseek-v3": [0, 19923, 566, 344, 260, 1950],  # its settings name BOS, which transformers 5 drops
}


@pytest.fixture(scope="module", params=NAMES)
def published(request):
    tokenizer = published_tokenizer(request.param)
    return request.param, tokenizer, Vocabulary(tokenizer)


def test_every_entry_is_a_word_or_has_a_reason(published):
    name, _, words = published
    excluded = words.excluded()
    ordinary = words.subwords()
    assert (words.size, len(ordinary), Counter(reason for _, _, reason in excluded)) == COUNTS[name]
    assert sorted([*(number for number, _ in ordinary), *(number for number, _, _ in excluded)]) == [*range(words.size)]
    assert words.summary().startswith(f"{len(ordinary):,} ordinary, ")


def test_letters_and_pieces_of_html_are_words_and_marks_are_none(published):
    _, tokenizer, words = published
    texts = {text for _, text in words.subwords()}
    assert texts >= {*string.ascii_letters, *string.digits, " a", " cat", "</", "\n"}
    assert not texts & {
        "<s>",
        "</s>",
        "<|im_start|>",
        "<|fim_prefix|>",
        "<tool_call>",
        "<think>",
        "<unused12>",
        "<div>",
    }
    assert set(tokenizer.all_special_ids) <= words.control


def test_a_sequence_begins_as_the_model_knows_it(published):
    name, tokenizer, _ = published
    texts = TextIds(tokenizer)
    assert texts.first("Hello this is a test") == BEGINNINGS[name]
    prompt = classification_prompt(["cat", "dog"], [("fur, paw", "cat"), ("tail", "dog")], "é, 猫, \n", True, 1)
    assert tokenizer.decode(texts.further(prompt)) == prompt


def test_llama_2():
    words = Vocabulary(published_tokenizer("llama-tokenizer-js"))
    ordinary = dict(words.subwords())
    assert [ordinary[number] for number in (263, 264, 259, 29871, 29900, 31999)] == [" a", "en", "  ", " ", "0", "给"]
    characters = {3 + byte: chr(byte) for byte in range(128) if chr(byte).isspace() or chr(byte).isprintable()}
    assert {number: text for number, text in ordinary.items() if number < 259} == characters
    released = words.subwords(reserved=True)
    assert [number for number, _ in released] == [*range(32000)]
    assert [text for _, text in released[:4]] == ["<unk>", "<s>", "</s>", "<0x00>"]
    assert words.excluded()[:4] == [
        (0, "<unk>", SPECIAL),
        (1, "<s>", SPECIAL),
        (2, "</s>", SPECIAL),
        (3, "<0x00>", UNPRINTABLE),
    ]
