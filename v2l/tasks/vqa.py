"""Visual question answering from global tokens (paper sections 3.3 and 4.2, table 5)."""

from dataclasses import replace

import pyarrow as pa

from v2l.data.manifest import read_annotations
from v2l.llm.prompts import question_heading
from v2l.tasks.text_answers import DescribedImage, TextAnswering, TextItem


class VQATask(TextAnswering):
    """An example shows its question's commonest answer. A question's split is its own, whatever the image's is.

    Token overlap compares the images' codes and the questions' words together.
    """

    name, marks = "vqa", "\n"
    instruction = (
        "Each condition is a list of words that describe a picture. Answer the question about it in a word or two."
    )
    columns = [("question_id", pa.string()), ("question", pa.string()), ("answers", pa.list_(pa.string()))]

    def items(self, images: list[DescribedImage]) -> list[TextItem]:
        questions = read_annotations(self.inputs["manifest"], "questions")
        found = [
            (replace(image, split=asked["split"] or image.split), asked)
            for image in images
            for asked in questions.get(image.image_id, [])
        ]
        return [
            TextItem(
                name=f"question {asked['question_id']} of {image.image_id}",
                image=image,
                heading=question_heading(image.words, asked["question"]),
                answer=asked["answer"],
                tokens=frozenset([*image.codes, *asked["question"].lower().split()]),
                columns={column: asked[column] for column, _ in self.columns},
            )
            for image, asked in found
        ]

    @property
    def most_queries(self) -> int:
        return self.config.evaluate_llm.vqa.questions
