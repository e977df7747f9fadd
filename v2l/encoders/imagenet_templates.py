"""Prompt templates: sentences that a vocabulary entry is embedded in."""

from collections.abc import Callable


def prompt_templates(templates: str | list[str]) -> list[Callable[[str], str]]:
    """Functions from a text to a prompt: the 80 ImageNet prompts of CLIP (released) or the given texts with one {}."""
    if templates == "imagenet-80":
        import open_clip  # takes seconds that other templates can spare

        return list(open_clip.OPENAI_IMAGENET_TEMPLATES)
    return [template.format for template in templates]
