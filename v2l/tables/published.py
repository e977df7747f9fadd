"""Numbers of the paper that have a source (config/published.csv), matched to rows of the tables."""

import csv
from pathlib import Path

from v2l.errors import UserError
from v2l.metrics.rows import TABLE_KEYS

SELECTORS = ("table", "experiment", *dict.fromkeys(key for keys in TABLE_KEYS.values() for key in keys), "metric")
COLUMNS = ("published", "published_source")


class Published:
    """Sourced numbers by selector: a row has a number if it equals every selector column that is not empty."""

    def __init__(self, path: Path):
        """Read `path`. Raises UserError for wrong columns, a value that is no number, or a number without source."""
        self.path = path
        with open(path, newline="") as handle:
            reader = csv.DictReader(handle)
            if set(reader.fieldnames or []) != {*SELECTORS, *COLUMNS}:
                raise UserError(
                    f"{path} has the columns {reader.fieldnames}", f"{[*SELECTORS, *COLUMNS]}", "mend its header"
                )
            self.entries = list(reader)
        for number, entry in enumerate(self.entries, start=2):
            try:
                float(entry["published"])
            except (TypeError, ValueError):
                self._reject(number, f"`published` is {entry['published']!r}", "a number")
            if not entry["published_source"]:
                self._reject(number, "`published_source` is empty", "where the number was read")

    def of(self, row: dict[str, str | int | bool | float | None]) -> dict[str, float | str]:
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

    def _reject(self, number: int, problem: str, expected: str) -> None:
        raise UserError(f"{self.path}, line {number}: {problem}", expected, "mend the line or remove it")


def _matches(entry: dict[str, str], row: dict) -> bool:
    return all(not entry[key] or entry[key] == ("" if row.get(key) is None else str(row[key])) for key in SELECTORS)
