"""Every family in every use of a language model: equal to plain `transformers`, prompt by prompt, in float32."""

import json
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.families.architectures import SUPPORTED, UNPADDED
from tests.families.reference import Loaded, entry
from v2l.configuration.config import ExpandVocabulary
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.expand_vocabulary import run
from v2l.io.job_files import Inputs
from v2l.llm import language_model
from v2l.llm.engine import generate
from v2l.llm.journal import Journal
from v2l.llm.language_model import load_llm
from v2l.llm.model_facts import weight_bytes
from v2l.llm.prompts import text_prompt
from v2l.llm.row_layout import can_pad
from v2l.llm.token_budget import TokenBudget, bytes_needed
from v2l.llm.vocabulary import Vocabulary
from v2l.tasks.cells import Cell, ShownImages
from v2l.tasks.classification import ClassificationTask, EpisodeQuestion, prompt_of
from v2l.tasks.episodes import Episode
from v2l.tasks.masked import GapQuestion, MaskedPrediction
from v2l.tasks.restoration import RestorationPrediction
from v2l.tasks.restoration_sequences import RestorationQuestion
from v2l.tasks.text_answers import DescribedImage, TextAnswering, TextItem, TextQuery

WITHOUT_KEYS = {"MambaForCausalLM", "Mamba2ForCausalLM", "FalconMambaForCausalLM", "RecurrentGemmaForCausalLM"}
CODES = {"name": "random", "shown_as": "ordinary token", "codebooks": {"local_size": 16}}


@pytest.fixture(scope="module", params=SUPPORTED)
def loaded(request, tmp_path_factory) -> Loaded:
    return Loaded.of(SUPPORTED[request.param], tmp_path_factory.mktemp("families") / "model")


@pytest.fixture
def asked(loaded, monkeypatch):
    """`asked(task, **attributes)`: the answers of a task's language model, which is the family's."""
    words = Vocabulary(loaded.model_tokenizer)
    found = (loaded.model, loaded.model_tokenizer, words)
    monkeypatch.setattr(language_model, "llm_of", lambda config, inputs: found)

    def ask(task: type, questions: list, **attributes) -> list:
        things = {"config": None, "inputs": {"vocabulary": None}, "source": SimpleNamespace(protocol="paper")}
        with Journal("asking", len(questions)) as journal:
            return task._language_model(SimpleNamespace(**(things | attributes)), journal)(questions)

    return ask


@pytest.fixture(scope="module")
def named(loaded) -> set[int]:
    """Ids with a token."""
    return set(loaded.tokenizer.get_vocab().values())


def prompts_of(rows: int) -> list[list[int]]:
    """20 common tokens, then 1 to 28 of their own: more padding than prefix, and more than a window, in one batch."""
    generator = torch.Generator().manual_seed(3)
    head, *tails = (torch.randint(9, rows, (n,), generator=generator).tolist() for n in (20, 3, 9, 1, 28, 9, 17))
    return [head + tail for tail in tails]


def test_batches_equal_each_prompt_alone(loaded):
    prompts = prompts_of(loaded.rows)
    expected = [loaded.generated(prompt, 5) for prompt in prompts]
    assert len({token for row in expected for token in row}) > 2
    for batch_size, tokens in ((1, 4096), (8, 4096), (None, 120), (None, 1)):
        budget = TokenBudget(loaded.model)
        budget.tokens = tokens
        assert generate(loaded.model, prompts, 5, batch_size, budget=budget) == expected, (batch_size, tokens)
    assert [generate(loaded.model, [prompt], 5)[0] for prompt in prompts[:2]] == expected[:2]


def test_limits_stops_and_choices_in_one_batch(loaded):
    prompts, limits = prompts_of(loaded.rows), [1, 4, 0, 3, 2, 4]
    free = [loaded.generated(prompt, 4) for prompt in prompts]
    stops = {free[1][1], free[3][0]}
    expected = [
        loaded.generated(prompt, limit, stops=stops) if limit else []
        for prompt, limit in zip(prompts, limits, strict=True)
    ]
    assert generate(loaded.model, prompts, limits, stop_ids=stops) == expected
    choices = [None, [{free[1][0]}, {7, 5}], [{8}], None, None, None]
    made = generate(loaded.model, prompts, 4, choices=choices)
    assert made[0] == free[0] and made[3:] == free[3:] and made[2][0] == 8
    assert made[1][0] == free[1][0] and made[1][1] in {5, 7}


