"""Images with captions or questions: COCO Captions, VQAv2 and easy-VQA, and what is wrong with damaged files."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_index_images import image, index
from v2l.configuration.dataset_entries import FolderDataset, Sample
from v2l.data.annotation_files import CocoCaptionFile, VQAAnnotationFile, VQAQuestionFile
from v2l.data.json_files import read_dataset_json
from v2l.data.layout import layout_of, list_images
from v2l.data.manifest import read_annotations
from v2l.errors import UserError
from v2l.io.storage import parquet_metadata
from v2l.pipeline.required_files import missing_paths
from v2l.tasks.text_answers import DescribedImage, draw
from v2l.tasks.vqa import VQATask

FILES = [CocoCaptionFile, VQAQuestionFile, VQAAnnotationFile, list[tuple[str, str, int]]]
TEN = ["red"] * 7 + ["dark red", "blue", "red "]


@pytest.fixture
def coco(tmp_path) -> Path:
    """Three images; the last has neither caption nor question."""
    for number in (9, 42, 7):
        image(tmp_path / "val2014" / f"COCO_val2014_{number:012d}.jpg")
    captions = [(1, 42, "A red\ncat. "), (2, 9, "A dog."), (3, 42, "The cat sits."), (4, 9, " ")]
    write(
        tmp_path / "captions.json",
        images=[{"id": n, "file_name": f"COCO_val2014_{n:012d}.jpg", "height": 4} for n in (9, 42, 7)],
        annotations=[dict(zip(("id", "image_id", "caption"), row, strict=True)) for row in captions],
        licenses=[],
    )
    asked = [(421, 42, "What color is it?"), (420, 42, "Is it a cat?"), (90, 9, "What is it?")]
    questions = [dict(zip(("question_id", "image_id", "question"), row, strict=True)) for row in asked]
    write(tmp_path / "questions.json", data_subtype="val2014", questions=questions)
    found = [{"question_id": row[0], "image_id": row[1], "multiple_choice_answer": "red"} for row in reversed(asked)]
    answers = {"answers": [{"answer": answer, "answer_confidence": "yes"} for answer in TEN]}
    write(tmp_path / "annotations.json", annotations=[entry | answers for entry in found])
    return tmp_path


def write(path: Path, **content) -> None:
    path.write_text(json.dumps(content))


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def captions_entry(root: Path) -> dict:
    return {
        "kind": "coco_captions",
        "root": str(root),
        "splits": {"val": {"captions": str(root / "captions.json"), "images": "val2014"}},
    }


def questions_entry(root: Path) -> dict:
    files = {name: str(root / f"{name}.json") for name in ("questions", "annotations")}
    return {"kind": "vqa_v2", "root": str(root), "splits": {"val": files | {"images": "val2014"}}}


def name(number: int) -> str:
    return f"val2014/COCO_val2014_{number:012d}.jpg"


def test_coco_captions(coco):
    manifest = index(coco, captions_entry(coco))
    assert manifest.image_id.tolist() == [name(7), name(9), name(42)] and set(manifest.split) == {"val"}
    assert manifest.class_name.tolist() == [""] * 3
    captions = read_annotations(coco / "out" / "pictures.parquet", "captions")
    assert captions == {name(9): ["A dog."], name(42): ["A red cat.", "The cat sits."]}


def test_vqa_v2_lists_the_images_that_are_asked_about(coco):
    manifest = index(coco, questions_entry(coco))
    assert manifest.image_id.tolist() == [name(9), name(42)]
    questions = read_annotations(coco / "out" / "pictures.parquet", "questions")
    assert [found["question_id"] for found in questions[name(42)]] == ["421", "420"]
    assert questions[name(9)] == [
        {"question_id": "90", "question": "What is it?", "answer": "red", "answers": TEN, "split": "val"},
    ]
    assert parquet_metadata(coco / "out" / "pictures.parquet")["dataset"]["classes"] == [""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][1].update(image_id=5), r"caption 2 is of image 5, which `images` does not list"),
        (lambda c: c["annotations"][2].pop("caption"), r"captions\.json: annotations\.2\.caption: Field required"),
        (lambda c: c.pop("images"), r"captions\.json: images: Field required"),
        (lambda c: c["images"].append(c["images"][0] | {"id": 8}), "000000000009.jpg listed more than once"),
    ],
)
def test_damaged_captions_are_told(coco, change, message):
    edit(coco / "captions.json", change)
    with pytest.raises(UserError, match=message):
        index(coco, captions_entry(coco))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("annotations", lambda c: c["annotations"][1]["answers"].pop(), r"annotations\.1\.answers: .*10 items.*not 9"),
        ("annotations", lambda c: c["annotations"][0]["answers"].append({"answer": "x"}), r"0\.answers: .*not 11"),
        ("annotations", lambda c: c["annotations"].append(c["annotations"][0]), "question 90 has answers twice"),
        ("annotations", lambda c: c["annotations"].pop(0), r"question 90 of .*questions\.json has no answers"),
        ("annotations", lambda c: c["annotations"][0].update(image_id=42), "question 90 is of image 42.*of image 9"),
        ("questions", lambda c: c["questions"].pop(), r"answers to question 90, which .* does not ask"),
        ("questions", lambda c: c["questions"].append(c["questions"][0]), "question 421 of .* or occurs twice"),
        (
            "questions",
            lambda c: c.update(data_subtype="val2017"),
            "question 421 is of image .*val2017_000000000042.jpg",
        ),
        ("questions", lambda c: c["questions"][2].pop("image_id"), r"questions\.2\.image_id: Field required"),
    ],
)
def test_damaged_questions_are_told(coco, file, change, message):
    edit(coco / f"{file}.json", change)
    with pytest.raises(UserError, match=message):
        index(coco, questions_entry(coco))


def test_a_question_of_a_missing_image_is_told(coco):
    (coco / name(9)).unlink()
    with pytest.raises(UserError, match=r"questions\.json: question 90 is of image .*000000000009\.jpg.*not exist"):
        index(coco, questions_entry(coco))
    manifest = index(
        coco, captions_entry(coco), limit=0.5
    )  # a listed image without its file is rejected like any other
    assert manifest.image_id.tolist() == [name(7), name(42)]


@pytest.mark.parametrize("file", ["captions", "questions", "annotations"])
def test_what_is_no_json_is_told_with_its_place(coco, file):
    entry = captions_entry(coco) if file == "captions" else questions_entry(coco)
    (coco / f"{file}.json").write_text('{"images": [\n}')
    with pytest.raises(UserError, match=rf"{file}\.json: Invalid JSON: .*line 2 column 1"):
        index(coco, entry)
    (coco / f"{file}.json").unlink()
    with pytest.raises(UserError, match=rf"{file}\.json cannot be read \(No such file"):
        index(coco, entry)


def easy(root: Path) -> dict:
    for split, count in (("train", 3), ("test", 2)):
        for number in range(count):
            image(root / split / "images" / f"{number}.png")
        triples = [[f"is it {number}?", "yes", number] for number in reversed(range(count))]
        triples.insert(1, ["what is it?", "circle", 0])
        (root / split / "questions.json").write_text(json.dumps(triples))
    return {"kind": "easy_vqa", "root": str(root)}


def test_easy_vqa(tmp_path):
    entry = easy(tmp_path)
    manifest = index(tmp_path, entry | {"images_per_split": 2})
    expected = [f"{split}/images/{number}.png" for split in ("test", "train") for number in range(2)]
    assert manifest.image_id.tolist() == expected and manifest.split.tolist() == ["test"] * 2 + ["train"] * 2
    questions = read_annotations(tmp_path / "out" / "pictures.parquet", "questions")
    assert questions["train/images/0.png"] == [
        {"question_id": f"train/{number}", "question": text, "answer": said, "answers": [said], "split": "train"}
        for number, text, said in ((1, "what is it?", "circle"), (3, "is it 0?", "yes"))
    ]
    assert len(index(tmp_path, entry).image_id) == 5


def test_damaged_easy_vqa_is_told(tmp_path):
    entry = easy(tmp_path)
    (tmp_path / "test/images/1.png").unlink()
    with pytest.raises(UserError, match=r"test/questions\.json: question 0 is of image .*test/images/1\.png"):
        index(tmp_path, entry)
    (tmp_path / "train/questions.json").write_text('[["is it?", "yes"]]')
    with pytest.raises(UserError, match=r"train/questions\.json: 0\.2: Field required"):
        index(tmp_path, entry)


def test_annotation_files_that_are_missing_stop_a_run_before_it_starts(coco):
    (coco / "annotations.json").unlink()
    data = {"datasets": {"vqa": questions_entry(coco)}}
    assert missing_paths([json.dumps(data)]) == [f"datasets.vqa.splits.val.annotations: {coco / 'annotations.json'}"]


def vqa_cp(root: Path) -> dict:
    """The entry of two splits in VQA-CP's files (lists without a header) that share the image 42."""
    splits = {}
    for split, asked in (("train", [(1, 42, "Is it a cat?"), (2, 9, "What?")]), ("test", [(3, 42, "What color?")])):
        questions = [
            {"question_id": number, "image_id": str(image), "question": text, "coco_split": "val2014"}
            for number, image, text in asked
        ]
        answers = {"multiple_choice_answer": split, "answers": [{"answer": split}] * 10}
        content = {
            "questions": questions,
            "annotations": [{name: row[name] for name in ("question_id", "image_id")} | answers for row in questions],
        }
        splits[split] = {"images": "val2014"}
        for kind, rows in content.items():
            splits[split][kind] = str(root / f"cp_{split}_{kind}.json")
            Path(splits[split][kind]).write_text(json.dumps(rows))
    return {"kind": "vqa_v2", "root": str(root), "splits": splits}


