"""Visual question answering from global tokens (paper sections 3.3 and 4.2, table 5)."""

import pyarrow as pa

from v2l.configuration.slices import StageConfig
from v2l.data.manifest import read_annotations
from v2l.io.job_files import Inputs
from v2l.llm.prompts import question_heading
from v2l.tasks import text_answers as text

INSTRUCTION = (
    "Each condition is a list of words that describe a picture. Answer the question about it in a word or two."
)
COLUMNS = [("question_id", pa.string()), ("question", pa.string()), ("answers", pa.list_(pa.string()))]


def prepare(config: StageConfig, inputs: Inputs):
    """Schema, tables and number of questions. An example shows its question's commonest answer.

    Token overlap compares the images' codes and the questions' words together.
    """
    section = config.evaluate_llm.vqa
    task = text.Task("vqa", INSTRUCTION, "\n", section)
    questions = read_annotations(inputs["manifest"], "questions")
    items = [
        text.Item(
            name=f"question {found['question_id']} of {image.image_id}",
            image=image,
            heading=question_heading(image.words, found["question"]),
            answer=found["answer"],
            tokens=frozenset([*image.codes, *found["question"].lower().split()]),
            columns={name: found[name] for name, _ in COLUMNS},
        )
        for image in text.read_images(config, inputs, task)
        for found in questions.get(image.image_id, [])
    ]
    return text.prepare(config, inputs, task, text.draw(task, items, section.questions, config.seed), COLUMNS)
