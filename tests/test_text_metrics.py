"""Scores of captions and answers: golden values by hand, the official rules, and table 5's rows."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu

from tests.test_make_tables import make, records
from tests.test_score_predictions import NAMES, files  # noqa: F401
from v2l.configuration.config import ScorePredictions
from v2l.configuration.slices import StageConfig
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import write_parquet, write_tensors
from v2l.metrics import captions as captioning
from v2l.metrics.accuracy import _begins_with, _equals
from v2l.metrics.bootstrap import set_interval
from v2l.metrics.captions import Bleu4, cider, words_of
from v2l.metrics.rows import STANDARD_NOTE, VALUE_COLUMNS
from v2l.metrics.vqa_accuracy import normalise, vqa_accuracy
from v2l.score_predictions import run


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ('A dog\'s bowl, (red) "big".', "a dog 's bowl red big"),
        ("They can't sit -- well-known!", "they ca n't sit well-known"),
        ("At 3.5 or 1,000 metres... don't.", "at 3.5 or 1,000 metres do n't"),
        ("Ein Käfer\nim Gras", "ein käfer im gras"),
        ("", ""),
    ],
)
def test_captions_are_split_as_in_the_penn_treebank(caption, words):
    assert words_of(caption) == words


def test_cider_of_a_caption_that_is_its_reference():
    """Every n-gram agrees: 10; three words have no 4-grams: three quarters of it; no common word: 0."""
    captions = ["a red car stops", "Two small dogs.", "nothing in common", ""]
    references = [["A red car stops."], ["two small dogs"], ["some other words here"], ["a bird"]]
    assert cider(captions, references) == pytest.approx([10, 7.5, 0, 0])


def test_cider_is_the_mean_over_references_and_punishes_length():
    captions, references = ["red car stops here", "b"], [["red car stops here", "dog"], ["c"]]
    assert cider(captions, references)[0] == pytest.approx(5)
    longer = cider(["red car stops here and then it goes on", "b"], [["red car stops here"], ["c"]])[0]
    assert 0 < longer < 5


def test_a_word_that_every_image_has_counts_nothing():
    assert cider(["a", "a"], [["a cat"], ["a dog"]]) == pytest.approx([0, 0])


def test_bleu_by_hand():
    """Full precision at half the length: the brevity penalty exp(1 - 2); of two references the closer length counts."""
    half, whole = "one two three four", "one two three four five six seven eight"
    assert Bleu4([whole], [[whole]])(np.array([0])) == pytest.approx(1)
    assert Bleu4([half], [[whole]])(np.array([0])) == pytest.approx(np.exp(-1))
    assert Bleu4([half], [[whole, f"{half} five"]])(np.array([0])) == pytest.approx(np.exp(1 - 5 / 4))
    assert Bleu4([""], [[whole]])(np.array([0])) == pytest.approx(0, abs=1e-3)


def test_bleu_of_chosen_items_is_cocos_of_them_alone():
    rng = np.random.default_rng(0)
    captions, *others = ([" ".join(rng.choice(list("abcd"), 7)) for _ in range(6)] for _ in range(3))
    references = [list(pair) for pair in zip(*others, strict=True)]
    chosen = np.array([4, 1, 1, 5])
    whole = {place: references[item] for place, item in enumerate(chosen)}
    written = {place: [captions[item]] for place, item in enumerate(chosen)}
    expected = Bleu(4).compute_score(whole, written, verbose=0)[0][3]
    assert Bleu4(captions, references)(chosen) == pytest.approx(expected) and expected > 0


def test_interval_of_a_set_is_that_of_its_resamples():
    values = np.arange(20.0)
    low, high, note = set_interval(lambda items: values[items].mean(), 20, 2000, np.random.default_rng(0))
    error = values.std() / np.sqrt(20)
    assert low == pytest.approx(9.5 - 1.96 * error, abs=0.3) and high == pytest.approx(9.5 + 1.96 * error, abs=0.3)
    assert note == ""
    assert set_interval(lambda items: 1.0, 5, 10, np.random.default_rng(0)) == (
        *(None, None),
        "no confidence interval: all resamples are equal",
    )


@pytest.mark.parametrize(
    ("answer", "normalised"),
    [
        ("The Red  Car.", "red car"),
        ("two\n", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("3.5", "3.5"),
        ("U.S.", "us"),
        ("1,000", "1000"),
        ("black-white", "black white"),
        ("black - white", "black white"),
        ("yes, sir", "yes sir"),
        ("yes,sir", "yes sir"),
        ("dont", "don't"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("oclock", "o'clock"),
        ("it's", "it's"),
        ("an apple a day", "apple day"),
        ("a", ""),
    ],
)
def test_answers_are_normalised_as_in_the_official_evaluation(answer, normalised):
    assert normalise(answer) == normalised


@pytest.mark.parametrize("matches", range(11))
def test_accuracy_of_ten_annotators_by_leaving_each_out(matches):
    """m of the ways leave out a match: (m * min((m - 1) / 3, 1) + (10 - m) * min(m / 3, 1)) / 10."""
    references = ["Red."] * matches + ["blue"] * (10 - matches)
    expected = (matches * min((matches - 1) / 3, 1) + (10 - matches) * min(matches / 3, 1)) / 10
    assert vqa_accuracy("the red", references) == pytest.approx(expected)
    assert {0: 0, 1: 0.3, 2: 0.6, 3: 0.9}.get(matches, 1) == pytest.approx(expected)


@given(st.permutations(["red"] * 2 + ["blue"] * 3 + ["green"] * 5), st.sampled_from(["red", "blue", "green"]))
def test_the_order_of_annotators_does_not_matter(references, answer):
    assert vqa_accuracy(answer, references) == pytest.approx({"red": 0.6, "blue": 0.9, "green": 1}[answer])


def test_answers_in_either_normal_form_are_equal():
    assert vqa_accuracy("caf\u00e9", ["cafe\u0301"]) == 1
    assert _equals("caf\u00e9", "cafe\u0301") and _begins_with("cafe\u0301_au_lait\n", "caf\u00e9 au lait")
    assert not _equals("cafe", "caf\u00e9")


def test_one_answer_is_right_or_wrong():
    assert vqa_accuracy("a Circle.", ["circle"]) == 1 and vqa_accuracy("square", ["circle"]) == 0


class XYEncoder:
    """Texts that say x look along x, others along y."""

    def encode_text(self, texts):
        return torch.tensor([[1.0, 0.0] if "x" in text else [0.0, 1.0] for text in texts])


CAPTIONS = [("x marks the red spot", ["X marks the red spot."]), ("along y", ["something else", "not x"])] * 3


def score(folder, source, inputs):
    section = ScorePredictions(lpips_weights="", frechet_weights="", batch_size=4, bootstrap_samples=100).model_dump()
    data = {
        "seed": 0,
        "encoder": "xy",
        "encoders": {"xy": {"kind": "open_clip", "weights": "none"}},
        "score_predictions": section,
        "job": {"tokenizer": "v2l", "source": source},
    }
    outputs = {"metrics": folder / "metrics.json", "per_item": folder / "items.parquet"}
    run(StageConfig("score_predictions", data), Inputs(inputs), outputs)
    return outputs


def read(outputs):
    return {row["metric"]: row for row in json.loads(outputs["metrics"].read_text())["rows"]}


def write_captions(folder, files, rows, images=NAMES):  # noqa: F811
    columns = {"image_id": images[: len(rows)], "answer": [r[0] for r in rows], "references": [r[1] for r in rows]}
    types = pa.schema([("image_id", pa.string()), ("answer", pa.string()), ("references", pa.list_(pa.string()))])
    write_parquet(
        folder / "captions.parquet", pa.table(columns, schema=types), {}, {"protocol": "paper", "tokenizer_note": ""}
    )
    feature_ND = torch.tensor([[2.0, 0.0]] * 3 + [[0.0, -1.0]] * 3)  # the last three against y
    write_tensors(folder / "features.safetensors", {"feature_ND": feature_ND}, {})
    return {
        "predictions": folder / "captions.parquet",
        "features": folder / "features.safetensors",
        "manifest": files / "manifest.parquet",
    }


def test_captions_are_scored_by_words_and_by_image(files, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(captioning, "load_encoder", lambda entry, device: XYEncoder())
    outputs = score(tmp_path, "captioning.llm", write_captions(tmp_path, files, CAPTIONS))
    rows = read(outputs)
    assert list(rows["cider"]) == ["method", "tokenizer", "llm", "task", *VALUE_COLUMNS]
    assert list(rows) == ["cider", "clip_score", "bleu_4"] and {row["n"] for row in rows.values()} == {6}
    assert rows["cider"]["value"] == pytest.approx((3 * 10 + 3 * 0) / 6)
    # images 0 and 2 say x and look along x, image 1 says y; images 3 to 5 look against y: no score below 0
    assert rows["clip_score"]["value"] == pytest.approx(200 / 6)
    assert 0 < rows["bleu_4"]["ci_low"] < rows["bleu_4"]["value"] < rows["bleu_4"]["ci_high"] <= 1
    keys = ("method", "tokenizer", "llm", "task", "note")
    assert [rows["cider"][key] for key in keys] == ["v2l", "v2l", "llm", "captioning", STANDARD_NOTE]


def test_captions_of_unknown_images_or_none_are_errors(files, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(captioning, "load_encoder", lambda entry, device: XYEncoder())
    with pytest.raises(UserError, match="captions.parquet holds no predictions"):
        score(tmp_path, "captioning.llm", write_captions(tmp_path, files, []))
    with pytest.raises(UserError, match="image 'gone.png', which the manifest does not"):
        score(tmp_path, "captioning.llm", write_captions(tmp_path, files, CAPTIONS[:2], [NAMES[0], "gone.png"]))


def write_answers(folder, rows):
    names = ("question_id", "answer", "answers")
    records = [dict(zip(names, (str(number), *row), strict=True)) for number, row in enumerate(rows)]
    types = pa.schema([("question_id", pa.string()), ("answer", pa.string()), ("answers", pa.list_(pa.string()))])
    table = pa.Table.from_pylist(records, schema=types)
    write_parquet(folder / "answers.parquet", table, {}, {"protocol": "paper", "tokenizer_note": ""})
    return {"predictions": folder / "answers.parquet"}


@pytest.mark.parametrize(
    ("predictor", "keys", "note"),
    [
        ("llama", ("v2l", "v2l", "llama"), ""),
        ("token-overlap", ("token-overlap", "v2l", None), "no language model: the answer of the example"),
        ("majority-vote", ("majority-vote", None, None), "no language model: the commonest answer"),
    ],
)
def test_answers_are_scored_against_ten_annotators(tmp_path, predictor, keys, note):
    rows = [("Red", ["red"] * 10), ("red", ["blue"] * 10), ("two", ["2"] * 2 + ["3"] * 8)]
    found = read(score(tmp_path, f"vqa.{predictor}", write_answers(tmp_path, rows)))["vqa_accuracy"]
    assert found["value"] == pytest.approx((1 + 0 + 0.6) / 3) and found["n"] == 3
    assert (found["method"], found["tokenizer"], found["llm"]) == keys and found["task"] == "vqa"
    assert note in found["note"] and "one answer" not in found["note"]


def test_single_answers_are_said_to_be_plain_accuracy(tmp_path):
    found = read(score(tmp_path, "vqa.llm", write_answers(tmp_path, [("A circle", ["circle"]), ("no", ["yes"])])))
    assert found["vqa_accuracy"]["value"] == 0.5 and "one answer per question" in found["vqa_accuracy"]["note"]
    with pytest.raises(UserError, match="answers.parquet holds no predictions"):
        score(tmp_path, "vqa.llm", write_answers(tmp_path, []))


def test_table_5_has_a_row_for_each_method_and_a_column_for_each_metric(tmp_path):
    def row(metric, value, task, method="v2l", tokenizer="v2l", llm="llm", note=""):
        keys = {"method": method, "tokenizer": tokenizer, "llm": llm, "task": task}
        measured = {"metric": metric, "value": value, "ci_low": None, "ci_high": None, "n": 9, "protocol": "paper"}
        return keys | measured | {"note": note}

    rows = [row(metric, 0.5, "captioning") for metric in ("bleu_4", "clip_score", "cider")]
    rows += [row("vqa_accuracy", 0.25, "vqa"), row("vqa_accuracy", 0.125, "vqa", "majority-vote", None, None, "no")]
    rows += [row("cider", 0.75, "captioning", "token-overlap", "v2l", None, "none")]
    outputs = make(tmp_path, "table5_captioning_vqa", rows)
    assert [(r["method"], r["metric"]) for r in records(outputs)] == [
        *[("v2l", name) for name in ("cider", "clip_score", "bleu_4", "vqa_accuracy")],
        ("token-overlap", "cider"),
        ("majority-vote", "vqa_accuracy"),
    ]
    assert {r["published"] for r in records(outputs)} == {""}
    assert outputs["markdown"].read_text() == (
        "Table 5. Image captioning and visual question answering. Experiment demo, protocol paper, n = 9 captions or "
        "questions per value.\n\n"
        "| method        | tokenizer   | llm   |   VQA accuracy |   CIDEr |   CLIP |   BLEU-4 |\n"
        "|:--------------|:------------|:------|---------------:|--------:|-------:|---------:|\n"
        "| v2l           | v2l         | llm   |          0.250 |   0.500 |   0.50 |    0.500 |\n"
        "| token-overlap | v2l         | –     |              – |   0.750 |      – |        – |\n"
        "| majority-vote | –           | –     |          0.125 |       – |      – |        – |\n"
        "\n- token-overlap: none\n- majority-vote: no\n"
    )
