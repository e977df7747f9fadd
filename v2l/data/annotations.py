"""Images that come with captions or questions: COCO Captions, VQAv2 and easy-VQA, checked as they are read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from v2l.configuration.dataset_entries import CocoCaptionsDataset, EasyVQADataset, QuestionSplit, VQAv2Dataset
from v2l.errors import UserError

ANSWERS = 10  # annotators of a question in VQAv2
T = TypeVar("T")


@dataclass(frozen=True)
class Listed:
    """A file that should be an image: its path below the data set's root, class key, split (empty: to be drawn).

    `questions` are the manifest's structs (`v2l.data.manifest.QUESTION`) as dicts.
    """

    image_id: str
    key: str
    split: str
    captions: list[str] = field(default_factory=list, hash=False)
    questions: list[dict[str, Any]] = field(default_factory=list, hash=False)


class _Image(BaseModel):
    id: int
    file_name: str


class _Caption(BaseModel):
    id: int
    image_id: int
    caption: str


class _Captions(BaseModel):
    images: list[_Image]
    annotations: list[_Caption]


class _Question(BaseModel):
    question_id: int
    image_id: int
    question: str


class _Questions(BaseModel):
    data_subtype: str
    questions: list[_Question]


class _Answer(BaseModel):
    answer: str


class _Answers(BaseModel):
    question_id: int
    image_id: int
    multiple_choice_answer: str
    answers: Annotated[list[_Answer], Field(min_length=ANSWERS, max_length=ANSWERS)]


class _Annotations(BaseModel):
    annotations: list[_Answers]


def list_coco_captions(dataset: CocoCaptionsDataset, root: Path) -> list[Listed]:
    """Every image that a split's JSON lists, with its captions in the file's order.

    Raises UserError for a file that is missing or not of the format, and for a caption of an image it does not list.
    """
    listing = []
    for split, entry in dataset.splits.items():
        path = Path(entry.captions)
        content = _read(path, _Captions)
        images = {image.id: Listed(f"{entry.images}/{image.file_name}", "", split) for image in content.images}
        for annotation in content.annotations:
            if annotation.image_id not in images:
                problem = f"caption {annotation.id} is of image {annotation.image_id}, which `images` does not list"
                raise _damaged(path, problem)
            if caption := " ".join(annotation.caption.split()):
                images[annotation.image_id].captions.append(caption)
        listing += images.values()
    return listing


def list_vqa_v2(dataset: VQAv2Dataset, root: Path) -> list[Listed]:
    """Every image that has questions, with them in the file's order.

    Raises UserError for a file that is missing or not of the format (an answer list that is not ten long), a question
    without answers or the other way round, one that both files give different images, and one of a missing image.
    """
    listing: dict[str, Listed] = {}
    for split, entry in dataset.splits.items():
        questions = _read(Path(entry.questions), _Questions)
        for question, found in _answered(entry, questions):
            image_id = f"{entry.images}/COCO_{questions.data_subtype}_{question.image_id:012d}.jpg"
            if image_id not in listing and not (root / image_id).is_file():
                raise _missing_image(entry.questions, question.question_id, root / image_id)
            item = listing.setdefault(image_id, Listed(image_id, "", split))
            item.questions.append(
                {
                    "question_id": str(question.question_id),
                    "question": question.question.strip(),
                    "answer": found.multiple_choice_answer,
                    "answers": [answer.answer for answer in found.answers],
                }
            )
    return list(listing.values())


def list_easy_vqa(dataset: EasyVQADataset, root: Path) -> list[Listed]:
    """Images of both splits with their questions; errors as for VQAv2."""
    listing = []
    for split in ("train", "test"):
        path = root / split / "questions.json"
        images: dict[int, Listed] = {}
        triples = _read(path, list[tuple[str, str, int]])  # question, answer, image
        for number, (question, answer, image) in enumerate(triples):
            item = images.setdefault(image, Listed(f"{split}/images/{image}.png", "", split))
            if not item.questions and not (root / item.image_id).is_file():
                raise _missing_image(path, number, root / item.image_id)
            item.questions.append(
                {"question_id": f"{split}/{number}", "question": question, "answer": answer, "answers": [answer]}
            )
        listing += [images[number] for number in islice(sorted(images), dataset.images_per_split)]
    return listing


def _answered(entry: QuestionSplit, questions: _Questions) -> Iterator[tuple[_Question, _Answers]]:
    """Each question with its answers, checked to be about one image."""
    path = Path(entry.annotations)
    answers = {annotation.question_id: annotation for annotation in _read(path, _Annotations).annotations}
    for question in questions.questions:
        found = answers.pop(question.question_id, None)
        if found is None:
            raise _damaged(
                path, f"question {question.question_id} of {entry.questions} has no answers, or occurs twice"
            )
        if found.image_id != question.image_id:
            problem = f"question {question.question_id} is of image {found.image_id}"
            raise _damaged(path, f"{problem}, in {entry.questions} of image {question.image_id}")
        yield question, found
    if answers:
        raise _damaged(path, f"answers to question {next(iter(answers))}, which {entry.questions} does not ask")


def _read(path: Path, content: type[T]) -> T:
    try:
        return TypeAdapter(content).validate_json(path.read_bytes())
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        raise UserError(problem, "the data set's JSON file", "correct its path in the config") from None
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(map(str, first["loc"]))
        raise _damaged(path, f"{entry}: {first['msg']}" if entry else first["msg"]) from None


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(f"{path}: {problem}", "the data set's file as distributed", "restore it, or mend the entry")


def _missing_image(path: str | Path, question: int, image: Path) -> UserError:
    return UserError(
        f"{path}: question {question} is of image {image}, which does not exist",
        "every image that a question is of",
        "complete the image folder, or correct `root` and `images` in the config",
    )
