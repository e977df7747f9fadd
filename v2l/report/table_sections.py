"""The section of each table: its blocks as in the other views, with links to what stands behind each number."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2l.configuration.known_metrics import metric
from v2l.errors import UserError, printable
from v2l.io.csv_files import plain_text
from v2l.report.answers import place_of
from v2l.report.evidence import Evidence, anchor
from v2l.tables.score_files import score_rows
from v2l.tables.specification import Table
from v2l.tables.tables import TABLES
from v2l.tables.views import Line, View

DIFFERENCE = "difference to "  # how the note of a row begins that compares it with the first method
Row = dict[str, Any]


@dataclass(frozen=True)
class ShownBlock:
    """Rows that are compared: `columns` are a heading and the better direction; `n` is '' if values differ in it."""

    title: str
    keys: list[str]
    columns: list[tuple[str, str]]
    lines: list[Line]
    n: str


@dataclass(frozen=True)
class TableSection:
    """A table for the page; `name` is that of its files, `notes` and `differences` are remarks on its rows."""

    name: str
    title: str
    items: str
    blocks: list[ShownBlock]
    notes: list[str]
    differences: list[str]
    commit: str
    record: str


def table_sections(tables: Iterable[Evidence], scores: Iterable[Evidence], shown: Iterable[str]) -> list[TableSection]:
    """A section for each table. Cells whose row has a `place` link there; places are among `shown`.

    Raises UserError for a table that is damaged or does not belong to the scores.
    """
    measured, places = _measured(scores), set(shown)
    sections = []
    for found in tables:
        table = TABLES[found.job["table"]]
        rows = [_row(table, found.path, row, measured, places) for row in read_table(found.path)]
        view = View(table, "", rows, table.shown_metrics({row["metric"] for row in rows}))
        sections.append(
            TableSection(
                name=table.name,
                title=table.title,
                items=table.items,
                blocks=[_block(part) for part in view.parts()],
                notes=view.notes(),
                differences=[f"{_named(table, row)}: {row['compared']}" for row in rows if row["compared"]],
                commit=found.record["commit"],
                record=anchor("record", found.path),
            )
        )
    return sections


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a table's CSV. Raises UserError for a file that is none."""
    try:
        with open(path, newline="") as file:
            rows = [{name: plain_text(value) for name, value in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, AttributeError, TypeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error})", "a table of make_tables", "make it again") from None
    if not rows or not {"protocol", "metric", "n", "note"} <= set(rows[0]):
        raise UserError(f"{path} holds no measurements", "columns protocol, metric, n and note", "make it again")
    return rows


def row_key(table: Table, row: Mapping[str, object]) -> tuple[str, ...]:
    """What tells a measurement from all others, in a CSV and in a file of scores alike."""
    columns = (*table.key_columns, "protocol", "metric")
    return tuple("" if row.get(name) is None else printable(str(row[name])) for name in columns)


def _measured(scores: Iterable[Evidence]) -> dict[tuple[str, tuple[str, ...]], Row]:
    """(table, `row_key`) -> the row of a file of scores, with the `place` of what it was computed from."""
    found = {}
    for one in scores:
        for row in score_rows(one.path):
            for table in TABLES.values():
                if row["metric"] in table.metric_columns:
                    found[table.name, row_key(table, row)] = row | {"place": place_of(one, row)}
    return found


def _row(table: Table, path: Path, row: dict[str, str], measured: Mapping, places: set[str]) -> Row:
    """A row of a CSV with values as the scores have them, its `difference` in words apart from its other notes."""
    known = measured.get((table.name, row_key(table, row)))
    if known is None or not set(table.key_columns) <= set(known):
        remedy = f"delete it and run `snakemake {path}` again"
        raise UserError(f"{path} has a row that no file of scores has: {row}", "the scores that it was made of", remedy)
    notes = [note for note in row["note"].split("; ") if note]
    return known | {
        "note": "; ".join(note for note in notes if not note.startswith(DIFFERENCE)),
        "compared": "; ".join(note for note in notes if note.startswith(DIFFERENCE)),
        "published": row.get("published", ""),
        "place": known["place"] if known["place"] in places else "",
    }


def _block(view: View) -> ShownBlock:
    counts = {str(row["n"]) for row in view.rows}
    headings = [", ".join(filter(None, heading)) for heading in view.headings()]
    better: list[str] = [metric(name).better for _, name in view.columns()]
    keys = [key.replace("_", " ") for key in view.key_names()]
    columns = list(zip(headings, better, strict=True))
    return ShownBlock(view.part, keys, columns, view.lines(), counts.pop() if len(counts) == 1 else "")


def _named(table: Table, row: Row) -> str:
    said = [str(row[name]) for name in table.key_columns if row[name] is not None]
    return ", ".join([*said, metric(row["metric"]).label])
