"""Image captioning from global tokens (paper sections 3.3 and 4.2, table 5)."""

import pyarrow as pa

from v2l.configuration.slices import StageConfig
from v2l.data.manifest import read_annotations
from v2l.io.job_files import Inputs
from v2l.llm.prompts import answer_of, caption_heading
from v2l.tasks import text_answers as text

INSTRUCTION = "Each input is a list of words that describe a picture. The output is its caption."
COLUMNS = [("references", pa.list_(pa.string()))]


def prepare(config: StageConfig, inputs: Inputs):
    """Schema, tables and number of captions. An example shows its image's first caption up to the full stop."""
    section = config.evaluate_llm.captioning
    task = text.Task("captioning", INSTRUCTION, ".\n", section)
    captions = read_annotations(inputs["manifest"], "captions")
    items = [
        text.Item(
            name=f"the caption of {image.image_id}",
            image=image,
            heading=caption_heading(image.words),
            answer=answer_of(captions[image.image_id][0], task.marks) + ".",
            tokens=frozenset(image.codes),
            columns={"references": captions[image.image_id]},
        )
        for image in text.read_images(config, inputs, task)
        if image.image_id in captions
    ]
    return text.prepare(config, inputs, task, text.draw(task, items, section.images, config.seed), COLUMNS)
