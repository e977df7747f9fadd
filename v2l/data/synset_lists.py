"""Lists of names by WordNet id, in the formats in which they are handed round."""

import csv
import re
from pathlib import Path

from v2l.data.json_files import read_dataset_json
from v2l.data.text_files import read_text
from v2l.errors import UserError

EXPECTED = "lines `wnid name, synonym, ...`, `wnid number name`, `wnid,name`, or JSON {number: [wnid, name]}"
LINE = re.compile(r"(?P<wnid>[^\s,;]+)(?:\s*(?P<separator>[,;])\s*|\s+)(?P<names>.*)")
NUMBERED = re.compile(r"(?P<number>\d+)\s+(?P<name>\S+)")  # map_clsloc.txt of the ImageNet development kit
NUMBER_LAST = re.compile(r"\s\d+$")
QUOTED = re.compile(r"""(["'])((?:(?!\1).)+)\1""")
Names = dict[str, list[str]]
Entries = dict[str, str | list[str]]


def read_synsets(path: Path) -> Names:
    """Synonyms by wnid, the first one first; which format a list has is seen from all of its lines.

    Lines `wnid name, synonym, ...` (synset_words.txt, LOC_synset_mapping.txt, words.txt with tabs), `wnid number name`
    (map_clsloc.txt) or CSV `wnid,name`; or JSON `number: [wnid, name]` (imagenet_class_index.json) or `wnid: name`.
    Underscores become spaces. Raises UserError, where it can with the line's number, for anything else.
    """
    text = read_text(path, EXPECTED, "correct `synsets` in the config")
    if text.lstrip().startswith(("{", "[")):
        return _from_json(path)
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    found = [(number, *_parts(path, number, line)) for number, line in lines]
    numbered = {number: match for number, _, rest in found if (match := NUMBERED.fullmatch(rest))}
    if 2 * len(numbered) > len(found):
        other = [number for number, _, _ in found if number not in numbered]
        if other or len({match["number"] for match in numbered.values()}) < len(numbered):
            which = f", line {other[0]}: no `wnid number name`" if other else ": lines `wnid number name`"
            twice = " as other lines are" if other else " whose numbers are not distinct"
            raise UserError(f"{path}{which}{twice}", EXPECTED, "write the names without numbers, or mend the list")
        found = [(number, wnid, numbered[number]["name"]) for number, wnid, _ in found]
    if len(found) > 1 and all(NUMBER_LAST.search(rest) for _, _, rest in found):
        number, wnid, rest = found[0]
        problem = f"{path}, line {number}: {wnid} is named {rest!r}, and every line ends in a number"
        raise UserError(problem, EXPECTED, "write the names without numbers")
    synsets: Names = {}
    first_line: dict[str, int] = {}
    for number, wnid, rest in found:
        names = [name for part in rest.replace("_", " ").split(",") if (name := part.strip())]
        if not names or names[0].isdecimal():
            found_name = f"the number {names[0]} instead of a name" if names else "no name"
            raise UserError(f"{path}, line {number}: {found_name} for {wnid!r}", EXPECTED, "complete the line")
        if synsets.setdefault(wnid, names) != names:
            problem = f"{path}, line {number}: {wnid} has other names than in line {first_line[wnid]}"
            raise UserError(problem, "each wnid once", "take one of the lines out")
        first_line.setdefault(wnid, number)
    return synsets


def _parts(path: Path, number: int, line: str) -> tuple[str, str]:
    """The wnid of a line, and the rest as a list with commas."""
    match = LINE.fullmatch(line)
    if match is None:
        return line, ""
    if match["separator"] is None:
        quoted = QUOTED.fullmatch(match["names"])
        return match["wnid"], quoted[2] if quoted else match["names"]
    try:
        (fields,) = csv.reader([match["names"]], delimiter=match["separator"], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise UserError(f"{path}, line {number}: {error}", EXPECTED, "mend the line") from None
    return match["wnid"], ",".join(fields)


def _from_json(path: Path) -> Names:
    try:
        entries = read_dataset_json(path, Entries)
    except UserError:
        raise UserError(f"{path} is neither lines nor JSON of that kind", EXPECTED, "use one of these lists") from None
    if all(key.isdecimal() for key in entries):
        pairs = [(value[0], value[1:]) if isinstance(value, list) and value else ("", []) for value in entries.values()]
    else:
        pairs = [(key, value if isinstance(value, list) else value.split(",")) for key, value in entries.items()]
    synsets: Names = {}
    for wnid, texts in pairs:
        names = [name for text in texts if (name := text.replace("_", " ").strip())]
        if not wnid.strip() or not names:
            raise UserError(
                f"{path}: JSON with an entry that has {'no name' if wnid.strip() else 'no wnid'}",
                EXPECTED,
                "use imagenet_class_index.json as distributed",
            )
        if synsets.setdefault(wnid.strip(), names) != names:
            raise UserError(f"{path}: {wnid} has two names", "each wnid once", "take one of the entries out")
    return synsets
