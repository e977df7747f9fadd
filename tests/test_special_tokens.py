"""Control tokens of every style of tokenizer: what begins a prompt, what stands for a gap, what is a word."""

import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.test_llm import byte_level_tokenizer, sentencepiece_tokenizer
from tests.tiny import write_llama
from v2l.configuration.evaluation import Restoration
from v2l.errors import UserError
from v2l.llm.engine import generate
from v2l.llm.prompts import (
    MaskedPrompt,
    RestorationPrompt,
    caption_heading,
    classification_prompt,
    question_heading,
    text_prompt,
)
from v2l.llm.text_ids import TextIds
from v2l.llm.token_kinds import EMPTY, FORM, MARKUP, PART, SPECIAL, UNNAMED, control_reason
from v2l.llm.vocabulary import Vocabulary
from v2l.tasks.classification import name_choices


def word_piece(template: str = "[CLS] $A [SEP]") -> PreTrainedTokenizerFast:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]", "a", "cat", "##s", "##nip", ".", "photo", "of"]
    backend = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    backend.post_processor = processors.TemplateProcessing(template, special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    named = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named, mask_token="[MASK]")


def unigram() -> PreTrainedTokenizerFast:
    """As T5's: </s> after every text, sentinels that nothing declares."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", "a", "▁a", "▁photo", "▁of", "s", "<extra_id_0>"]
    backend = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=2))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    backend.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def byte_level(template: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    backend = byte_level_tokenizer().backend_tokenizer
    if template:
        backend.post_processor = processors.TemplateProcessing(template, special_tokens=[("<|endoftext|>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def model_of(rows: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=rows, **sizes, initializer_range=0.5)).eval()


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder with tokenizer.model and no tokenizer.json, as LLaMA, Mistral and Gemma were released."""
    folder = tmp_path_factory.mktemp("llama")
    write_llama(folder)
    return folder


class TestBeginnings:
    @pytest.mark.parametrize(
        "tokenizer, opening",
        [
            (word_piece(), [2]),
            (word_piece("$A [SEP]"), []),
            (unigram(), []),
            (byte_level(), []),
            (byte_level("$A <|endoftext|>", eos_token="<|endoftext|>"), []),
            (byte_level("<|endoftext|> $A <|endoftext|>", eos_token="<|endoftext|>"), [0]),  # OPT's begins so
            (byte_level("<|endoftext|> $A", bos_token="<|endoftext|>"), [0]),
            (byte_level(bos_token="<|endoftext|>"), []),  # GPT-2 names one and never uses it
        ],
    )
    def test_a_text_begins_as_its_template_says_and_never_ends(self, tokenizer, opening):
        texts, plain = TextIds(tokenizer), tokenizer("a photo of", add_special_tokens=False).input_ids
        assert texts.first("a photo of") == opening + plain and texts.further("a photo of") == plain
        assert texts.opening == texts.first("") == opening

    @pytest.mark.parametrize(
        "said, with_json, begins",
        [
            ({"tokenizer_class": "LlamaTokenizer"}, False, True),
            ({"tokenizer_class": "GemmaTokenizer", "bos_token": "<s>"}, False, True),
            (None, False, True),
            ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": True}, False, True),
            ({"tokenizer_class": "LlamaTokenizer", "add_eos_token": True}, False, True),
            ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": False}, False, False),
            ({"tokenizer_class": "LlamaTokenizer", "add_bos_token": True}, True, True),  # transformers 5 drops it
            ({"tokenizer_class": "LlamaTokenizer"}, True, False),  # as a template in tokenizer.json says
            ({"tokenizer_class": "PreTrainedTokenizerFast"}, True, False),
        ],
    )
    def test_sentencepiece_folders(self, released, tmp_path, said, with_json, begins):
        for name in ("config.json", "tokenizer.model", *(["tokenizer.json"] if with_json else [])):
            (tmp_path / name).write_bytes((released / name).read_bytes())
        if said is not None:
            (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
        tokenizer = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=False)
        plain = tokenizer("a photo of", add_special_tokens=False).input_ids
        assert TextIds(tokenizer).first("a photo of") == [1] * begins + plain

    def test_every_prompt_goes_on_where_its_text_ends(self):
        tokenizer = byte_level("$A <|endoftext|>", eos_token="<|endoftext|>")
        restoration = RestorationPrompt(tokenizer, "cat {count}")
        assert 0 not in restoration.ids([([1], [2])], [3], 2)
        masked = MaskedPrompt(tokenizer).ids(torch.tensor([5, 6]).numpy(), torch.tensor([False, False]).numpy(), 1)
        assert 0 not in masked

    def test_half_a_surrogate_pair_is_read_as_a_character(self):
        texts = TextIds(byte_level_tokenizer())
        assert texts.first("cat \ud83d") == texts.first("cat \N{REPLACEMENT CHARACTER}")
        assert texts.first("\ud83d\ude00") == texts.first("\N{GRINNING FACE}")


