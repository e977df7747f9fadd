"""Accuracy of answers to visual questions (table 5): VQA's answer normalisation and its rule for ten annotators.

Own code, because the official evaluation is no package; the normalisation follows its published rules and tables.
"""

import re

import numpy as np

from v2l.configuration.slices import StageConfig
from v2l.configuration.sources import Source
from v2l.data.text_files import one_line
from v2l.errors import UserError
from v2l.io.job_files import Inputs
from v2l.io.storage import parquet_metadata, read_parquet
from v2l.metrics.rows import Measurement, joined
from v2l.metrics.share import Share
from v2l.metrics.source_names import names_of, note_of

AGREEING = 3  # annotators that make an answer fully right
ARTICLES = {"a", "an", "the"}
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(NUMBERS)} | {"none": "0"}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
THOUSANDS = re.compile(r"\d,\d")
PERIOD = re.compile(r"\.(?!\d)")
CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""
# What is written with one apostrophe too few; the last entry stands like this in the official table.
APOSTROPHES = {
    word[:place] + word[place + 1 :]: word
    for word in CONTRACTIONS.split()
    for place, letter in enumerate(word)
    if letter == "'"
} | {"somebody'd": "somebodyd"}
SINGLE_NOTE = "one answer per question: plain accuracy after VQA's answer normalisation"


def normalise(answer: str) -> str:
    """An answer as VQA compares it, and in Unicode's form NFC.

    Lower case, no articles, digits for number words up to ten, apostrophes mended.
    Punctuation next to a space, or in an answer with a number like 1,000, is removed; other becomes a space.
    """
    answer = one_line(answer)
    normalised = answer
    for mark in PUNCTUATION:
        removed = f"{mark} " in answer or f" {mark}" in answer or THOUSANDS.search(answer)
        normalised = normalised.replace(mark, "" if removed else " ")
    words = (DIGITS.get(word, word) for word in PERIOD.sub("", normalised).lower().split())
    return " ".join(APOSTROPHES.get(word, word) for word in words if word not in ARTICLES)


def vqa_accuracy(answer: str, references: list[str]) -> float:
    """min(matches / 3, 1), averaged over all ways to leave one of the annotators out; of a single one, 0 or 1.

    Everything is normalised first. (The official script leaves answers as they are where all annotators agree.)
    """
    answer, references = normalise(answer), [normalise(reference) for reference in references]
    if len(references) == 1:
        return float(answer == references[0])
    matches = references.count(answer)
    shares = [min((matches - (reference == answer)) / AGREEING, 1.0) for reference in references]
    return sum(shares) / len(shares)


def measure_vqa(config: StageConfig, source: Source, inputs: Inputs, share: Share) -> list[Measurement]:
    """`vqa_accuracy` over the questions. Inputs: predictions. Raises UserError when there are none."""
    predictions = inputs["predictions"]
    records = read_parquet(predictions, columns=["question_id", "answer", "answers"]).to_pylist()
    if not records:
        raise UserError(
            f"{predictions} holds no predictions", "at least one question", "check `evaluate_llm.vqa` and run again"
        )
    single = all(len(record["answers"]) == 1 for record in records)
    note = note_of(source, parquet_metadata(predictions)["tokenizer_note"])
    return [
        Measurement(
            keys=names_of(config.job["tokenizer"], source) | {"task": source.task},
            metric="vqa_accuracy",
            protocol=source.protocol,
            items=[record["question_id"] for record in records],
            values=np.array([vqa_accuracy(record["answer"], record["answers"]) for record in records]),
            note=joined(note, SINGLE_NOTE if single else ""),
        )
    ]
