import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report_project import CONTROLS, HOSTILE, ReportProject
from v2l.configuration.baselines import BASELINES
from v2l.configuration.experiment import load_experiment
from v2l.errors import UserError
from v2l.report.evidence import anchor
from v2l.report.html_page import render
from v2l.report.present_files import present_files
from v2l.report.prompt_texts import shortened
from v2l.report.table_blocks import blocks, number_text
from v2l.tables.tables import TABLES


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> ReportProject:
    return ReportProject(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(project) -> str:
    return project.report().read_text()


def rows(values: dict[str, list[float]], metric: str = "psnr", **keys) -> list[dict[str, str]]:
    """Rows of table 3: method -> value, ci_low, ci_high, n."""
    names = {"protocol": "paper", "metric": metric, "note": "", "global_tokens": "0", "published": ""} | keys
    ends = ("ci_low", "ci_high", "n")
    return [
        names | {"method": method, metric: str(value)} | dict(zip(ends, map(str, further), strict=True))
        for method, (value, *further) in values.items()
    ]


def marked(values: dict[str, list[float]], metric: str = "psnr") -> set[str]:
    (block,) = blocks(TABLES["table3_reconstruction"], rows(values, metric), {})
    return {row.keys[0] for row in block.rows if row.cells[0].is_best}


def test_the_best_is_the_highest_or_the_lowest_as_the_metric_has_it():
    values = {"v2l": [20, 19, 21, 5], "vqgan": [22, 21, 23, 5]}
    assert marked(values) == {"vqgan"} and marked(values, "lpips") == {"v2l"}


def test_bounds_and_fewer_items_are_never_the_best():
    values = {"v2l": [20, 19, 21, 5], "vqgan": [19, 18, 20, 5], "lqae": [30, 29, 31, 2], "mean-image": [40, 39, 41, 5]}
    assert not BASELINES["mean-image"].predicts and marked(values) == {"v2l"}


def test_values_that_look_equal_are_all_the_best_or_none():
    equal = {"v2l": [0.12341, 0, 1, 5], "vqgan": [0.12343, 0, 1, 5]}
    assert marked(equal) == set()
    assert marked(equal | {"lqae": [0.1, 0, 1, 5]}) == {"v2l", "vqgan"}


def test_a_table_of_tasks_has_a_block_for_each():
    table = TABLES["table4_restoration"]
    given = [
        row
        for task in ("shift", "inpainting")
        for metric in ("psnr", "lpips")
        for row in rows({"v2l": [1, 0, 2, 3]}, metric, task=task, tokenizer="v2l", llm="")
    ]
    found = blocks(table, given, {})
    assert [block.title for block in found] == ["inpainting", "shift"]
    assert [name for name, _ in found[0].columns] == ["LPIPS", "PSNR"]
    assert found[0].keys == ["method", "tokenizer"] and found[0].n == "3"


def test_the_paper_s_columns_come_first_with_their_average():
    table = TABLES["table1_classification"]
    settings = [(False, 1, 3), *((bool(first), *rest) for first, *rest in table.paper_columns)]
    given = [
        row
        for value, (induction, shots, repeats) in enumerate(settings)
        for row in rows(
            {"v2l": [value, 0, 9, 4]},
            "accuracy",
            tokenizer="v2l",
            llm="llm",
            tokens="5",
            ways="2",
            induction=str(induction),
            inner_shots=str(shots),
            repeats=str(repeats),
        )
    ]
    (block,) = blocks(table, given, {})
    assert block.title == "ways 2" and block.columns[0][0] == "induction no, inner shots 1, repeats 0"
    texts = [cell.text for cell in block.rows[0].cells]
    assert texts == [f"{value}.000" for value in range(1, 8)] + ["0.000", "4.000"]


@given(st.floats(-1e6, 1e6))
def test_numbers_keep_three_digits_at_least(value):
    assert float(number_text(value)) == pytest.approx(value, abs=5e-4 if abs(value) < 10 else 0.05, rel=1e-3)


@given(st.lists(st.text(), min_size=2, max_size=2, unique=True))
def test_places_of_different_names_differ(names):
    one, other = (anchor("run", name) for name in names)
    assert one != other and re.fullmatch(r"[A-Za-z0-9_.-]+", one)


@given(st.text(max_size=60), st.integers(10, 40))
def test_long_prompts_lose_their_middle_and_say_so(prompt, characters):
    short = shortened(prompt, characters)
    if len(prompt) <= characters:
        assert short == prompt
    else:
        assert prompt.startswith(short.split("\n[…")[0]) and f"{len(prompt) - characters} characters left out" in short


class Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_data(self, data):
        self.text += data


def parsed(text: str) -> Texts:
    page = Texts()
    page.feed(text)
    return page


def test_texts_are_texts(text):
    page = parsed(text)
    assert page.tags.count("script") == 1 and page.handlers == []
    assert HOSTILE in page.text and not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
    assert "bell\N{REPLACEMENT CHARACTER}" in page.text and CONTROLS not in page.text


def test_lone_surrogates_do_not_stop_the_page():
    content = {name: [] for name in ("parts", "missing", "tables", "figures", "pictures", "answered", "trainings")}
    making = {"commits": [], "costs": [], "versions": [], "files": [], "stages": [("\udcff", [])], "hours": ""}
    assert "\\udcff" in render(content | {"experiment": "x", "making": making})


def test_every_picture_has_words_and_lies_in_the_page(text):
    images = re.findall(r"<img[^>]*>", text)
    assert images and all('src="data:image/' in image and ' alt="' in image for image in images)
    assert not re.search(r'(src|href)="(?!data:|#)', text)


def test_equal_inputs_give_equal_bytes(project, text):
    assert project.report("again.html").read_text() == text


def test_the_record_of_the_report_names_what_it_is_made_of(project, text):
    beside = json.loads((project.folder / "report.html.provenance.json").read_text())
    assert beside["stage"] == "make_report"
    assert set(beside["inputs"]) == set(project.files)


def test_what_is_missing_is_said_with_its_command(project):
    text = project.report("less.html", leave_out=("figures", "predictions", "images", "tokens")).read_text()
    for wanted in ("table2_semantics.csv", "figures/reconstruction.png", "figures/masked.png"):
        assert f"snakemake results/{wanted} --config experiment=tiny" in text
    assert "snakemake results/table1_classification.csv" not in text


def test_nothing_there_is_a_page_too(project):
    text = project.report("empty.html", leave_out=tuple(set(project.files) - {"templates"})).read_text()
    assert text.count("make it by") == 6 and "<table" not in text.replace('<table class="sortable">', "")


def test_originals_that_are_gone_are_said_to_be(tmp_path):
    project = ReportProject(tmp_path)
    for picture in (tmp_path / "pictures").rglob("*.png"):
        picture.unlink()
    assert "The original is not there any more." in project.report().read_text()


@pytest.mark.parametrize("name", ["tables", "scores", "item_scores", "predictions", "images", "tokens", "trainings"])
@pytest.mark.parametrize("content", [b"", b"\0" * 90, b"{}", b"PAR1"])
def test_a_damaged_input_is_named(tmp_path, name, content):
    project = ReportProject(tmp_path)
    project.files[name][0].write_bytes(content)
    if (name, content) in (("trainings", b""), ("trainings", b"{}")):
        assert project.report().is_file()  # a training without steps
        return
    with pytest.raises(UserError, match=re.escape(project.files[name][0].name)):
        project.report()


def test_only_what_is_there_is_an_input(tmp_path, monkeypatch):
    config = load_experiment({"experiment": "demo"})
    results = tmp_path / "results"
    assert set().union(*present_files(config, str(results)).values()) == set()
    made = results / "make_tables/table3_reconstruction.csv"
    made.parent.mkdir(parents=True)
    made.touch()
    found = present_files(config, str(results))
    assert found["tables"] == [str(made)] and sum(map(len, found.values())) == 1


def test_templates_hold_no_address_and_no_style_attribute():
    for path in Path("v2l/report/templates").iterdir():
        assert not re.search(r"https?:|style=|onclick|\|\s*safe", path.read_text()), path