class TestGaps:
    @pytest.mark.parametrize(
        "tokenizer, gap",
        [
            (sentencepiece_tokenizer(), 0),
            (word_piece(), 1),
            (byte_level(eos_token="<|endoftext|>"), 0),
            (byte_level(pad_token="<|endoftext|>"), 0),
            (byte_level(bos_token="<|endoftext|>"), 0),
        ],
    )
    def test_a_gap_is_a_token_without_a_word(self, tokenizer, gap):
        map_L, masked_L = torch.tensor([7, 8]).numpy(), torch.tensor([False, True]).numpy()
        texts = TextIds(tokenizer)
        head, middle = texts.first("Picture with gaps:"), texts.further("\nPicture:")
        assert MaskedPrompt(tokenizer).ids(map_L, masked_L, 1) == [*head, 7, gap, *middle, 7]

    def test_undeclared_special_tokens_serve_and_none_is_refused(self):
        backend = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
        with pytest.raises(UserError, match="no special token.*unk_token, eos_token.*evaluate_llm.masked.tokenizers"):
            MaskedPrompt(tokenizer)
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|gap|>"]})
        ids = MaskedPrompt(tokenizer).ids(torch.tensor([1]).numpy(), torch.tensor([True]).numpy(), 0)
        assert tokenizer.convert_tokens_to_ids("<|gap|>") in ids


