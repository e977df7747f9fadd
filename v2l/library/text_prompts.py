"""Prompts about pictures for any language model, from the words of `ImageCodes`, and its answers read back.

A picture is a list of words, nearest first; the paper shows 5 or 21 of them. The texts are those of the pipeline.
"""

from collections.abc import Sequence

from v2l.errors import UserError
from v2l.llm.prompts import (
    answer_of,
    caption_heading,
    classification_prompt,
    join_words,
    question_heading,
    text_prompt,
)
from v2l.tasks.captioning import CaptioningTask
from v2l.tasks.vqa import VQATask

Words = Sequence[str]


def few_shot_prompt(
    examples: Sequence[tuple[Words, str]],
    query: Words,
    *,
    class_names: Sequence[str] | None = None,
    induction: bool = True,
    repeats: int = 0,
) -> str:
    """The text that asks for the class of a picture (paper section 4.2, table 1).

    `examples`: words and class name of the pictures shown, as a block that stands there `repeats` + 1 times.
    `induction`: a sentence before them lists `class_names` (default: those of the examples). The class is what
    `read_answer` finds in what the model writes. Raises UserError without examples or with words that are no list.
    """
    shown = [(_joined(words, f"examples[{place}]"), name) for place, (words, name) in enumerate(_some(examples))]
    names = list(class_names) if class_names is not None else sorted({name for _, name in shown})
    return classification_prompt(names, shown, _joined(query, "query"), induction, repeats)


def caption_prompt(examples: Sequence[tuple[Words, str]], query: Words) -> str:
    """The text that asks for a picture's caption (table 5); `examples`: words and caption of the pictures shown.

    The caption is `read_answer(output, marks=".\\n")`: up to the first full stop. Raises as `few_shot_prompt` does.
    """
    marks = CaptioningTask.marks
    shown = [
        (caption_heading(_joined(words, f"examples[{place}]")), answer_of(caption, marks) + ".")
        for place, (words, caption) in enumerate(_some(examples))
    ]
    return text_prompt(CaptioningTask.instruction, shown, caption_heading(_joined(query, "query")))


def question_prompt(examples: Sequence[tuple[Words, str, str]], query: Words, question: str) -> str:
    """The text that asks a question about a picture (table 5); `examples`: words, question and answer of each shown.

    The answer is what `read_answer` finds. Raises as `few_shot_prompt` does.
    """
    shown = [
        (question_heading(_joined(words, f"examples[{place}]"), asked), answer)
        for place, (words, asked, answer) in enumerate(_some(examples))
    ]
    return text_prompt(VQATask.instruction, shown, question_heading(_joined(query, "query"), question))


def read_answer(output: str, marks: str = "\n") -> str:
    """What a generated text answers: everything up to the first of the characters `marks`, stripped."""
    return answer_of(output, marks)


def _some(examples: Sequence) -> Sequence:
    if not len(examples):
        raise UserError("`examples` is empty", "at least one example", "show the model what is asked of it")
    return examples


def _joined(words: Words, name: str) -> str:
    if isinstance(words, str) or not words or not all(isinstance(word, str) for word in words):
        raise UserError(f"the words of `{name}` are {words!r}", "a list of words", "pass some of `codes.words[image]`")
    return join_words(words)
