"""docs/deviations.md names keys that exist, and says what the documents made from it repeat."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from v2l.configuration.config import Config
from v2l.configuration.deviations import deviations
from v2l.configuration.tokenizer_entries import LQAEEntry
from v2l.configuration.tokenizer_training import TrainTokenizer

TEXT = Path("docs/deviations.md").read_text()
HEAD = "| key of `tokenizers.<name>` |"
KEYS = re.findall(r"^\| `([a-z_.]+)` \|", TEXT.split(HEAD)[0], flags=re.MULTILINE)
LQAE_ROWS = re.findall(r"^\| (`[^|]*) \|", TEXT.split(HEAD)[1].split("\n\n")[0], flags=re.MULTILINE)


def require(key: str, model: type[BaseModel]) -> None:
    for step in key.split("."):
        assert step in model.model_fields, f"{key}: {step} is no key of {model.__name__}"
        model = model.model_fields[step].annotation


@pytest.mark.parametrize("key", KEYS)
def test_documented_key_exists(key):
    require(key, Config)


@pytest.mark.parametrize("row", LQAE_ROWS)
def test_documented_key_of_lqae_exists(row):
    section = ""
    for key in re.findall(r"`([a-z_.]+)`", row):
        if key.startswith("train_tokenizer."):
            section = key.rpartition(".")[0].removeprefix("train_tokenizer").removeprefix(".")
            require(key.removeprefix("train_tokenizer."), TrainTokenizer)
        elif row.startswith("`train_tokenizer."):
            require(f"{section}.{key}".removeprefix("."), TrainTokenizer)
        else:
            require(key, LQAEEntry)


def test_loss_weights_on_which_paper_and_code_disagree_are_documented():
    assert {
        "train_tokenizer.loss.perceptual",
        "train_tokenizer.loss.adversarial",
        "filter_vocabulary.min_count",
    } <= set(KEYS)
    assert len(LQAE_ROWS) > 10


def test_every_row_is_read():
    assert list(deviations()) == list(dict.fromkeys(KEYS))


def test_values_are_read_where_they_are_known_and_not_ours(tmp_path):
    rows = [
        "| `a.known` | 1 | 2 | 3 | Why. |",
        "| `a.unknown` | not found | no code | 3 | - |",
        "| `a.papers` | 1 | not released | 1; demo 2 | As the paper states. |",
        "| `a.copied` | 1, drawn | 2 | as the paper, seeded | Why. |",
        "| `a.coded` | - | none | as released; demo 2 | Why. |",
        "| `of_another_table` | 1 | 2 | 3 |",
    ]
    (tmp_path / "page.md").write_text("\n".join(rows) + "\n")
    assert deviations(tmp_path / "page.md") == {
        "a.known": {"paper": "1", "released": "2"},
        "a.unknown": {},
        "a.papers": {},
        "a.copied": {"released": "2"},
        "a.coded": {},
    }
