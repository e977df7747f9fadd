"""Few-shot episodes from files: open-ended and real-name mini-ImageNet (JSON), and the released code's lists (CSV)."""

import json
import re
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np

from v2l.data.text_files import one_line, read_text
from v2l.errors import UserError
from v2l.tasks.episodes import Episode


def read_episodes(
    path: Path, image_id: np.ndarray, class_name: np.ndarray, ways: int, inner_shots: int
) -> list[Episode]:
    """Every episode of a file, in its order; images are positions in `image_id`, the sample's.

    `.json`: a list of objects `image_1`, `caption_1` and so on, `question`, `question_image`, `answer` (Tsimpoukelli
    et al. 2021); a class name is what a caption adds to the end of the question. `.csv`: a line per episode, image
    paths separated by commas, the last one the query (released); names are the images' own.

    Raises UserError, naming file, entry and reason: unreadable or malformed file, an image that the sample lacks or has
    several of, a wrong number of images or captions, answers that are not one class name, classes that are not `ways`
    of `inner_shots` images each, a query among its examples.
    """
    if not path.is_file():
        raise UserError(
            f"`evaluate_llm.classification.episode_files`: {path} does not exist",
            f"the episodes of {ways} ways and {inner_shots} inner shots",
            "put it there, correct the pattern, or take this cell out of `evaluate_llm.classification.grid`",
        )
    index = _Index(image_id)
    read = {".json": _json_entries, ".csv": _csv_entries}.get(path.suffix)
    if read is None:
        raise UserError(f"{path} ends in {path.suffix!r}", "a .json or .csv file of episodes", "correct the pattern")
    episodes = []
    for number, (name, entry) in enumerate(read(path)):
        try:
            images, names, answer = entry() if callable(entry) else entry
            rows = [index.row(image) for image in images]
            names = [str(class_name[row]) for row in rows] if names is None else names
            episodes.append(_episode(number, rows, names, answer, ways, inner_shots))
        except ValueError as error:
            raise UserError(
                f"{path}, {name}: {error}",
                f"an episode of {ways} ways and {inner_shots} inner shots over images of `samples.classification`",
                "mend the file, or complete the data set and run index_images again",
            ) from None
    if not episodes:
        raise UserError(f"{path} holds no episodes", "at least one", "mend the file")
    return episodes


class _Index:
    """Images of the sample by the end of their path: whole, or any number of its last parts."""

    def __init__(self, image_id: np.ndarray):
        self._rows: dict[str, list[int]] = {}
        for row, name in enumerate(image_id):
            parts = PurePosixPath(name).parts
            for start in range(len(parts)):
                self._rows.setdefault("/".join(parts[start:]), []).append(row)

    def row(self, name: str) -> int:
        """Row of the image that a file calls `name`; if no path ends so, of the one with this file name."""
        rows = self._rows.get(name) or self._rows.get(PurePosixPath(name).name, [])
        if not rows:
            raise ValueError(f"image {name} is not among the images of the sample")
        if len(rows) > 1:
            raise ValueError(f"image {name} fits {len(rows)} images of the sample")
        return rows[0]


def _episode(
    number: int, rows: list[int], names: list[str], answer: str | None, ways: int, inner_shots: int
) -> Episode:
    """An episode of `rows`, the last of which is the query; `answer` is its class, None: the last of `names`."""
    *support, query = rows
    wanted = ways * inner_shots
    if len(support) != wanted:
        raise ValueError(f"it shows {len(support)} images before the query, {ways} x {inner_shots} = {wanted} are due")
    target, shown = (names[-1], names[:-1]) if answer is None else (answer, names)
    counts = Counter(shown)
    if set(counts.values()) != {inner_shots} or len(counts) != ways:
        found = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
        raise ValueError(f"its classes have these numbers of images: {found}")
    if target not in counts:
        raise ValueError(f"its answer {target!r} is none of its classes ({', '.join(sorted(counts))})")
    if query in support:
        raise ValueError("its query is among its examples, which would show the answer")
    class_names = sorted(counts)
    return Episode(number, class_names, support, [class_names.index(name) for name in shown], query, target)


def _json_entries(path: Path):
    try:
        entries = json.loads(read_text(path, "a list of episodes"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error})", "a list of episodes", "mend the file") from None
    if not isinstance(entries, list):
        raise UserError(f"{path} holds {type(entries).__name__}, no list", "a list of episodes", "mend the file")
    return [(f"episode {number}", lambda entry=entry: _from_json(entry)) for number, entry in enumerate(entries)]


def _from_json(entry: object) -> tuple[list[str], list[str], str]:
    if not isinstance(entry, dict):
        raise ValueError(f"it is {type(entry).__name__}, no object")
    lacking = [key for key in ("image_1", "caption_1", "question", "question_image", "answer") if key not in entry]
    if lacking:
        raise ValueError(f"it lacks {', '.join(lacking)}")
    images, captions = (
        {key: entry[key] for key in entry if re.fullmatch(rf"{kind}_\d+", key)} for kind in ("image", "caption")
    )
    count = len(images)
    if set(images) != {f"image_{n}" for n in range(1, count + 1)} or len(captions) != count:
        raise ValueError(f"it has {count} images and {len(captions)} captions, numbered from 1 they are due in pairs")
    answers = entry["answer"] if isinstance(entry["answer"], list) else [entry["answer"]]
    if len(answers) != 1:
        raise ValueError(f"its answer is a list of {len(answers)}, one is due")
    texts = [*(entry[f"image_{n}"] for n in range(1, count + 1)), entry["question_image"], *answers]
    texts += [entry["question"], *captions.values()]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError("an image, caption, question or answer is no text")
    lead = re.split(r"[?.!]\s*", one_line(entry["question"]))[-1]  # "What is this? This is a": captions begin so
    try:
        names = [_name(entry[f"caption_{n}"], lead) for n in range(1, count + 1)]
    except KeyError as error:
        raise ValueError(f"it lacks {error.args[0]}") from None
    return texts[: count + 1], names, _name(answers[0], lead)


def _name(caption: str, lead: str) -> str:
    """What a caption says after `lead`, which may end in "a" where the caption has "an"."""
    text = one_line(caption)
    if lead:
        stem = re.sub(r"\s+an?$", "", lead)
        text = re.sub(rf"^{re.escape(stem)}\s+(an?\s+)?", "", text) if stem != lead else text.removeprefix(lead)
    return text.strip(" .")


def _csv_entries(path: Path):
    entries = []
    for number, line in enumerate(read_text(path, "a line per episode").split("\n"), start=1):
        images = [name.strip() for name in line.split(",") if name.strip()]
        if images:
            entries.append((f"line {number}", (images, None, None)))
    return entries
