"""Image captioning from global tokens (paper sections 3.3 and 4.2, table 5)."""

import pyarrow as pa

from v2l.data.manifest import read_annotations
from v2l.llm.prompts import answer_of, caption_heading
from v2l.tasks.text_answers import DescribedImage, TextAnswering, TextItem


class CaptioningTask(TextAnswering):
    """An example shows its image's first caption up to the full stop."""

    name, marks = "captioning", ".\n"
    instruction = "Each input is a list of words that describe a picture. The output is its caption."
    columns = [("references", pa.list_(pa.string()))]

    def items(self, images: list[DescribedImage]) -> list[TextItem]:
        captions = read_annotations(self.inputs["manifest"], "captions")
        return [
            TextItem(
                name=f"the caption of {image.image_id}",
                image=image,
                heading=caption_heading(image.words),
                answer=answer_of(captions[image.image_id][0], self.marks) + ".",
                tokens=frozenset(image.codes),
                columns={"references": captions[image.image_id]},
            )
            for image in images
            if image.image_id in captions
        ]

    @property
    def most_queries(self) -> int:
        return self.config.evaluate_llm.captioning.images
