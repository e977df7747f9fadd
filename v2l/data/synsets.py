"""Human-readable class names that are distinct, and those of WordNet ids."""

from pathlib import Path

from v2l.errors import UserError, few


def synset_names(path: Path, wnids: list[str]) -> list[str]:
    """A distinct name for each wnid: its first synonym in the list at `path`.

    Of wnids that share it, each adds its next synonym in parentheses, and those that have none add the wnid if they
    still collide. Raises UserError for a list that cannot be read, and for a wnid that it lacks.
    """
    synsets = _read_synsets(path)
    unknown = [wnid for wnid in wnids if wnid not in synsets]
    if unknown:
        problem = f"{path} has no line for {few(unknown)}"
        raise UserError(
            problem,
            "a line `wnid name, synonym, ...` for every class folder",
            "complete the file or remove the folders",
        )
    choices = []
    for wnid in wnids:
        first, *others = synsets[wnid]
        choices.append([first, f"{first} ({others[0]})" if others else first, f"{first} ({wnid})"])
    return distinct_names(choices)


def distinct_names(choices: list[list[str]]) -> list[str]:
    """One name per class: its first of three choices, and a later one only while others have the same name."""
    names = [options[0] for options in choices]
    for level in range(1, 3):
        shared = {name for name in names if names.count(name) > 1}
        names = [options[level] if name in shared else name for name, options in zip(names, choices, strict=True)]
    return names


def _read_synsets(path: Path) -> dict[str, list[str]]:
    """Synonyms by wnid from lines `wnid name, synonym, ...`."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror})", "the synset list", "correct `synsets` in the config"
        ) from None
    synsets = {}
    for number, line in enumerate(lines, 1):
        wnid, _, names = line.partition(" ")
        if line.strip():
            synsets[wnid] = [name.strip() for name in names.split(",") if name.strip()]
            if not synsets[wnid]:
                raise UserError(
                    f"{path}, line {number}: no name for {wnid!r}", "`wnid name, synonym, ...`", "complete the line"
                )
    return synsets
