"""Loading, words of single ids, the generation engine and prompts, on tiny models made here."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.tiny_gguf import write_gguf
from v2l.configuration.model_entries import LLM
from v2l.errors import UserError
from v2l.llm import batches
from v2l.llm.engine import generate
from v2l.llm.greedy_decoding import GreedyDecoder
from v2l.llm.language_model import load_llm
from v2l.llm.prompts import RestorationPrompt, answer_of, classification_prompt, join_words
from v2l.llm.token_budget import TokenBudget
from v2l.llm.vocabulary import Vocabulary


def sentencepiece_tokenizer(extra: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """As LLaMA-2's: control tokens, 256 byte tokens, merged pieces, the space as U+2581."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "a", "c", "t", "o", "f", "▁a", "▁c", "at", "▁cat", *extra]
    merges = [("▁", "a"), ("▁", "c"), ("a", "t"), ("▁c", "at")]
    backend = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    strip = decoders.Strip(content=" ", left=1)
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), strip])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """As GPT-2's and SmolLM2's: one control token, 256 byte tokens, two merged pieces."""
    pieces = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "at", "cat", "Ġcat"]
    merges = [("a", "t"), ("c", "at"), ("Ġ", "cat")]
    backend = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False
    )


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.4,  # far from uniform logits, so that greedy choices are clear
    )
    return LlamaForCausalLM(config).eval()


def naive(model, prompt: list[int], count: int, allowed: list[int] | None = None) -> list[int]:
    """Greedy continuation of one prompt, everything computed anew for each token."""
    ids = list(prompt)
    for _ in range(count):
        logits_V = model(torch.tensor([ids]), use_cache=False).logits[0, -1].detach()
        if allowed is not None:
            logits_V = torch.full_like(logits_V, -torch.inf).index_copy(0, torch.tensor(allowed), logits_V[allowed])
        ids.append(int(logits_V.argmax()))
    return ids[len(prompt) :]


def numbers_read(model, prompts: list[list[int]], limit: int, options: dict) -> int:
    """How often generation turned a tensor into a Python number."""
    budget = TokenBudget(model)
    with torch.profiler.profile() as profile:
        generate(model, prompts, limit, budget=budget, **options)
    return sum(event.count for event in profile.key_averages() if event.key == "aten::_local_scalar_dense")


def random_prompts(shared: int = 0) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    head = torch.randint(300, (shared,), generator=generator).tolist()
    lengths = [3, 17, 1, 9, 9, 26, 4]
    return [head + torch.randint(300, (length,), generator=generator).tolist() for length in lengths]


class TestWords:
    def test_sentencepiece_ids_become_their_words(self):
        tokenizer = sentencepiece_tokenizer(extra=("[unused7]",))
        words = dict(Vocabulary(tokenizer).subwords())
        ids = tokenizer.get_vocab()
        assert words[ids["▁cat"]] == " cat" and words[ids["at"]] == "at" and words[ids["▁"]] == " "
        assert words[ids["<0x41>"]] == "A" and words[ids["<0x0A>"]] == "\n"
        for left_out in ("<unk>", "<s>", "</s>", "<0xE2>", "<0x00>", "[unused7]"):
            assert ids[left_out] not in words

    def test_byte_level_ids_become_their_words(self):
        tokenizer = byte_level_tokenizer()
        words = dict(Vocabulary(tokenizer).subwords())
        ids = tokenizer.get_vocab()
        assert words[ids["Ġcat"]] == " cat" and words[ids["cat"]] == "cat" and words[ids["Ġ"]] == " "
        assert ids["<|endoftext|>"] not in words
        assert ids["â"] not in words  # the byte 0xE2 begins a character and is none

    def test_both_families_read_several_ids_alike(self):
        for tokenizer, space in ((sentencepiece_tokenizer(), "▁"), (byte_level_tokenizer(), "Ġ")):
            ids = tokenizer.get_vocab()
            assert Vocabulary(tokenizer).text([ids[space + "cat"], ids["a"], ids[space]]) == " cata "

    def test_subwords_are_in_id_order_and_reserved_keeps_all(self):
        words = Vocabulary(sentencepiece_tokenizer())
        assert [number for number, _ in words.subwords()] == sorted(dict(words.subwords()))
        everything = words.subwords(reserved=True)
        assert [number for number, _ in everything] == list(range(words.size))
        assert dict(everything)[1] == "<s>"

    def test_another_vocabulary_is_refused_with_names_and_hashes(self):
        mine, other = Vocabulary(sentencepiece_tokenizer()), Vocabulary(sentencepiece_tokenizer(extra=("▁of",)))
        mine.require("llama", mine.identity("a copy of llama"), "tokens.parquet")
        with pytest.raises(UserError) as caught:
            mine.require("llama", other.identity("other"), "tokens.parquet")
        message = str(caught.value)
        for part in ("llama", "other", "tokens.parquet", "269 ids", "270 ids", mine.identity("")["sha256"][:12]):
            assert part in message
        assert other.identity("")["sha256"][:12] in message


