"""Captioning and visual question answering in stage evaluate_llm: what is asked, shown and written down."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.test_evaluate_llm import CLASSES, IMAGES, entry, inputs  # noqa: F401
from tests.token_experiment import task_section
from v2l.configuration.slices import StageConfig
from v2l.data.manifest import SCHEMA as MANIFEST
from v2l.errors import UserError
from v2l.evaluate_llm import run
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, write_parquet
from v2l.llm.language_model import load_llm
from v2l.llm.prompts import answer_of
from v2l.llm.vocabulary import Vocabulary

SECTION = {"support_split": "train", "query_split": "val", "in_context_examples": 2, "tokens": 3, "batch_size": 3}
TASKS = {
    "captioning": SECTION | {"images": 6, "max_new_tokens": 5},
    "vqa": SECTION | {"questions": 9, "max_new_tokens": 4, "contexts": 2},
}


@pytest.fixture(scope="module")
def described(inputs, tmp_path_factory):  # noqa: F811
    """The inputs of test_evaluate_llm with two captions (class 3: none) and two questions for each image."""
    rows = []
    for label in range(CLASSES):
        for image in range(IMAGES):
            captions = [f"Picture {image} of {label}. It is nice", f"A {label}"] if label < 3 else []
            questions = [
                {"question_id": f"{label}{image}{part}", "question": text, "answer": answer, "answers": [answer] * 10}
                for part, (text, answer) in enumerate([("What is it?", f"name {label}"), ("Is it red?", "yes")])
            ]
            split = "train" if image < 4 else "val"
            rows.append((f"{label}/{image}.png", split, label, f"name {label}", captions, questions, 8, 8))
    path = tmp_path_factory.mktemp("described") / "manifest.parquet"
    metadata = {"dataset": parquet_metadata(inputs["manifest"])["dataset"]}
    write_parquet(path, pa.table(list(zip(*rows, strict=True)), schema=MANIFEST), {}, metadata)
    return inputs | {"manifest": path}


def predictions(files: dict, path: Path, task: str, predictor: str = "tiny", shards: int = 1, **changes) -> list[dict]:
    work = {"work": str(path.parent / "work")} if shards > 1 else {}
    data = {
        "seed": changes.pop("seed", 0),
        "job": {"tokenizer": "few", "predictor": predictor, "protocol": "paper", "task": task} | work,
        "evaluate_llm": task_section(task, TASKS[task] | changes),
        "llms": {"tiny": {"path": str(files["llm"]), "dtype": "float32"}},
    }
    names = ("tokens", "vocabulary", "words", "manifest")
    config = StageConfig("evaluate_llm", data, {"shards": str(shards)})
    run(config, Inputs({name: files[name] for name in names}), {"predictions": path})
    return pq.read_table(path).to_pylist()


@pytest.fixture(scope="module")
def captioned(described, tmp_path_factory):
    return predictions(described, tmp_path_factory.mktemp("captioned") / "p.parquet", "captioning")


@pytest.fixture(scope="module")
def answered(described, tmp_path_factory):
    return predictions(described, tmp_path_factory.mktemp("answered") / "p.parquet", "vqa")


def shown(described: dict, image_id: str, tokens: int = 3) -> str:
    wanted = [("corruption", "==", "none"), ("image_id", "==", image_id)]
    codes = pq.read_table(described["tokens"], filters=wanted)["global_ids"].to_pylist()[0][:tokens]
    return ", ".join(f"word{code}" for code in codes)


def test_the_prompt_of_a_caption_is_the_papers(described, captioned):
    tokenizer = load_llm("tiny", entry(described["llm"]), torch.device("cpu"))[1]
    row = captioned[0]
    lines = ["Each input is a list of words that describe a picture. The output is its caption."]
    for image_id, caption in zip(row["example_images"], row["example_answers"], strict=True):
        label, image = image_id.removesuffix(".png").split("/")
        assert caption == f"Picture {image} of {label}."  # the first caption up to its full stop
        lines.append(f"Input: {shown(described, image_id)}, output: {caption}")
    lines.append(f"Input: {shown(described, row['image_id'])}, output:")
    assert row["prompt_ids"] == tokenizer("\n".join(lines)).input_ids
    assert row["references"][1] == f"A {row['image_id'][0]}"


def test_the_prompt_of_a_question_is_the_papers(described, answered):
    tokenizer = load_llm("tiny", entry(described["llm"]), torch.device("cpu"))[1]
    row = answered[-1]
    prompt = tokenizer.decode(row["prompt_ids"], skip_special_tokens=True)
    lines = prompt.split("\n")
    assert len(lines) == 4 and lines[1].startswith(
        f"Condition: {shown(described, row['example_images'][0])}. Question: "
    )
    assert lines[1].endswith(f"? Answer: {row['example_answers'][0]}")
    assert lines[3] == f"Condition: {shown(described, row['image_id'])}. Question: {row['question']} Answer:"


def test_queries_are_of_their_split_and_never_among_the_examples(captioned, answered):
    for rows, count in ((captioned, 6), (answered, 9)):
        assert len(rows) == count
        assert {row["image_id"].split("/")[1] for row in rows} <= {"4.png", "5.png"}  # split val
        assert all(len(set(row["example_images"])) == 2 for row in rows)
    assert all(row["image_id"][0] != "3" for row in captioned)  # without captions
    assert len({(row["image_id"], row["question_id"]) for row in answered}) == 9


def test_examples_of_the_same_split_are_left_out_of_the_queries(described, tmp_path):
    changes = {"support_split": "val", "contexts": 2, "questions": 99}
    rows = predictions(described, tmp_path / "p.parquet", "vqa", "majority-vote", **changes)
    examples = {image for row in rows for image in row["example_images"]}
    assert 2 <= len(examples) <= 4 and not examples & {row["image_id"] for row in rows}
    assert len(rows) == 2 * (CLASSES * 2 - len(examples))


def test_contexts_share_the_queries(answered):
    contexts = {row["context"]: tuple(row["example_images"]) for row in answered}
    assert len(set(contexts.values())) == 2 and [row["context"] for row in answered] == [0] * 5 + [1] * 4


def test_answers_are_greedy_and_end_at_their_mark(described, captioned, answered):
    model, tokenizer = load_llm("tiny", entry(described["llm"]), torch.device("cpu"))
    words = Vocabulary(tokenizer)
    for rows, marks, limit in ((captioned, ".\n", 5), (answered, "\n", 4)):
        stops = {number for number, text in words.subwords() if set(text) & set(marks)} | words.control
        for row in rows:
            ids = list(row["prompt_ids"])
            made: list[int] = []
            while len(made) < limit and not (made and made[-1] in stops):
                made.append(int(model(torch.tensor([ids + made])).logits[0, -1].argmax()))
            assert row["output_ids"] == made
            assert row["answer"] == answer_of(row["output"], marks) and not set(row["answer"]) & set(marks)


def test_a_full_stop_ends_a_caption():
    assert answer_of(" A red cat. It sits", ".\n") == "A red cat"
    assert answer_of(" A red cat\nInput: x.", ".\n") == "A red cat"
    assert answer_of(" 3.5 m\nCondition", "\n") == "3.5 m"


@pytest.mark.parametrize("task", TASKS)
def test_the_batch_size_changes_nothing(described, captioned, answered, tmp_path, task):
    rows = predictions(described, tmp_path / "p.parquet", task, batch_size=16)
    assert rows == {"captioning": captioned, "vqa": answered}[task]


def test_another_seed_asks_other_questions(described, answered, tmp_path):
    rows = predictions(described, tmp_path / "p.parquet", "vqa", "token-overlap", seed=1)
    assert [row["question_id"] for row in rows] != [row["question_id"] for row in answered]


def test_token_overlap_says_what_the_nearest_example_shows(described, tmp_path):
    """Images of a class share a code, so the nearest example is of the query's class if there is one."""
    changes = {"in_context_examples": 12, "images": 99}
    rows = predictions(described, tmp_path / "p.parquet", "captioning", "token-overlap", **changes)
    assert len(rows) == 6 and all(row["prompt_ids"] == row["output_ids"] == [] for row in rows)
    hits = [row["answer"].endswith(f" of {row['image_id'][0]}.") for row in rows]
    assert sum(hits) > 3 and all(row["answer"] in row["example_answers"] for row in rows)


