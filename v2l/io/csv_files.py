"""CSV files that people open in spreadsheets: a text in them is shown, and never taken for a formula."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from v2l.errors import printable
from v2l.io.atomic import atomic_path

FORMULA = re.compile(r"'*[=+\-@]")  # what spreadsheets begin a formula with; apostrophes keep the rule reversible

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write `rows` (column -> value; None and missing values are empty) below the header `columns`, in UTF-8.

    Numbers are as Python prints them. A text goes through `cell_text`, and so does the header.
    """
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(cell_text, columns))
        for row in rows:
            values = (row.get(name) for name in columns)
            writer.writerow(cell_text(value) if isinstance(value, str) else value for value in values)


def cell_text(text: str) -> str:
    """`text` in one line of characters that print, others escaped (`printable`), and with an apostrophe before it if a
    spreadsheet would compute it: if it begins with =, +, - or @ and is no number.

    So does a text that begins with apostrophes and one of these, for `plain_text` to tell them apart.
    """
    shown = printable(text)
    return f"'{shown}" if FORMULA.match(shown) and not NUMBER.fullmatch(shown) else shown


def plain_text(cell: str) -> str:
    """The printable text that `cell_text` made `cell` of."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
