"""Whatever stands in a file that users bring: it is read, or refused by name in an error of ours, and nothing runs."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from v2l.assets.lock_file import select
from v2l.configuration.cards import read_cards
from v2l.configuration.dataset_entries import AnyDataset
from v2l.configuration.experiment import load_experiment
from v2l.data.annotation_files import CocoCaptionFile, Line, VQAAnnotationFile, VQAQuestionFile
from v2l.data.csv_lists import read_csv
from v2l.data.json_files import read_dataset_json
from v2l.data.layout import layout_of
from v2l.data.synset_lists import read_synsets
from v2l.errors import UserError
from v2l.io.yaml_files import read_mapping, read_yaml
from v2l.models.taming import taming_network
from v2l.pipeline.start_checks import check_start
from v2l.plan.efficiencies import Efficiencies
from v2l.tables.published import Published
from v2l.tasks.episode_files import read_episodes

ROOT = Path(__file__).parents[1]
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
# What may stand where a value is expected, in YAML, JSON or CSV.
VALUES = [
    "!!python/object/apply:os.system ['touch EXECUTED']",
    "!!python/name:os.system",
    "!!python/object/new:type",
    "!!int x",
    "!!binary x",
    "2024-99-99",
    "&a [*a]",
    "{? [a] : b}",
    ".nan",
    "NaN",
    "1e999",
    "1" * 5000,
    "[" * 3000,
    '{"a":' * 3000,
    '"\\ud800"',
    '"\\0"',
    "\x1b]0;title\x07",
    "\u202egnp.exe",
    '"open quote',
    "null",
    "[]",
    "{}",
    "-1",
    "",
    "=cmd()",
    "../../../etc/passwd",
    "${HOME}",
    "$(touch EXECUTED)",
    "\ufeff",
]


def config_file(path: Path) -> object:
    check_start(path.parent, path)
    overrides = read_mapping(path, "keys")
    return load_experiment({"experiment": "tiny"} | overrides, ROOT / "config" / "experiments")


def experiment_file(path: Path) -> object:
    return load_experiment({"experiment": path.stem}, path.parent)


def episodes(path: Path) -> object:
    images = np.array([f"n{number}/{shot}.jpg" for number in range(2) for shot in range(2)])
    return read_episodes(path, images, np.array(["cat", "cat", "dog", "dog"]), 2, 1)


EPISODE = {"question": "What is this? This is a", "question_image": "n0/1.jpg", "answer": ["This is a cat"]}
EPISODE |= {"image_1": "n0/0.jpg", "caption_1": "This is a cat", "image_2": "n1/0.jpg", "caption_2": "This is a dog"}
QUESTION = {"question_id": 1, "image_id": 1, "question": "What?"}
ANSWERS = {"question_id": 1, "image_id": 1, "multiple_choice_answer": "yes", "answers": [{"answer": "yes"}] * 10}
Reader = tuple[str, Callable[[Path], object], str]
READERS: dict[str, Reader] = {
    "config": ("config.yaml", config_file, "seed: 1\nexperiment: tiny\nmake_tables: {intervals: false}\n"),
    "experiment": ("own.yaml", experiment_file, (ROOT / "config/experiments/tiny.yaml").read_text()),
    "lock": ("assets.lock", lambda path: select([], path), (ROOT / "config/assets.lock").read_text()),
    "cards": ("cards.yaml", read_cards, (ROOT / "config/cards.yaml").read_text()),
    "published": ("published.csv", Published, (ROOT / "config/published.csv").read_text()),
    "efficiencies": ("shares.json", Efficiencies.read, (ROOT / "config/efficiencies.json").read_text()),
    "taming": ("model.yaml", taming_network, "model: {target: taming.models.vqgan.VQModel, params: {embed_dim: 8}}\n"),
    "labels": (
        "labels.csv",
        lambda path: read_csv(path, ["filename", "label"]),
        "filename,label\na.jpg,n1\nb.jpg,n2\n",
    ),
    "synsets": ("synsets.txt", read_synsets, "n01440764 tench, Tinca tinca\nn01443537 goldfish\n"),
    "synsets json": ("synsets.json", read_synsets, '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}'),
    "captions": (
        "captions.json",
        lambda path: read_dataset_json(path, CocoCaptionFile),
        '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"id": 1, "image_id": 1, "caption": "A cat."}]}',
    ),
    "questions": (
        "questions.json",
        lambda path: read_dataset_json(path, VQAQuestionFile),
        json.dumps({"data_subtype": "val2014", "questions": [QUESTION]}),
    ),
    "answers": (
        "answers.json",
        lambda path: read_dataset_json(path, VQAAnnotationFile),
        json.dumps({"annotations": [ANSWERS]}),
    ),
    "easy-VQA": (
        "easy.json",
        lambda path: read_dataset_json(path, list[tuple[Line, Line, int]]),
        '[["what?", "a", 1], ["is it?", "no", 2]]',
    ),
    "episodes": ("episodes.json", episodes, json.dumps([EPISODE])),
    "episode lines": ("episodes.csv", episodes, "n0/0.jpg,n1/0.jpg,n0/1.jpg\n"),
}


@st.composite
def damaged(draw, text: str) -> bytes:
    """`text` with some of its words replaced by hostile values, then some bytes of it by others."""
    words = [[word, " "] for word in text.split(" ")[:400]]
    for _ in range(draw(st.integers(0, 3))):
        words[draw(st.integers(0, len(words) - 1))][0] = draw(st.sampled_from(VALUES))
    content = bytearray("".join(part for pair in words for part in pair)[:-1].encode())
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(content)))
        content[place : place + draw(st.integers(0, 4))] = draw(st.binary(max_size=4))
    return bytes(content)


@pytest.mark.parametrize("name", READERS)
def test_the_undamaged_file_is_read(tmp_path, name):
    file, read, text = READERS[name]
    (tmp_path / file).write_text(text)
    if name != "taming":  # the short one says what is missing
        read(tmp_path / file)


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_content_gives_a_traceback_and_none_executes(tmp_path, monkeypatch, name, data):
    file, read, text = READERS[name]
    monkeypatch.chdir(tmp_path)
    Path(file).write_bytes(data.draw(damaged(text) | st.sampled_from(VALUES).map(str.encode) | st.binary(max_size=40)))
    try:
        read(tmp_path / file)
    except UserError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))
    assert not Path("EXECUTED").exists()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_a_hostile_value_alone(tmp_path, monkeypatch, name, value):
    file, read, _ = READERS[name]
    monkeypatch.chdir(tmp_path)
    Path(file).write_text(value)
    try:
        read(tmp_path / file)
    except UserError as error:
        assert all(line.isprintable() for line in str(error).split("\n"))
    assert not Path("EXECUTED").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "aliases stand for more than 1,000,000 values"),
        ("a: &a [*a]", "a value holds itself"),
        ("a: &a {b: *a}", "a value holds itself"),
        ('a: "b\\0"', "zero byte"),
        ('a: "\\ud800"', "surrogates not allowed"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_yaml_that_is_no_plain_values_is_refused_at_once(tmp_path, text, words):
    (tmp_path / "a.yaml").write_text(text)
    begun = time.monotonic()
    with pytest.raises(UserError, match=f"a.yaml is not YAML.*{words}"):
        read_yaml(tmp_path / "a.yaml")
    assert time.monotonic() - begun < 5


@given(value=st.recursive(st.none() | st.booleans() | st.integers() | st.text("aé\n "), st.lists, max_leaves=20))
@example(value={"a": [1, {"b": None}]})
def test_plain_yaml_is_read_as_it_is(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "plain.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    assert read_yaml(path) == value


@pytest.mark.parametrize("kind", ["folder", "missing"])
@pytest.mark.parametrize("name", sorted(set(READERS) - {"experiment", "config"}))
def test_what_is_no_file_is_named(tmp_path, name, kind):
    file, read, _ = READERS[name]
    if kind == "folder":
        (tmp_path / file).mkdir()
    with pytest.raises(UserError, match=file):
        read(tmp_path / file)


OUTSIDE = ["/etc/passwd", "../secret.png", "a/../../secret.png", "a\0.png", ""]


def outside_of_coco(folder: Path, name: str) -> dict:
    content = {"images": [{"id": 1, "file_name": name}], "annotations": []}
    (folder / "list.json").write_text(json.dumps(content))
    return {"kind": "coco_captions", "splits": {"val": {"images": "images", "captions": str(folder / "list.json")}}}


def outside_of_vqa(folder: Path, name: str) -> dict:
    (folder / "list.json").write_text(json.dumps([QUESTION | {"coco_split": f"x/{name}/x"}]))
    (folder / "answers.json").write_text(json.dumps([ANSWERS]))
    files = {"questions": str(folder / "list.json"), "annotations": str(folder / "answers.json")}
    return {"kind": "vqa_v2", "splits": {"val": {"images": "images"} | files}}


def outside_of_mini_imagenet(folder: Path, name: str) -> dict:
    for split in ("train", "val", "test"):
        (folder / "images" / f"{split}.csv").write_text(f"filename,label\n{name},n1\n")
    return {"kind": "mini_imagenet", "synsets": "synsets.txt"}


@pytest.mark.parametrize("listed", [outside_of_coco, outside_of_mini_imagenet])
@pytest.mark.parametrize("name", OUTSIDE)
def test_a_list_names_no_picture_outside_its_data_set(tmp_path, listed, name):
    (tmp_path / "images").mkdir()
    entry = listed(tmp_path, name) | {"root": str(tmp_path / "images")}
    with pytest.raises(UserError, match="pictures below the data set's folder|zero byte"):
        layout_of(TypeAdapter(AnyDataset).validate_python(entry)).list_images()


def test_a_question_names_no_picture_outside_its_data_set(tmp_path):
    (tmp_path / "images").mkdir()
    entry = outside_of_vqa(tmp_path, "..") | {"root": str(tmp_path / "images")}
    with pytest.raises(UserError, match="pictures below the data set's folder"):
        layout_of(TypeAdapter(AnyDataset).validate_python(entry)).list_images()
