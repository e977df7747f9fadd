"""Images that come with captions or questions and have no classes: COCO Captions, VQAv2 and easy-VQA."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from v2l.configuration.dataset_entries import CocoCaptionsDataset, EasyVQADataset, QuestionSplit, VQAv2Dataset
from v2l.data.annotation_files import (
    CocoCaptionFile,
    Line,
    VQAAnnotation,
    VQAAnnotationFile,
    VQAQuestion,
    VQAQuestionFile,
)
from v2l.data.json_files import not_as_distributed, read_dataset_json
from v2l.data.layout import Layout, Listed
from v2l.data.text_files import path_below
from v2l.errors import UserError


class CocoCaptionsLayout(Layout[CocoCaptionsDataset]):
    """Every image that a split's JSON lists, with its captions in the file's order."""

    def list_images(self) -> list[Listed]:
        """As the files list them.

        Raises UserError for a file that is missing or not of the format, and for a caption of an image it does not
        list.
        """
        listing: list[Listed] = []
        for split, entry in self.dataset.splits.items():
            path = Path(entry.captions)
            content = read_dataset_json(path, CocoCaptionFile)
            images: dict[int, Listed] = {}
            for image in content.images:
                if image.id in images:
                    raise not_as_distributed(path, f"image {image.id} stands twice in `images`")
                images[image.id] = Listed(f"{entry.images}/{path_below(path, image.file_name)}", "", split)
            for annotation in content.annotations:
                if annotation.image_id not in images:
                    problem = f"caption {annotation.id} is of image {annotation.image_id}, which `images` does not list"
                    raise not_as_distributed(path, problem)
                if annotation.caption:
                    images[annotation.image_id].captions.append(annotation.caption)
            listing += images.values()
        return listing


class VQAv2Layout(Layout[VQAv2Dataset]):
    """Every image that has questions, with them in the file's order, each with its split.

    Splits may share images, as VQA-CP's do; the image itself is of the first that asks about it.
    """

    def list_images(self) -> list[Listed]:
        """As the files list them.

        Raises UserError for a file that is missing or not of the format (an answer list that is not ten long), a
        question without answers or the other way round, one that both files give different images, and one of a
        missing image.
        """
        listing: dict[str, Listed] = {}
        for split, entry in self.dataset.splits.items():
            questions = read_dataset_json(Path(entry.questions), VQAQuestionFile)
            for question, found in _answered(entry, questions):
                name = path_below(Path(entry.questions), questions.image_name(question))
                image_id = f"{entry.images}/{name}"
                if image_id not in listing and not (self.root / image_id).is_file():
                    raise _missing_image(entry.questions, question.question_id, self.root / image_id)
                item = listing.setdefault(image_id, Listed(image_id, "", split))
                item.questions.append(
                    {
                        "question_id": str(question.question_id),
                        "question": question.question,
                        "answer": found.multiple_choice_answer,
                        "answers": [answer.answer for answer in found.answers],
                        "split": split,
                    }
                )
        return list(listing.values())


class EasyVQALayout(Layout[EasyVQADataset]):
    """Images of both splits with their questions."""

    def list_images(self) -> list[Listed]:
        """As the files list them; errors as for VQAv2."""
        listing: list[Listed] = []
        for split in ("train", "test"):
            path = self.root / split / "questions.json"
            images: dict[int, Listed] = {}
            triples = read_dataset_json(path, list[tuple[Line, Line, int]])  # question, answer, image
            for number, (question, answer, image) in enumerate(triples):
                item = images.setdefault(image, Listed(f"{split}/images/{image}.png", "", split))
                if not item.questions and not (self.root / item.image_id).is_file():
                    raise _missing_image(path, number, self.root / item.image_id)
                item.questions.append(
                    {
                        "question_id": f"{split}/{number}",
                        "question": question,
                        "answer": answer,
                        "answers": [answer],
                        "split": split,
                    }
                )
            listing += [images[number] for number in islice(sorted(images), self.dataset.images_per_split)]
        return listing


def _answered(entry: QuestionSplit, questions: VQAQuestionFile) -> Iterator[tuple[VQAQuestion, VQAAnnotation]]:
    """Each question with its answers, checked to be about one image."""
    path = Path(entry.annotations)
    answers: dict[int, VQAAnnotation] = {}
    for found in read_dataset_json(path, VQAAnnotationFile).annotations:
        if answers.setdefault(found.question_id, found) is not found:
            raise not_as_distributed(path, f"question {found.question_id} has answers twice")
    for question in questions.questions:
        answer = answers.pop(question.question_id, None)
        if answer is None:
            problem = f"question {question.question_id} of {entry.questions} has no answers, or occurs twice"
            raise not_as_distributed(path, problem)
        if answer.image_id != question.image_id:
            problem = f"question {question.question_id} is of image {answer.image_id}"
            raise not_as_distributed(path, f"{problem}, in {entry.questions} of image {question.image_id}")
        yield question, answer
    if answers:
        raise not_as_distributed(
            path, f"answers to question {next(iter(answers))}, which {entry.questions} does not ask"
        )


def _missing_image(path: str | Path, question: int, image: Path) -> UserError:
    return UserError(
        f"{path}: question {question} is of image {image}, which does not exist",
        "every image that a question is of",
        "complete the image folder, or correct `root` and `images` in the config",
    )
