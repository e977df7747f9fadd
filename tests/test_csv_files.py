"""CSV files for spreadsheets: what would be a formula is a text, and what is a number stays one."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2l.errors import printable
from v2l.io.csv_files import cell_text, plain_text, write_csv

FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    "=",
    "-name",
    "-inf",
    "-1_000",
    "'=1",
]
TEXTS = ["v2l", "", "-1.5", "+2", "-1.5e+3", "1e-5", "a=b", " =1", "'tis", "it's", "<b>", "n02085620"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_get_an_apostrophe(text):
    assert cell_text(text) == "'" + text and plain_text("'" + text) == text


@pytest.mark.parametrize("text", TEXTS)
def test_other_texts_and_numbers_stay(text):
    assert cell_text(text) == text and plain_text(text) == text


@pytest.mark.parametrize(
    ("text", "cell"),
    [("\t=1", r"\t=1"), ("a\r=1", r"a\r=1"), ("a\n=1", r"a\n=1"), ("a\x1b[2J\u202eb", r"a\x1b[2J\u202eb")],
)
def test_what_does_not_print_is_escaped(text, cell):
    assert cell_text(text) == cell


@given(st.text(alphabet=st.sampled_from("'=+-@\t\r\n1.eaé")) | st.text())
def test_every_text_comes_back_and_none_is_computed(text):
    cell = cell_text(text)
    assert plain_text(cell) == printable(text) and cell.isprintable()
    if cell[:1] and cell[0] in "=+-@":
        float(cell)  # a number


def test_rows_are_read_back(tmp_path):
    path = tmp_path / "folder" / "table.csv"
    rows = [{"name": text, "value": -1.5, "count": -3} for text in [*FORMULAS, "a,b", 'a"b', "a\nb"]]
    write_csv(path, ["name", "=header", "value", "count"], [*rows, {"name": "empty", "value": None}])
    with open(path, newline="", encoding="utf-8") as file:
        header, *found = csv.reader(file)
    assert header == ["name", "'=header", "value", "count"]
    assert [plain_text(row[0]) for row in found[:-1]] == [printable(row["name"]) for row in rows]
    assert {tuple(row[1:]) for row in found[:-1]} == {("", "-1.5", "-3")} and found[-1] == ["empty", "", "", ""]
    assert pd.read_csv(path)["value"].dropna().eq(-1.5).all()


def test_every_csv_of_the_pipeline_is_written_here():
    """A stage with a writer of its own would leave its names as they are."""
    writers = ("csv.writer", "csv.DictWriter", "to_csv", "write_csv(")
    sources = {path: path.read_text() for path in (Path(__file__).parents[1] / "v2l").rglob("*.py")}
    found = {path.name for path, text in sources.items() for word in writers[:3] if word in text}
    assert found == {"csv_files.py"}
    assert sum(writers[3] in text for text in sources.values()) == 3
