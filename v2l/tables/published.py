"""Numbers of the paper that have a source (config/published.csv), matched to rows of the tables."""

import csv
import io
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from v2l.configuration.cell_settings import CELL_SETTINGS
from v2l.data.text_files import read_text
from v2l.errors import UserError
from v2l.tables.tables import TABLES

COLUMNS = ("published", "published_source")


def selectors() -> list[str]:
    """Columns that say which rows of which table a number belongs to."""
    keys = dict.fromkeys(key for table in TABLES.values() for key in table.key_columns)
    return ["table", "experiment", *keys, "metric"]


class Published:
    """Sourced numbers by selector: a row has a number if it equals every selector column that is not empty.

    The file need not have the columns of settings that extensions add; without a value they stand for the default.
    """

    def __init__(self, path: Path):
        """Read `path`. Raises UserError for wrong columns, a value that is no number, or a number without source."""
        self.path = path
        reader = csv.DictReader(io.StringIO(read_text(path, "the published numbers")), strict=True)
        expected = [*selectors(), *COLUMNS]
        try:
            if not set(expected) - set(CELL_SETTINGS) <= set(reader.fieldnames or []) <= set(expected):
                raise UserError(f"{path} has the columns {reader.fieldnames}", f"{expected}", "mend its header")
            self.entries = list(reader)
        except csv.Error as error:
            self._reject(reader.line_num, str(error), "a CSV file")
        for number, entry in enumerate(self.entries, start=2):
            if None in entry or None in entry.values():
                self._reject(number, "it has more or fewer fields than the header", "as many in every line")
            if not _is_finite(entry["published"]):
                self._reject(number, f"`published` is {entry['published']!r}", "a number")
            if not entry["published_source"]:
                self._reject(number, "`published_source` is empty", "where the number was read")

    def of(self, row: dict[str, Any]) -> dict[str, float | str]:
        """The `published` columns of a row with `table`, `experiment`, key columns and `metric`; {} if there are none.

        Raises UserError when two entries match.
        """
        found = [entry for entry in self.entries if _matches(entry, row)]
        if len(found) > 1:
            sources = " and ".join(repr(entry["published_source"]) for entry in found)
            raise UserError(f"{self.path} has two numbers for one row: {sources}", "one", "narrow or remove an entry")
        return (
            {"published": float(found[0]["published"]), "published_source": found[0]["published_source"]}
            if found
            else {}
        )

    def _reject(self, number: int, problem: str, expected: str) -> NoReturn:
        raise UserError(f"{self.path}, line {number}: {problem}", expected, "mend the line or remove it")


def _is_finite(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False


def _matches(entry: dict[str, str], row: dict[str, Any]) -> bool:
    return all(("" if row.get(key) is None else str(row[key])) == wanted for key, wanted in _wanted(entry, row))


def _wanted(entry: dict[str, str], row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What the row's columns must hold."""
    for key in selectors():
        if entry.get(key):
            yield key, entry[key]
        elif key in CELL_SETTINGS and key in row:
            yield key, str(CELL_SETTINGS[key].default)
