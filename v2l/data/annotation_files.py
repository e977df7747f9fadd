"""The JSON files of COCO Captions, VQAv2 and easy-VQA, checked as they are read."""

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from v2l.errors import UserError

ANSWERS = 10  # annotators of a question in VQAv2
T = TypeVar("T")


class CocoImage(BaseModel):
    """An image that has captions."""

    id: int
    file_name: str


class CocoCaption(BaseModel):
    """A caption of an image."""

    id: int
    image_id: int
    caption: str


class CocoCaptionFile(BaseModel):
    """COCO's captions of a split."""

    images: list[CocoImage]
    annotations: list[CocoCaption]


class VQAQuestion(BaseModel):
    """A question of an image."""

    question_id: int
    image_id: int
    question: str


class VQAQuestionFile(BaseModel):
    """VQAv2's questions of a split; `data_subtype` is in the names of its image files."""

    data_subtype: str
    questions: list[VQAQuestion]


class VQAAnswer(BaseModel):
    """What one annotator answered."""

    answer: str


class VQAAnnotation(BaseModel):
    """All answers to a question, and the commonest."""

    question_id: int
    image_id: int
    multiple_choice_answer: str
    answers: Annotated[list[VQAAnswer], Field(min_length=ANSWERS, max_length=ANSWERS)]


class VQAAnnotationFile(BaseModel):
    """VQAv2's answers of a split."""

    annotations: list[VQAAnnotation]


def read_json(path: Path, content: type[T]) -> T:
    """The file's `content`. Raises UserError with the place if it cannot be read or is something else."""
    try:
        return TypeAdapter(content).validate_json(path.read_bytes())
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror})"
        raise UserError(problem, "the data set's JSON file", "correct its path in the config") from None
    except ValidationError as error:
        first = error.errors()[0]
        entry = ".".join(map(str, first["loc"]))
        raise damaged(path, f"{entry}: {first['msg']}" if entry else first["msg"]) from None


def damaged(path: Path, problem: str) -> UserError:
    """The error of a file that is not as distributed."""
    return UserError(f"{path}: {problem}", "the data set's file as distributed", "restore it, or mend the entry")