def test_equal_logits_go_to_the_lowest_id(loaded):
    weight = loaded.model.get_output_embeddings().weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.zero_()
        try:
            assert generate(loaded.model, [[9, 10, 11], [12]], 2) == [[0, 0]] * 2
            assert generate(loaded.model, [[9, 10, 11], [12]], 2, allowed_ids={7, 5, 30}) == [[5, 5]] * 2
        finally:
            weight.copy_(kept)


def test_expansion(loaded, tmp_path):
    section = ExpandVocabulary(llm="tiny", max_subwords=6).model_dump(mode="json")
    config = StageConfig("expand_vocabulary", {"expand_vocabulary": section, "llms": {"tiny": entry(loaded.folder)}})
    config.data["llms"]["tiny"] = entry(loaded.folder).model_dump(mode="json")
    run(StageConfig("expand_vocabulary", config.data), Inputs({}), {"vocabulary": tmp_path / "vocabulary.parquet"})
    rows = pq.read_table(tmp_path / "vocabulary.parquet")["token_ids"].to_pylist()
    words = Vocabulary(loaded.tokenizer)
    allowed = set(range(words.size)) - words.control
    prompt = loaded.beginning(section["prompt"])
    for place in (0, 5):
        subword = rows[place]
        following = loaded.generated([*prompt, *subword], 2, allowed)
        assert rows[6 + place] == subword + following[:1] and rows[12 + place] == subword + following


def test_captions(loaded, asked, named):
    image = DescribedImage("1", "val", [0], "cat")
    items = [
        TextItem(str(n), image, f"Input: {text}, output:", text, frozenset(), {})
        for n, text in enumerate(["a red cat", "dog", "the old boat of a bird"])
    ]
    queries = [TextQuery(0, items[:1], item) for item in items[1:]] + [TextQuery(0, items[:2], items[2])]
    section = SimpleNamespace(max_new_tokens=3, batch_size=8)
    answers = asked(TextAnswering, queries, section=section, instruction="a photo of", marks="\n", name="captions")
    for query, answer in zip(queries, answers, strict=True):
        examples = [(item.heading, item.answer) for item in query.examples]
        prompt = loaded.beginning(text_prompt("a photo of", examples, query.item.heading))
        stops = Vocabulary(loaded.tokenizer).stops("\n")
        assert answer["prompt_ids"] == prompt
        assert answer["output_ids"] == loaded.generated(prompt, 3, named, stops)


def test_classification(loaded, asked, named):
    images = ShownImages(
        np.array(["1", "2", "3"]), np.array(["val"] * 3), np.array(["cat"] * 3), np.array([[0], [1], [2]]),
        [" red", " dog", " small tree"],
    )  # fmt: skip
    episodes = [Episode(0, ["cat", "dog"], [0], [0], 1, "dog"), Episode(1, ["cat", "dog"], [0], [0], 2, "dog")]
    block = [EpisodeQuestion(Cell(2, 1, False, 1, 0), episode) for episode in episodes]
    section = SimpleNamespace(max_new_tokens=3, batch_size=8)
    for question, found in zip(block, asked(ClassificationTask, block, section=section, images=images), strict=True):
        prompt, stops = loaded.beginning(prompt_of(question, images, False)), Vocabulary(loaded.tokenizer).stops("\n")
        assert found.prompt_ids == prompt
        assert found.output_ids == loaded.generated(prompt, 3, named, stops)


def test_restoration(loaded, asked):
    shown = [number for number, _ in Vocabulary(loaded.tokenizer).subwords()][:16]
    questions = [
        RestorationQuestion("1", np.array([[1, 2, 3]]), np.array([[4, 5]]), np.array([6, 7, 8])),
        RestorationQuestion("2", np.array([[9, 2, 3, 1]]), np.array([[4]]), np.array([5, 7, 8, 3])),
    ]
    section = SimpleNamespace(instruction="a photo of {count}", restrict_to_codebook=True, batch_size=8)
    maps = SimpleNamespace(codebook_size=16)
    answers = asked(RestorationPrediction, questions, section=section, tokenizer=CODES, maps=maps)
    for question, answer in zip(questions, answers, strict=True):
        count = question.answer_SM.shape[1]
        prompt = loaded.beginning(f"a photo of {count}")
        for codes, text in ((question.example_SN[0], "Input:"), (question.answer_SM[0], ", output:")):
            prompt += [*loaded.within(text), *(shown[code] for code in codes)]
        prompt += [*loaded.within("\n"), *loaded.within("Input:"), *(shown[code] for code in question.query_N)]
        prompt += loaded.within(", output:")
        assert answer.prompt_ids == prompt
        assert answer.output_ids == loaded.generated(prompt, count, shown)


