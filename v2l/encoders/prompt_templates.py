"""Prompt templates: sentences that a vocabulary entry is embedded in."""

from typing import NamedTuple

PLACE = "\0"


class PromptTemplate(NamedTuple):
    """A sentence with one place for a text: what stands before it and what follows."""

    beginning: str
    ending: str

    def __call__(self, text: str) -> str:
        return f"{self.beginning}{text}{self.ending}"


def prompt_templates(templates: str | list[str]) -> list[PromptTemplate]:
    """Functions from a text to a prompt: the 80 ImageNet prompts of CLIP (released) or the given texts with one {}."""
    if templates == "imagenet-80":
        import open_clip  # takes seconds that other templates can spare

        sentences = [template(PLACE) for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
    else:
        sentences = [template.format(PLACE) for template in templates]
    return [PromptTemplate(*sentence.split(PLACE)) for sentence in sentences]