def test_majority_vote_says_the_commonest_answer_of_the_examples(described, tmp_path):
    changes = {"in_context_examples": 7, "contexts": 1}
    rows = predictions(described, tmp_path / "p.parquet", "vqa", "majority-vote", **changes)
    for row in rows:
        counts = {answer: row["example_answers"].count(answer) for answer in row["example_answers"]}
        assert counts[row["answer"]] == max(counts.values())


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("captioning", {"tokens": 9}, "captioning.tokens` is 9, tokenizer few made 6 codes"),
        ("captioning", {"in_context_examples": 13}, "gives 12 images for examples in split 'train' and 6 queries"),
        ("vqa", {"query_split": "test"}, "and 0 queries of others in split 'test'"),
        (
            "vqa",
            {"in_context_examples": 16, "max_new_tokens": 900},
            r"question \d+ of \d/\d.png \(with 16 examples\) has",
        ),
    ],
)
def test_what_cannot_be_asked_is_told(described, tmp_path, task, changes, message):
    with pytest.raises(UserError, match=message):
        predictions(described, tmp_path / "p.parquet", task, **changes)
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_without_global_tokens_is_refused(described, tmp_path):
    with pytest.raises(UserError, match="made 0 codes.*a tokenizer whose codes stand for words"):
        predictions(described | {"tokens": described["local_tokens"]}, tmp_path / "p.parquet", "vqa")


@pytest.mark.parametrize("task", list(TASKS))
def test_shards_give_the_same_predictions(described, tmp_path, task):
    changes = {"batch_size": 1, "contexts": 2}  # a block for each context at least
    whole = predictions(described, tmp_path / "whole.parquet", task, **changes)
    assert predictions(described, tmp_path / "shared.parquet", task, shards=2, **changes) == whole
    assert {row["context"] for row in whole} == {0, 1}