class TestLoading:
    def test_a_saved_model_comes_back(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        sentencepiece_tokenizer().save_pretrained(tmp_path)
        loaded, tokenizer = load_llm("tiny", LLM(path=str(tmp_path), dtype="bfloat16"), torch.device("cpu"))
        assert loaded.dtype == torch.bfloat16 and not loaded.training
        assert Vocabulary(tokenizer).identity("x") == Vocabulary(sentencepiece_tokenizer()).identity("x")

    def test_missing_parts_are_named(self, model, tmp_path):
        def load():
            return load_llm("tiny", LLM(path=str(tmp_path / "llm")), torch.device("cpu"))

        with pytest.raises(UserError, match=r"`llms\.tiny\.path`: .*llm is not a folder.*fetch_assets"):
            load()
        model.save_pretrained(tmp_path / "llm")
        with pytest.raises(UserError, match=r"`llms\.tiny\.path`: .* has no tokenizer\.json or tokenizer\.model"):
            load()
        sentencepiece_tokenizer().save_pretrained(tmp_path / "llm")
        (tmp_path / "llm" / "config.json").write_text("{")
        with pytest.raises(UserError, match=r"`llms\.tiny\.path`: .*config\.json cannot be read as JSON"):
            load()

    def test_a_truncated_weight_file_is_named(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        sentencepiece_tokenizer().save_pretrained(tmp_path)
        weights = tmp_path / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:1000])
        with pytest.raises(UserError, match=r"`llms\.tiny\.path`: .* is no safetensors file, or is damaged"):
            load_llm("tiny", LLM(path=str(tmp_path)), torch.device("cpu"))
        weights.write_bytes(whole[:-1])
        with pytest.raises(UserError, match=r"`llms\.tiny\.path`: .* is cut off: it has"):
            load_llm("tiny", LLM(path=str(tmp_path)), torch.device("cpu"))

    def test_missing_weights_are_never_drawn_at_random(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        sentencepiece_tokenizer().save_pretrained(tmp_path)
        tensors = load_file(tmp_path / "model.safetensors")
        del tensors["model.layers.1.mlp.up_proj.weight"]
        save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(UserError, match=r"lacks weights model\.layers\.1\.mlp\.up_proj\.weight"):
            load_llm("tiny", LLM(path=str(tmp_path)), torch.device("cpu"))

    def test_a_tokenizer_of_a_larger_vocabulary_is_refused(self, tmp_path):
        config = LlamaConfig(
            vocab_size=100, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
        LlamaForCausalLM(config).save_pretrained(tmp_path)
        sentencepiece_tokenizer().save_pretrained(tmp_path)
        with pytest.raises(UserError, match="has 269 ids, the model embeds 100"):
            load_llm("tiny", LLM(path=str(tmp_path)), torch.device("cpu"))


class TestPlacement:
    """Models by file and spread over devices; the tokens are those of the model as a whole."""

    def test_a_gguf_file_is_a_model(self, tmp_path):
        tokens, weights = write_gguf(tmp_path / "tiny.gguf")
        model, tokenizer = load_llm("g", LLM(path=str(tmp_path / "tiny.gguf"), dtype="float32"), torch.device("cpu"))
        assert model.dtype == torch.float32
        assert model.model.embed_tokens.weight.tolist() == weights["token_embd"].tolist()
        assert len(Vocabulary(tokenizer).subwords()) > 90 and tokenizer("ab").input_ids[-1] == tokens.index("ab")
        assert generate(model, [[5, 6, 7]], 4, 1) == [naive(model, [5, 6, 7], 4)]

    def test_a_missing_or_broken_gguf_file_is_named(self, tmp_path):
        path = tmp_path / "none.gguf"
        with pytest.raises(UserError, match=r"`llms\.g\.path`: .*none\.gguf is not a folder.*or a \.gguf file"):
            load_llm("g", LLM(path=str(path)), torch.device("cpu"))
        path.write_bytes(b"GGUF" + bytes(20))
        with pytest.raises(UserError, match=r"`llms\.g\.path`: .*none\.gguf is no GGUF file, or cut off"):
            load_llm("g", LLM(path=str(path)), torch.device("cpu"))

    @pytest.mark.parametrize("place", ["auto", "disk", "all on disk"])
    def test_a_device_map_changes_no_token(self, model, tmp_path, place):
        model.save_pretrained(tmp_path / "llm")
        sentencepiece_tokenizer().save_pretrained(tmp_path / "llm")
        parts = ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head"]
        where = dict.fromkeys(parts, "disk" if place == "all on disk" else "cpu") | {"model.layers.1": "disk"}
        (tmp_path / "map.json").write_text(json.dumps(where))
        device_map = "auto" if place == "auto" else str(tmp_path / "map.json")
        spread, _ = load_llm(
            "m", LLM(path=str(tmp_path / "llm"), dtype="float32"), torch.device("cpu"), device_map, tmp_path / "offload"
        )
        if place != "auto":
            assert spread.model.layers[1].mlp.up_proj.weight.device.type == "meta"  # comes from disk when needed
        prompts = random_prompts(shared=5)
        assert generate(spread, prompts, 3, 2) == generate(model, prompts, 3, 2)

    def test_a_device_map_that_cannot_be_read_is_named(self, model, tmp_path):
        model.save_pretrained(tmp_path)
        sentencepiece_tokenizer().save_pretrained(tmp_path)
        with pytest.raises(UserError, match="resource `device_map` of evaluate_llm: none.json cannot be read"):
            load_llm("m", LLM(path=str(tmp_path)), torch.device("cpu"), "none.json")
        with pytest.raises(UserError, match="cannot be loaded with device map nowhere.*correct resource `device_map`"):
            load_llm("m", LLM(path=str(tmp_path)), torch.device("cpu"), "nowhere")


class TestGenerate:
    @pytest.mark.parametrize("shared", [0, 5])
    @pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 20])
    def test_equals_one_prompt_at_a_time_whatever_the_batch_size(self, model, batch_size, shared):
        prompts = random_prompts(shared)
        expected = [naive(model, prompt, 6) for prompt in prompts]
        assert generate(model, prompts, 6, batch_size) == expected

    def test_equal_prompts_and_a_single_one(self, model):
        prompt = random_prompts()[1]
        assert generate(model, [prompt, prompt], 4, 8) == [naive(model, prompt, 4)] * 2
        assert generate(model, [prompt], 4, 8) == [naive(model, prompt, 4)]
        assert generate(model, [], 4, 8) == []

    def test_a_limit_for_each_prompt(self, model):
        prompts, limits = random_prompts(), [1, 5, 0, 2, 3, 1, 4]
        expected = [naive(model, prompt, limit) for prompt, limit in zip(prompts, limits, strict=True)]
        assert generate(model, prompts, limits, 3) == expected

    def test_a_stop_id_ends_its_own_sequence_only(self, model):
        prompts = random_prompts()
        free = [naive(model, prompt, 6) for prompt in prompts]
        stop = free[0][1]
        expected = [row[: row.index(stop) + 1] if stop in row else row for row in free]
        assert len(expected[0]) <= 2 and any(len(row) == 6 for row in expected)
        assert generate(model, prompts, 6, 4, stop_ids={stop}) == expected

    def test_only_allowed_ids_are_chosen(self, model):
        prompts, allowed = random_prompts(), [7, 50, 51, 200, 299]
        made = generate(model, prompts, 5, 3, allowed_ids=allowed)
        assert made == [naive(model, prompt, 5, allowed) for prompt in prompts]
        assert {number for row in made for number in row} <= set(allowed)

    def test_choices_are_of_a_prompt_and_a_place(self, model):
        prompts = random_prompts()
        free = [naive(model, prompt, 3) for prompt in prompts]
        choices = [[{7, 9}, {50, 60, 70}, {299}], None, [{1}, {2}, {3}], *[None] * 4]
        made = generate(model, prompts, 3, 3, choices=choices)
        assert made[2] == [1, 2, 3] and [made[n] for n in (1, 3, 4, 5, 6)] == [free[n] for n in (1, 3, 4, 5, 6)]
        logits_V = model(torch.tensor([prompts[0]])).logits[0, -1].detach()
        assert made[0][0] == max((7, 9), key=lambda number: float(logits_V[number])) and made[0][2] == 299

    def test_equal_logits_go_to_the_lowest_id(self, model):
        with torch.no_grad():
            before = model.lm_head.weight.clone()
            model.lm_head.weight.zero_()
        prompts = random_prompts()
        choices = [[{90, 20}], None, [{7}], *[[{250, 33, 40}]] * 4]
        try:
            assert generate(model, prompts, 1) == [[0]] * 7
            assert generate(model, prompts, 1, allowed_ids={60, 50}) == [[50]] * 7
            assert generate(model, prompts, 1, choices=choices) == [[20], [0], [7], *[[33]] * 4]
        finally:
            with torch.no_grad():
                model.lm_head.weight.copy_(before)

    @pytest.mark.parametrize("limit", [2, 5])
    def test_no_number_is_read_for_each_row(self, model, monkeypatch, limit):
        """Reading waits for the device. Without stop ids answers are read at the end, as whole tensors."""
        monkeypatch.setattr(batches, "BATCH_COST", 10**6)  # all in one
        prompts, choices = random_prompts(shared=5), [[{7, 9}, {50, 60, 70}], *[None] * 6]
        for options in ({}, {"allowed_ids": range(200)}, {"choices": choices}):
            assert numbers_read(model, prompts, limit, options) == limit - 1  # transformers: is anything masked?
            assert numbers_read(model, [prompts[1]] * 7, limit, options) == 0

    def test_the_next_batch_is_prepared_before_the_last_is_read(self, model, monkeypatch):
        said, prepare, choose = [], GreedyDecoder.prepare, GreedyDecoder._choose
        made, made_of = GreedyDecoder._made, "read"
        monkeypatch.setattr(GreedyDecoder, "prepare", lambda *a: said.append("prepared") or prepare(*a))
        monkeypatch.setattr(GreedyDecoder, "_choose", lambda *a: said.append("computed") or choose(*a))
        monkeypatch.setattr(GreedyDecoder, "_made", lambda *a: said.append(made_of) or made(*a))
        generate(model, [[5, 6, 7]] * 6, 2, 2)
        once = ["computed", "prepared", "computed", "read"]
        assert said == ["prepared", *once, *once, "computed", "computed", "read"]

    def test_a_prompt_beyond_the_context_is_named_and_never_cut(self, model):
        prompts = [[1, 2], [3] * 60]
        with pytest.raises(UserError, match="episode 4 has 60 tokens and 5 more may follow.*at most 64.*lower repeats"):
            generate(model, prompts, 5, 2, names=["episode 3", "episode 4"], remedy="lower repeats")
        assert len(generate(model, prompts, 4, 2)[1]) == 4


