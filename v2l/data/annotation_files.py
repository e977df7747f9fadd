"""What the JSON files of COCO Captions and VQAv2 hold."""

from typing import Annotated

from pydantic import BaseModel, Field

ANSWERS = 10  # annotators of a question in VQAv2


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