def test_each_question_is_of_its_own_split_where_splits_share_images(coco):
    manifest = index(coco, vqa_cp(coco))
    assert manifest.image_id.tolist() == [name(9), name(42)] and set(manifest.split) == {"train"}
    questions = read_annotations(coco / "out" / "pictures.parquet", "questions")
    found = [(one["question_id"], one["split"], one["answer"]) for one in questions[name(42)]]
    assert found == [("1", "train", "train"), ("3", "test", "test")]
    rows = {split: manifest.sample_rows(Sample(dataset="d", splits=[split]), 0).tolist() for split in ("train", "test")}
    assert rows == {"train": [0, 1], "test": [1]}
    task = object.__new__(VQATask)
    task.inputs = {"manifest": coco / "out" / "pictures.parquet"}
    items = VQATask.items(task, [DescribedImage(image_id, "train", [1], "a") for image_id in manifest.image_id])
    assert [(item.columns["question_id"], item.image.split) for item in items] == [
        ("2", "train"),
        ("1", "train"),
        ("3", "test"),
    ]
    section = type("Section", (), {"support_split": "train", "query_split": "test", "in_context_examples": 1})
    for seed in range(9):
        section.contexts = 1
        try:
            (query,) = draw("vqa", section, items, 9, seed)
        except UserError:  # the only test question's image was drawn as an example: it is never asked about
            continue
        assert query.item.columns["question_id"] == "3" and query.examples[0].image.image_id == name(9)