class TestKinds:
    @pytest.mark.parametrize(
        "token",
        [
            *("<|fim_prefix|>", "<|im_start|>", "<|image_pad|>", "<|reserved_special_token_7|>", "<|EOT|>"),
            *("<｜begin▁of▁sentence｜>", "<｜User｜>", "<unused12>", "[unused7]", "[control_12]", "<SPECIAL_12>"),
            *("<extra_id_0>", "[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>", "<fim_prefix>", "</s>", "[MASK]"),
            *("[TOOL_CALLS]", "[gMASK]", "<reserved_106>", "[PAD]", "[IMG_BREAK]"),
        ],
    )
    def test_exact_forms_are_control_tokens(self, token):
        assert control_reason(token, special=False, added=False) == FORM

    @pytest.mark.parametrize("token", ["<tool_call>", "</think>", "<repo_name>", "[multimodal]", "<table>"])
    def test_other_markup_is_none_only_where_it_was_added(self, token):
        assert control_reason(token, special=False, added=True) == MARKUP
        assert control_reason(token, special=False, added=False) is None

    @pytest.mark.parametrize("token", ["</", "<div", "><", "[]", "<>", "[0]<", "<|", "|>", "[i", "<-", "▁<", "\n\n"])
    def test_pieces_of_code_are_words(self, token):
        assert control_reason(token, special=False, added=False) is None
        assert control_reason(token, special=False, added=token == "\n\n") is None

    def test_what_the_tokenizer_declares_comes_first(self):
        assert control_reason("kitten", special=True, added=True) == SPECIAL
        assert control_reason("kitten", special=False, added=True) is None
        assert control_reason(None, special=False, added=False) == UNNAMED

    def test_added_tokens(self):
        tokenizer = byte_level_tokenizer()
        tokenizer.add_tokens(["<tool_call>", AddedToken("kitten", normalized=False)])
        words = Vocabulary(tokenizer)
        ids = tokenizer.get_vocab()
        assert dict(words.subwords())[ids["kitten"]] == "kitten"
        assert (ids["<tool_call>"], "<tool_call>", MARKUP) in words.excluded()
        assert {ids["<tool_call>"], 0} <= words.stops("\n") and ids["kitten"] not in words.stops("\n")

    def test_each_family_s_texts(self):
        words = Vocabulary(word_piece())
        texts = dict(words.subwords())
        assert [texts[number] for number in (7, 8, 9)] == [" cat", "s", "nip"] and words.text([7, 8]) == " cats"
        assert sorted({number for number, _, _ in words.excluded()}) == [0, 1, 2, 3, 4, 5]
        texts = dict(Vocabulary(unigram()).subwords())
        assert texts == {3: " ", 4: "a", 5: " a", 6: " photo", 7: " of", 8: "s"}

    def test_a_vocabulary_of_bytes_alone(self):
        pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
        backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], byte_fallback=True))
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
        words = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
        assert dict(words.subwords())[1 + ord("A")] == "A" and words.text([1 + 0xC3, 1 + 0xA9]) == "é"
        assert (1 + 0xC3, "<0xC3>", PART) in words.excluded()

    def test_a_vocabulary_of_another_script(self):
        pieces = ["<unk>", "▁", "猫", "犬", "▁猫"]
        backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [("▁", "猫")], unk_token="<unk>"))
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.decoder = decoders.Replace("▁", " ")
        words = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
        assert words.subwords() == [(1, " "), (2, "猫"), (3, "犬"), (4, " 猫")]

    def test_a_vocabulary_without_text_is_refused(self):
        backend = Tokenizer(models.BPE({"<unk>": 0, "<s>": 1}, [], unk_token="<unk>"))
        with pytest.raises(UserError, match="none of the tokenizer's 2 ids stands for text"):
            Vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))

    def test_tokens_that_decode_to_nothing_are_no_words(self):
        backend = Tokenizer(models.BPE({"<unk>": 0, "a": 1, "~": 2}, [], unk_token="<unk>"))
        backend.decoder = decoders.Sequence([decoders.Replace("~", ""), decoders.Fuse()])
        words = Vocabulary(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
        assert words.excluded() == [(0, "<unk>", SPECIAL), (2, "~", EMPTY)]


class TestOutputsWithoutToken:
    def test_they_are_never_generated(self):
        tokenizer = byte_level_tokenizer()
        words, model = Vocabulary(tokenizer), model_of(512)
        with torch.no_grad():
            model.lm_head.weight[words.size :] *= 100
        free = generate(model, [[5, 6], [7]], 4)
        assert max(max(ids) for ids in free) >= words.size
        named = words.named_ids(model)
        assert named == [*range(words.size)]
        made = generate(model, [[5, 6], [7]], 4, allowed_ids=named)
        assert max(max(ids) for ids in made) < words.size
        assert made == generate(model, [[5, 6], [7]], 4, allowed_ids=named, choices=[None, None])

    def test_a_model_of_the_tokenizer_s_size_is_free(self):
        words = Vocabulary(byte_level_tokenizer())
        assert words.named_ids(model_of(words.size)) is None


def test_names_are_constrained_without_an_end_token():
    question = SimpleNamespace(
        cell=SimpleNamespace(induction=True), episode=SimpleNamespace(class_names=["cat", "at a"])
    )
    without = name_choices(byte_level(), question, 9)
    with_end = name_choices(byte_level(eos_token="<|endoftext|>"), question, 9)
    assert [ids | {0} for ids in without] == with_end and all(None not in ids for ids in without)


TEXT = st.text(st.characters(), max_size=12)  # surrogates among them
STYLES = [byte_level_tokenizer(), sentencepiece_tokenizer(), word_piece(), unigram()]


class TestAnyText:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(TEXT, min_size=1, max_size=3), TEXT, st.booleans(), st.booleans())
    def test_prompts_of_any_text(self, names, words, induction, released):
        prompts = [
            classification_prompt(names, [(words, name) for name in names], words, induction, 1, released),
            text_prompt(words, [(caption_heading(words), name) for name in names], question_heading(words, names[0])),
        ]
        for tokenizer in STYLES:
            texts = TextIds(tokenizer)
            for prompt in prompts:
                ids = texts.first(prompt)
                assert ids[len(texts.opening) :] == texts.further(prompt) and all(type(number) is int for number in ids)

    @settings(max_examples=60, deadline=None)
    @given(st.text(st.characters(exclude_categories=["Cs"])))
    def test_byte_level_pieces_come_back_as_they_were(self, text):
        tokenizer = STYLES[0]
        assert Vocabulary(tokenizer).text(TextIds(tokenizer).further(text)) == text

    @settings(max_examples=60, deadline=None)
    @given(st.text(st.sampled_from("{}count %s\\\n"), max_size=30), st.integers(1, 99))
    def test_an_instruction_may_hold_any_braces(self, instruction, count):
        section = Restoration(instruction=instruction)
        ids = RestorationPrompt(STYLES[0], section.instruction).ids([], [5], count)
        head = TextIds(STYLES[0]).first(instruction.replace("{count}", str(count)))
        assert ids[: len(head)] == head
