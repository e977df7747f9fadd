"""The V2L Tokenizer paper (CVPR 2024) as one pipeline, a module for each stage and a package for each concept.

As a library: `from v2l import V2LTokenizer` (docs/tutorial.md). What programs use is imported when it is asked for, so
that stages which need no network start without one.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from v2l.library.image_codes import ImageCodes
    from v2l.library.restoration_prompts import ImageRestoration
    from v2l.library.text_prompts import caption_prompt, few_shot_prompt, question_prompt, read_answer
    from v2l.library.v2l_tokenizer import V2LTokenizer

PUBLIC = {
    "ImageCodes": "v2l.library.image_codes",
    "ImageRestoration": "v2l.library.restoration_prompts",
    "V2LTokenizer": "v2l.library.v2l_tokenizer",
    "caption_prompt": "v2l.library.text_prompts",
    "few_shot_prompt": "v2l.library.text_prompts",
    "question_prompt": "v2l.library.text_prompts",
    "read_answer": "v2l.library.text_prompts",
}
__all__ = [
    "ImageCodes",
    "ImageRestoration",
    "V2LTokenizer",
    "caption_prompt",
    "few_shot_prompt",
    "question_prompt",
    "read_answer",
]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *PUBLIC])
