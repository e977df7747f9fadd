"""What the JSON files of COCO Captions and VQAv2 hold."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, model_validator

from v2l.data.text_files import normal_form, one_line

ANSWERS = 10  # annotators of a question in VQAv2
Line = Annotated[str, AfterValidator(one_line)]
Text = Annotated[str, AfterValidator(normal_form)]


class CocoImage(BaseModel):
    """An image that has captions."""

    id: int
    file_name: str


class CocoCaption(BaseModel):
    """A caption of an image."""

    id: int
    image_id: int
    caption: Line


class CocoCaptionFile(BaseModel):
    """COCO's captions of a split."""

    images: list[CocoImage]
    annotations: list[CocoCaption]


class VQAQuestion(BaseModel):
    """A question of an image."""

    question_id: int
    image_id: int
    question: Annotated[Line, Field(min_length=1)]
    coco_split: str | None = None


class VQAQuestionFile(BaseModel):
    """Questions of a split. What is in the names of its image files is `data_subtype` in VQAv2, and in VQA-CP, whose
    splits share COCO's images, `coco_split` of each question."""

    data_subtype: str | None = None
    questions: list[VQAQuestion]

    @model_validator(mode="before")
    @classmethod
    def _without_header(cls, content: Any) -> Any:
        """VQA-CP's file is the list alone."""
        return {"questions": content} if isinstance(content, list) else content

    @model_validator(mode="after")
    def _images_are_named(self) -> "VQAQuestionFile":
        for place, question in enumerate(self.questions):
            if not (question.coco_split or self.data_subtype):
                raise ValueError(f"neither data_subtype nor questions.{place}.coco_split, which name image files")
        return self

    def image_name(self, question: VQAQuestion) -> str:
        """The file name of a question's image."""
        return f"COCO_{question.coco_split or self.data_subtype}_{question.image_id:012d}.jpg"


class VQAAnswer(BaseModel):
    """What one annotator answered."""

    answer: Text


class VQAAnnotation(BaseModel):
    """All answers to a question, and the commonest."""

    question_id: int
    image_id: int
    multiple_choice_answer: Line
    answers: Annotated[list[VQAAnswer], Field(min_length=ANSWERS, max_length=ANSWERS)]


class VQAAnnotationFile(BaseModel):
    """VQAv2's answers of a split; VQA-CP's file is the list alone."""

    annotations: list[VQAAnnotation]

    @model_validator(mode="before")
    @classmethod
    def _without_header(cls, content: Any) -> Any:
        return {"annotations": content} if isinstance(content, list) else content