def test_masked(loaded, asked):
    shown = [number for number, _ in Vocabulary(loaded.tokenizer).subwords()][:16]
    seen_L, masked_L = np.array([3, -1, -1, 7, 2, -1]), np.array([False, True, True, False, False, True])
    filled_L = np.array([3, 4, 5, 7, 2, -1])
    gaps = (("1", seen_L, np.array([1, 2])), ("2", filled_L, np.array([5])))
    questions = [GapQuestion(name, map_L, masked_L, positions) for name, map_L, positions in gaps]
    section, tokens = SimpleNamespace(batch_size=8), SimpleNamespace(tokenizer=CODES)
    answers = asked(MaskedPrediction, questions, section=section, tokens=tokens)
    tokenizer = loaded.tokenizer
    gap = tokenizer.eos_token_id if tokenizer.unk_token_id is None else tokenizer.unk_token_id
    for question, answer in zip(questions, answers, strict=True):
        first = [gap if masked else shown[code] for code, masked in zip(question.seen_L, masked_L, strict=True)]
        second = [shown[code] for code in question.seen_L[: question.positions[0]]]
        prompt = [*loaded.beginning("Picture with gaps:"), *first, *loaded.within("\nPicture:"), *second]
        assert answer.prompt_ids == prompt
        assert answer.output_ids == loaded.generated(prompt, len(question.positions), shown)


def test_context(loaded):
    limit = loaded.family.context
    prompt = [9 + number % 20 for number in range((limit or 200) - 1)]
    assert generate(loaded.model, [prompt], 1) == [loaded.generated(prompt, 1)]
    if limit:
        with pytest.raises(UserError, match=f"{limit - 1} tokens and 2 more.*at most {limit} tokens"):
            generate(loaded.model, [prompt], 2)


def test_memory(loaded):
    weights = {id(weight): weight for weight in loaded.reference.parameters()}
    size = 4 * sum(weight.numel() for weight in weights.values())
    assert size <= weight_bytes(entry(loaded.folder)) <= 1.05 * size
    cached, passing, logits = bytes_needed(loaded.model)
    assert (cached > 0) == (loaded.family.network not in WITHOUT_KEYS) and passing > 0 and logits >= loaded.rows * 4


def test_a_token_takes_the_bytes_of_its_keys_and_values(tmp_path):
    cached, passing, _ = bytes_needed(Loaded.of(SUPPORTED["Llama"], tmp_path / "model").model)
    assert cached == 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, their width, float32
    assert passing == 8 * 64 * 4


def test_who_runs_unpadded(request, loaded):
    name = request.node.callspec.params["loaded"]
    assert can_pad(loaded.model, 100) == (name not in UNPADDED)
    assert can_pad(loaded.model, 32) == (name not in UNPADDED or name == "Phi 3 with longrope")


@pytest.mark.parametrize("name", ["Llama", "Mamba"])
def test_settings_of_generation_in_the_folder_have_no_influence(name, tmp_path):
    plain = Loaded.of(SUPPORTED[name], tmp_path / "model")
    prompts = prompts_of(plain.rows)
    expected = [plain.generated(prompt, 5) for prompt in prompts]
    settings = {"do_sample": True, "temperature": 0.1, "repetition_penalty": 9.0, "suppress_tokens": expected[0]}
    (plain.folder / "generation_config.json").write_text(json.dumps(settings | {"max_length": 3, "num_beams": 2}))
    model, _ = load_llm("tiny", entry(plain.folder), torch.device("cpu"))
    assert generate(model, prompts, 5) == expected


def test_logits_that_are_not_numbers_are_named_in_the_models_own_loop_too(tmp_path):
    model = Loaded.of(SUPPORTED["Mamba"], tmp_path / "model").model
    with torch.no_grad():
        model.get_output_embeddings().weight[:] = torch.nan
    with pytest.raises(UserError, match="logits that are not numbers in float32"):
        generate(model, [[9, 10], [11]], 2)
