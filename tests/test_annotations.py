"""Images with captions or questions: COCO Captions, VQAv2 and easy-VQA, and what is wrong with damaged files."""

import json
from pathlib import Path

import pytest

from tests.test_index_images import image, index
from v2l.data.manifest import read_annotations
from v2l.errors import UserError
from v2l.io.storage import parquet_metadata
from v2l.pipeline.required_files import missing_paths

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
        {"question_id": "90", "question": "What is it?", "answer": "red", "answers": TEN},
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
        {"question_id": "train/1", "question": "what is it?", "answer": "circle", "answers": ["circle"]},
        {"question_id": "train/3", "question": "is it 0?", "answer": "yes", "answers": ["yes"]},
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
