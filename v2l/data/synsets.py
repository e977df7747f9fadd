"""Human-readable class names that are distinct, and those of WordNet ids."""

from collections import Counter
from pathlib import Path

from v2l.data.synset_lists import read_synsets
from v2l.data.text_files import one_line
from v2l.errors import UserError, few


def synset_names(path: Path, wnids: list[str]) -> list[str]:
    """A distinct name for each wnid: its first synonym in the list at `path`.

    Of wnids that share it, each adds its next synonym in parentheses, and those that have none add the wnid if they
    still collide. Raises UserError for a list that cannot be read, and for a wnid that it lacks.
    """
    synsets = read_synsets(path)
    unknown = [wnid for wnid in wnids if wnid not in synsets]
    if unknown:
        listed = next(iter(synsets.items()), None)
        begins = f"it begins with {listed[0]!r} named {listed[1][0][:40]!r}" if listed else "it is empty"
        raise UserError(
            f"{path} has no line for {few(unknown)}; {begins}",
            "a line `wnid name, synonym, ...` for every class folder",
            "complete the file or remove the folders",
        )
    choices = []
    for wnid in wnids:
        first, *others = synsets[wnid]
        choices.append([first, f"{first} ({others[0]})" if others else first, f"{first} ({wnid})"])
    return distinct_names(choices)


def distinct_names(choices: list[list[str]]) -> list[str]:
    """One name per class: its first of three choices, and a later one only while others have the same name.

    Names are on one line and in one normal form, as answers are compared; the first choice that is not empty counts.
    Raises UserError for classes whose names are the same even so, and for one without a name.
    """
    options = [_named([one_line(text) for text in texts]) for texts in choices]
    names = [texts[0] for texts in options]
    for level in range(1, 3):
        count = Counter(names)
        names = [texts[level] if count[name] > 1 else name for name, texts in zip(names, options, strict=True)]
    same = [texts[-1] for name, texts in zip(names, choices, strict=True) if names.count(name) > 1 or not name]
    if same:
        raise UserError(
            f"classes {few([ascii(key) for key in same])} have the same name in Unicode's normal form, or none",
            "a name for every class that no other has",
            "rename or join the folders or entries",
        )
    return names


def _named(texts: list[str]) -> list[str]:
    """Three choices, empty ones replaced by the next that says something."""
    for place in reversed(range(len(texts) - 1)):
        texts[place] = texts[place] or texts[place + 1]
    return texts