class TestMemory:
    """Batches that do not fit: rows of a card with room for some tokens only."""

    @pytest.fixture(params=[torch.OutOfMemoryError(), MemoryError(), RuntimeError("DefaultCPUAllocator: no memory")])
    def room(self, monkeypatch, request):
        """Computed batches as (rows, tokens of a row); those of more than `tokens` in all run out of memory."""
        computed, run = [], GreedyDecoder.run
        monkeypatch.setattr(batches, "BATCH_COST", 10**6)

        def limit(tokens: int) -> list[tuple[int, int]]:
            def within(decoder, batch, meanwhile):
                rows = len(batch.indices)
                if rows * batch.length > tokens:
                    if rows % 2:  # before or after the next batch is prepared
                        meanwhile()
                    raise request.param
                computed.append((rows, batch.length))
                return run(decoder, batch, meanwhile)

            monkeypatch.setattr(GreedyDecoder, "run", within)
            return computed

        return limit

    @pytest.mark.parametrize("tokens", [40, 64, 100, 200])
    def test_batches_are_halved_until_they_fit_and_the_answers_stay(self, model, room, caplog, tokens):
        prompts = random_prompts(shared=5)
        expected, budget = [naive(model, prompt, 3) for prompt in prompts], TokenBudget(model)
        computed = room(tokens)
        assert generate(model, prompts, 3, budget=budget) == expected
        assert sum(rows for rows, _ in computed) == 7 and len(computed) > 1
        assert max(rows * length for rows, length in computed) <= tokens
        said = [record.message for record in caplog.records]
        assert said and all("out of memory: a batch of" in line and "MB on cpu" in line for line in said)
        caplog.clear()
        assert generate(model, prompts, 3, budget=budget) == expected
        assert not caplog.records, "later calls keep to the smaller budget"

    def test_a_prompt_that_does_not_fit_alone_is_named(self, model, room):
        room(25)
        with pytest.raises(
            UserError, match=r"episode 5, 31 tokens .* not fit in memory.* MB on cpu.*device_map.*lower"
        ):
            names = [f"episode {number}" for number in range(7)]
            generate(model, random_prompts(shared=2), 3, names=names, remedy="lower repeats")

    def test_a_small_budget_makes_small_batches(self, model, room):
        budget, computed = TokenBudget(model), room(10**6)
        budget.tokens = 60
        generate(model, [[number] * 9 for number in range(1, 20)], 1, budget=budget)
        rows = 60 // (10 + budget.overhead)
        assert computed[-1] == (rows, 10) and max(computed) == (rows, 10)


