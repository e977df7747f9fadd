"""What the Markdown and the LaTeX view of a table show, as in the paper: methods down, settings or metrics across."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, NamedTuple

from v2l.configuration.baselines import BASELINES
from v2l.configuration.known_metrics import metric
from v2l.tables.differences import Difference
from v2l.tables.row_order import task_rank
from v2l.tables.specification import Table

AVERAGE = "average"
MISSING = "\N{EN DASH}"
SIGNIFICANT = 0.05
BEST_NOTE = "bold: the best of a column, baselines left out"
Heading = tuple[str, ...]  # what stands above a column, a line each


class ShownValue(NamedTuple):
    """A value as text, its 95 % interval where it has one, and what is marked.

    `best` of its column among methods, by the same protocol; `difference` to the table's first method; `row` is what
    it shows, None for an average and for nothing.
    """

    text: str
    interval: str = ""
    best: bool = False
    difference: str = ""
    differs: bool = False
    row: Mapping[str, Any] | None = None


EMPTY = ShownValue(MISSING)


class Line(NamedTuple):
    """A row of a view: the texts of its keys, then its cells."""

    keys: tuple[str, ...]
    cells: list[ShownValue]


@dataclass(frozen=True)
class View:
    """A table for readers, or one of its blocks (`part`): `rows` of metrics files in the table's order, with
    `difference` (or None) to the first method; `metrics` are its metric columns."""

    table: Table
    experiment: str
    rows: list[dict[str, Any]]
    metrics: list[str]
    intervals: bool = True
    part: str = ""

    def parts(self) -> list["View"]:
        """A view of each block in order (tasks as in the table's own order); of a table without blocks itself."""
        if not self.table.block:
            return [self]
        values = list(dict.fromkeys(row[self.table.block] for row in self.rows))
        values.sort(key=lambda value: (task_rank(value), 0) if isinstance(value, str) else (0, value))
        return [
            replace(
                self,
                rows=[row for row in self.rows if row[self.table.block] == value],
                part=setting_text(self.table.block, value),
            )
            for value in values
        ]

    def caption(self) -> str:
        """Title, block, experiment, protocol and number of items."""
        protocols = ", ".join(sorted({row["protocol"] for row in self.rows}))
        counts = sorted({row["n"] for row in self.rows})
        n = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        title = f"{self.table.title}: {self.part}" if self.part else self.table.title
        return f"{title}. Experiment {self.experiment}, protocol {protocols}, n = {n} {self.table.items} per value."

    def key_names(self) -> tuple[str, ...]:
        """Keys that go down. The protocol is one where there are several."""
        several = len({row["protocol"] for row in self.rows}) > 1
        return (*self.table.row_keys, "protocol") if several else self.table.row_keys

    def headings(self) -> list[Heading]:
        """What stands above the columns of cells. A single metric goes without saying where something else does."""
        return [
            setting if setting and len(self.metrics) == 1 else (*setting, metric(name).label)
            for setting, name in self.columns()
        ]

    def lines(self) -> list[Line]:
        """The rows of the view in the table's order."""
        keys, best = self.key_names(), self._best()
        found: dict[tuple, dict[tuple[Heading, str], dict[str, Any]]] = {}
        for row in self.rows:
            found.setdefault(tuple(row[key] for key in keys), {})[self._setting(row), row["metric"]] = row
        lines = []
        for named, rows in found.items():
            cells = {
                column: self._cell(row, row["value"] == best.get((*column, row["protocol"])) and _is_method(row))
                for column, row in rows.items()
            }
            for name in self.metrics if self.table.paper_columns else ():
                cells[self._average(), name] = self._averaged(rows, name)
            lines.append(Line(tuple(map(_key_text, named)), [cells.get(column, EMPTY) for column in self.columns()]))
        return lines

    def notes(self) -> list[str]:
        """The table's own notes, what is marked, and what the rows' notes say, by method: each remark once."""
        methods: dict[str, list[str]] = {}
        for row in self.rows:
            for note in filter(None, row["note"].split("; ")):
                named = methods.setdefault(note, [])
                if row["method"] not in named:
                    named.append(row["method"])
        everyone = list(dict.fromkeys(row["method"] for row in self.rows))
        said = [note if named == everyone else f"{', '.join(named)}: {note}" for note, named in methods.items()]
        cells = [cell for part in self.parts() for line in part.lines() for cell in line.cells]
        marks = [BEST_NOTE] if any(cell.best for cell in cells) else []
        if any(cell.differs for cell in cells):
            marks.append(f"asterisk: differs from {self.reference()} on common items, p below {SIGNIFICANT}")
        return [*self.table.notes, *marks, *said]

    def reference(self) -> str:
        """The method that others are compared with; empty if none is."""
        return next((row["difference"].reference for row in self.rows if row.get("difference")), "")

    def columns(self) -> list[tuple[Heading, str]]:
        """What each column of cells shows: a setting (a text for each key across) and a metric."""
        return [(setting, name) for setting in self._settings() for name in self.metrics]

    def _settings(self) -> list[Heading]:
        """What goes across, in the paper's order; what the paper does not have comes last."""
        paper = self._paper_columns()
        tasks = {self._setting(row): row.get("task") for row in self.rows}
        found = sorted(tasks, key=lambda setting: task_rank(tasks[setting]))
        further = [setting for setting in found if setting not in paper]
        return [*paper, self._average(), *further] if paper else further

    def _paper_columns(self) -> list[Heading]:
        across = self.table.across
        return [self._setting(dict(zip(across, cell, strict=True))) for cell in self.table.paper_columns]

    def _setting(self, row: dict[str, Any]) -> Heading:
        return tuple(setting_text(key, row[key]) for key in self.table.across)

    def _average(self) -> Heading:
        return (AVERAGE, *("" for _ in self.table.across[1:]))

    def _averaged(self, rows: dict[tuple[Heading, str], dict[str, Any]], name: str) -> ShownValue:
        """The mean over the paper's columns, if a row has them all."""
        values = [rows[setting, name]["value"] for setting in self._paper_columns() if (setting, name) in rows]
        full = len(values) == len(self.table.paper_columns) and None not in values
        return ShownValue(number_text(fmean(values), name)) if full else EMPTY

    def _best(self) -> dict[tuple[Heading, str, str], float]:
        """The best value of each column and protocol that has several methods."""
        found: dict[tuple[Heading, str, str], list[float]] = {}
        for row in self.rows:
            if row["value"] is not None and _is_method(row):
                found.setdefault((self._setting(row), row["metric"], row["protocol"]), []).append(row["value"])
        chosen = {column: max if metric(column[1]).better == "higher" else min for column in found}
        return {column: chosen[column](values) for column, values in found.items() if len(values) > 1}

    def _cell(self, row: dict[str, Any], best: bool) -> ShownValue:
        if row["value"] is None:
            return EMPTY._replace(row=row)
        difference: Difference | None = row.get("difference")
        name, interval = row["metric"], ""
        if self.intervals and row["ci_low"] is not None:
            interval = f"[{number_text(row['ci_low'], name)}, {number_text(row['ci_high'], name)}]"
        return ShownValue(
            number_text(row["value"], name),
            interval,
            best,
            difference.text(metric(name).decimals) if difference else "",
            difference is not None and difference.p is not None and difference.p < SIGNIFICANT,
            row,
        )


def same_headings(headings: Sequence[Heading], line: int) -> list[tuple[str, int]]:
    """Texts of one line of headings, each with the number of neighbours that share it and all above it."""
    spans: list[tuple[str, int]] = []
    for number, heading in enumerate(headings):
        if number and headings[number - 1][: line + 1] == heading[: line + 1]:
            spans[-1] = spans[-1][0], spans[-1][1] + 1
        else:
            spans.append((heading[line], 1))
    return spans


def _is_method(row: dict[str, Any]) -> bool:
    return row["method"] not in BASELINES


def number_text(value: float, name: str) -> str:
    """A value of metric `name` with the digits that views show."""
    return f"{value:.{metric(name).decimals}f}"


def setting_text(key: str, value: bool | int | float | str) -> str:
    """A text speaks for itself, a number and a switch need their key."""
    return value if isinstance(value, str) else f"{key.replace('_', ' ')} {_key_text(value)}"


def _key_text(value: bool | int | float | str | None) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return MISSING if value is None else str(value)