@pytest.mark.parametrize(
    ("content", "caption"),
    [
        (b"\xef\xbb\xbfA cafe\xcc\x81\r\nmore", ["A caf\u00e9"]),
        ("A tree".encode("utf-16"), ["A tree"]),
        (b"0 0.5 0.5 0.1 0.1\n", []),
        (b"\nsecond line", []),
    ],
)
def test_the_caption_beside_an_image(tmp_path, content, caption):
    image(tmp_path / "cat" / "a.png")
    (tmp_path / "cat" / "a.txt").write_bytes(content)
    (listed,) = list_images(layout_of(FolderDataset(kind="folder", root=str(tmp_path))))
    assert listed.captions == caption
    (tmp_path / "cat" / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(UserError, match=r"a\.txt, line 1: byte 0xe9 is no UTF-8"):
        list_images(layout_of(FolderDataset(kind="folder", root=str(tmp_path))))


def test_files_that_name_no_images_are_told(coco):
    edit(coco / "questions.json", lambda c: c.pop("data_subtype"))
    with pytest.raises(UserError, match=r"neither data_subtype nor questions\.0\.coco_split"):
        index(coco, questions_entry(coco))


def test_texts_are_on_one_line_in_normal_form(coco):
    edit(coco / "captions.json", lambda c: c["annotations"][1].update(caption="A cafe\u0301\r\n sign"))
    index(coco, captions_entry(coco))
    assert read_annotations(coco / "out" / "pictures.parquet", "captions")[name(9)] == ["A caf\u00e9 sign"]
    edit(coco / "questions.json", lambda c: c["questions"][0].update(question="What\ncolor?"))
    edit(coco / "annotations.json", lambda c: c["annotations"][0].update(multiple_choice_answer="re\u0301\n"))
    index(coco, questions_entry(coco))
    questions = read_annotations(coco / "out" / "pictures.parquet", "questions")
    assert (questions[name(42)][0]["question"], questions[name(9)][0]["answer"]) == ("What color?", "r\u00e9")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 5000, "recursion limit exceeded"),
        (b'{"images": [{"id": NaN, "file_name": "a"}]}', r"images\.0\.id: Input should be a finite number"),
        (b'{"images": [{"id": 1, "file_name": null}]}', r"images\.0\.file_name: Input should be a valid string"),
        (b'{"images": [{"id": 1, "file_name": "\\ud800"}]}', "Invalid JSON: unexpected end of hex escape"),
        (
            b'{"images": [{"id": 1, "file_name": "a"}, {"id": "1", "file_name": "b"}], "annotations": []}',
            "image 1 stands twice in `images`",
        ),
        ('{"images": "\u00e9"}'.encode("latin-1"), r"line 1: byte 0xe9 is no UTF-8"),
    ],
)
def test_what_is_no_caption_file_is_told(coco, content, message):
    (coco / "captions.json").write_bytes(content)
    with pytest.raises(UserError, match=message):
        index(coco, captions_entry(coco))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_damage(coco, encoding):
    path = coco / "captions.json"
    path.write_bytes(path.read_text().encode(encoding))
    assert len(index(coco, captions_entry(coco)).image_id) == 3


SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["images", "annotations", "questions", "id", "image_id", "answers", "caption", "file_name"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(content=SOME_JSON | st.binary(max_size=40), schema=st.sampled_from(FILES))
def test_any_json_is_read_or_refused(tmp_path_factory, content, schema):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    try:
        found = read_dataset_json(path, schema)
    except UserError as error:
        assert str(path) in error.problem
    else:
        assert found is not None
