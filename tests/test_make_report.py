import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report_project import CONTROLS, HOSTILE, ReportProject, record
from v2l.configuration.experiment import load_experiment
from v2l.errors import UserError
from v2l.io.records import write_beside
from v2l.report.evidence import anchor
from v2l.report.html_page import render
from v2l.report.present_files import present_files
from v2l.report.prompt_texts import shortened


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> ReportProject:
    return ReportProject(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def text(project) -> str:
    return project.report().read_text()


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


def test_tables_mark_the_best_method_and_no_baseline(text):
    cells = re.findall(r'<td class="number( best)?">(?:<a href="#([^"]+)">)?([^<]*)', text)
    best = {value for is_best, _, value in cells if is_best}
    assert best == {"0.750", "21.00", "0.200"}  # the higher accuracy and PSNR, the lower LPIPS; not the input's 30
    places = {value: place for _, place, value in cells}
    assert {"30.00", "0.500"} <= places.keys() and places["\N{EN DASH}"] == ""
    assert places["0.750"].startswith("cell-v2l_2fclassification.llm-2-3-")


def test_tables_have_a_block_for_each_task_and_number_of_ways(text):
    page = parsed(text)
    assert [title for title in ("Ways 2", "Inpainting", "Shift") if f"<h4>{title}</h4>" in text] == [
        "Ways 2",
        "Inpainting",
        "Shift",
    ]
    assert "n = 4 episodes" in page.text and "[0.650, 0.850]" in page.text
    assert re.search(r"vqgan, vqgan, llm, 3, 2, True, 1, 0, accuracy: difference to v2l: -0.250", page.text)


def test_a_table_of_other_scores_is_refused(tmp_path):
    project = ReportProject(tmp_path)
    scores = project.files["scores"][0]
    scores.write_text(scores.read_text().replace('"ways": 2', '"ways": 9'))
    write_beside(scores, record("score_predictions", {"tokenizer": "v2l", "source": "classification.llm"}))
    with pytest.raises(UserError, match="table1_classification.csv has a row that no file of scores has"):
        project.report()


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


def test_machines_are_told_of_the_stages_whose_jobs_left_them(text):
    assert "2 x A &lt;b&gt;processor&lt;/b&gt;, 2 x A card" in text


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
@pytest.mark.parametrize("content", [b"\0" * 90, b"[1]", b"PAR1"], ids=["zeros", "list", "magic"])
def test_a_damaged_input_is_named(tmp_path, name, content):
    project = ReportProject(tmp_path)
    project.files[name][0].write_bytes(content)
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