class TestPrompts:
    def test_classification_prompt(self):
        support = [(join_words([" cat", "paw of"]), "cat"), (join_words([" car", " wheel"]), "car")]
        block = "###\nInput: < cat, paw of >\nOutput: cat\n###\nInput: < car, wheel >\nOutput: car\n"
        question = "###\nInput: < fur >\nOutput:"
        assert classification_prompt(["car", "cat"], support, "fur", induction=False, repeats=0) == block + question
        told = classification_prompt(["cat", "car"], support, "fur", induction=True, repeats=2)
        assert told == INDUCTION.format("car, cat") + block * 3 + question

    def test_an_answer_ends_at_the_newline(self):
        assert answer_of(" king crab \n###") == "king crab"
        assert answer_of("king crab") == "king crab"
        assert answer_of("\nking crab") == ""

    def test_restoration_prompt_splices_ids(self):
        instruction = RESTORATION.replace("2", "{count}")
        tokenizer = byte_level_tokenizer()
        prompt = RestorationPrompt(tokenizer, instruction).ids([([258], [1, 2]), ([259], [3, 4])], [257, 258], 2)
        pieces = [tokenizer(text).input_ids for text in (RESTORATION, "Input:", ", output:", "\n")]
        head, shown, answer, end = pieces
        expected = head + shown + [258] + answer + [1, 2] + end + shown + [259] + answer + [3, 4] + end
        assert prompt == expected + shown + [257, 258] + answer


INDUCTION = "Each list of words describes a picture. Name what it shows: {}.\n"
RESTORATION = "Learn a new language and predict the 2 tokens that follow, as in the examples.\n"
