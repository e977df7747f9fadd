"""The styles of tokenizer that language models come with, trained on the tiny corpus: one function for each.

Each returns the parts of a Hugging Face folder: the `tokenizers` object and the entries of tokenizer_config.json.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel, Sequence, TemplateProcessing

from tests.tiny import sentences

SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
Built = tuple[Tokenizer, dict[str, Any]]


def template(tokenizer: Tokenizer, single: str) -> TemplateProcessing:
    special = [part for part in single.split() if part != "$A"]
    return TemplateProcessing(single=single, special_tokens=[(part, tokenizer.token_to_id(part)) for part in special])


def byte_level(special: list[str], single: str | None = None, split: str | None = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    whole = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=split is None)
    parts = [pre_tokenizers.Split(Regex(split), "isolated")] if split else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*parts, whole])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    tokenizer.add_special_tokens(special)
    bytes_only = ByteLevel(trim_offsets=False)
    tokenizer.post_processor = Sequence([bytes_only, template(tokenizer, single)]) if single else bytes_only
    return tokenizer


def sentencepiece(special: list[str], prefix: bool, single: str) -> Tokenizer:
    """BPE over U+2581 with byte fallback; `prefix`: a text begins with a space."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(vocab_size=100, show_progress=False)
    trained.train_from_iterator(sentences(), trainer)
    model = json.loads(trained.to_str())["model"]
    pieces = [*special, *BYTES, *sorted(model["vocab"], key=model["vocab"].get)]
    merges = [tuple(pair) for pair in model["merges"]]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", "▁")
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prefix else replace
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(content=" ", left=1)] if prefix else parts)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.post_processor = template(tokenizer, single)
    return tokenizer


def unigram(special: list[str], single: str) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    tokenizer.post_processor = template(tokenizer, single)
    return tokenizer


def gpt2() -> Built:
    token = "<|endoftext|>"
    named = {"bos_token": token, "eos_token": token, "unk_token": token}
    return byte_level([token]), {"tokenizer_class": "GPT2Tokenizer"} | named


def qwen() -> Built:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = byte_level(special, split=SPLIT)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("<tool_call>", normalized=False), AddedToken("<|fim_prefix|>", normalized=False)])
    return tokenizer, {"tokenizer_class": "Qwen2Tokenizer", "eos_token": special[2], "pad_token": special[0]}


def llama3() -> Built:
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|eot_id|>"]
    tokenizer = byte_level(special, "<|begin_of_text|> $A", SPLIT)
    return tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": special[0], "eos_token": special[1]}


def opt() -> Built:
    named = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    return byte_level(["<pad>", "</s>"], "</s> $A"), {"tokenizer_class": "PreTrainedTokenizerFast"} | named


def llama() -> Built:
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = sentencepiece(["<unk>", "<s>", "</s>"], True, "<s> $A")
    return tokenizer, {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True} | named


def llama_closed() -> Built:
    """With `add_eos_token`, as fine-tuned releases have it: a text is closed."""
    tokenizer, entries = llama()
    tokenizer.post_processor = template(tokenizer, "<s> $A </s>")
    return tokenizer, entries | {"add_eos_token": True}


def gemma() -> Built:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<unused0>", "<unused1>", "<start_of_turn>", "<end_of_turn>"]
    named = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return sentencepiece(special, False, "<bos> $A"), {"tokenizer_class": "GemmaTokenizer"} | named


def xglm() -> Built:
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return unigram(special, "</s> $A"), {"tokenizer_class": "PreTrainedTokenizerFast"} | named


def unigram_closed() -> Built:
    """As T5's: no beginning, `</s>` at the end."""
    special = ["<pad>", "</s>", "<unk>", "<extra_id_0>"]
    named = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return unigram(special, "$A </s>"), {"tokenizer_class": "PreTrainedTokenizerFast"} | named


def wordpiece() -> Built:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    tokenizer.post_processor = template(tokenizer, "[CLS] $A [SEP]")
    named = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    return tokenizer, {"tokenizer_class": "PreTrainedTokenizerFast", "mask_token": "[MASK]"} | named


class Style(NamedTuple):
    """A way to build a tokenizer, and the tokens that it puts before and after every text."""

    build: Callable[[], Built]
    opening: list[str]
    closing: list[str]


STYLES = {
    "byte-level BPE": Style(gpt2, [], []),
    "byte-level BPE with added tokens": Style(qwen, [], []),
    "byte-level BPE with BOS": Style(llama3, ["<|begin_of_text|>"], []),
    "byte-level BPE with EOS in front": Style(opt, ["</s>"], []),
    "SentencePiece BPE": Style(llama, ["<s>"], []),
    "SentencePiece BPE, closed": Style(llama_closed, ["<s>"], ["</s>"]),
    "SentencePiece BPE without prefix": Style(gemma, ["<bos>"], []),
    "Unigram": Style(xglm, ["</s>"], []),
    "Unigram, closed": Style(unigram_closed, [], ["</s>"]),
    "WordPiece, closed": Style(wordpiece, ["[CLS]"], ["[SEP]"]),
}
